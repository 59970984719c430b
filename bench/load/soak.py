"""`python -m bench soak`: our job under a steady load for a long time; do its memory, files, lag or state grow?"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
from kafka import TopicPartition
from rich import box
from rich.console import Console
from rich.table import Table

from bench.chart import OURS, PEERS, drawing, require_drawing
from bench.environment import cores, machine
from bench.output import figure, print_json, progress_console, table_console
from bench.pipeline.contenders import Running, flink
from bench.pipeline.measure import read_records, wait
from bench.pipeline.prepare import broker, bundle_for, settings_for
from bench.pipeline.run import Options, catch_up
from flink_jobs.brokers.clients import open_consumer, open_producer
from flink_jobs.brokers.errors import reachable
from flink_jobs.brokers.topics import create_topics
from flink_jobs.demo.stream import trigger_of
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from flink_jobs.simulation.simulate import simulate
from udfs.bundles.bundle import Bundle
from udfs.core.errors import ShopstreamError

#: The load, as a share of the capacity.
LOAD = 0.5
#: Events on which the capacity is measured.
CAPACITY_EVENTS = 100_000
#: Shoppers of the simulated shop.
SHOPPERS = 2000
#: Seconds between two looks.
LOOK_S = 5.0
#: Seconds between two sendings.
TICK_S = 0.01
#: State outlives an event by ten minutes instead of an hour, on disk: half an hour sees it come and go three times.
STATE = ("checkpoint.backend=rocksdb", "dedup.ttl=10 min", "session.gap=5 min")
#: The processes whose memory and files are watched: Flink's two, and all children of the second.
PROCESSES = ("job manager", "task manager", "Python workers")
STATE_NAME = "state in the last checkpoint, MB"
#: The colours of PROCESSES; they differ in lightness too.
COLOURS = (PEERS, "#000000", OURS)


@dataclass(frozen=True)
class Look:
    """One look at the job, as in the JSON: seconds since the first answer, events sent so far.

    lag: events beyond the group's committed offsets, which are those of the last checkpoint; state_mb: its size. mb and
    files: resident memory and open file handles of PROCESSES.
    """

    at_s: float
    events: int
    lag: int
    state_mb: float
    mb: tuple[float, ...]
    files: tuple[int, ...]


@dataclass(frozen=True)
class Soaked:
    """The result: rates in events/s, answers at the end, those missing or doubled, and all looks."""

    capacity: float
    rate: float
    seconds: float
    answers: int
    missing: int
    doubled: int
    looks: tuple[Look, ...]


def run_soak(
    minutes: float,
    capacity: float | None,
    bundles: Path | None,
    assignments: Sequence[str],
    chart: Path | None,
    *,
    as_json: bool,
) -> None:
    """Measure, draw, and print a table or the JSON of Soaked.

    capacity: in events/s; None: the rate of `ours-rocksdb` catching up. assignments: settings of our job, `name=value`
    each; they override STATE. Raises ShopstreamError if an answer is missing or doubled at the end.
    """
    if chart is not None:
        require_drawing(chart)
    progress = progress_console()
    options = Options(CAPACITY_EVENTS, only=("ours-rocksdb",), bundles=bundles, assignments=tuple(assignments))
    with TemporaryDirectory(prefix="shopstream-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if capacity is None:
            _, (ours, *_) = catch_up(options, folder, progress)
            if ours.events_per_s is None:
                raise ShopstreamError("catching up took too short to measure the capacity; give --capacity")
            capacity = ours.events_per_s
        bundle = bundle_for(bundles, SHOPPERS, folder, progress)
        own = folder / "soak"
        with broker(own) as address:
            all_assignments = [*settings_for(address, bundle), f"home={own}", *STATE, *assignments]
            settings = load_settings(None, all_assignments)
            create_topics(settings, cores())
            with reachable(settings), flink("ours", own, all_assignments) as contender:
                soaked = soak(settings, bundle, contender, capacity, minutes * 60, progress)
    if chart is not None:
        draw(soaked, chart)
    if as_json:
        print_json(asdict(soaked))
    else:
        show(soaked, table_console())
    if soaked.missing or soaked.doubled:
        raise ShopstreamError(f"{soaked.missing:,} answers are missing and {soaked.doubled:,} are doubled")


def soak(
    settings: Settings, bundle: Bundle, contender: Running, capacity: float, seconds: float, progress: Console
) -> Soaked:
    """Send events at LOAD × capacity until `seconds` after the first answer. contender: the job on its cluster."""
    stream = simulate(bundle.items().table.to_pylist(), shoppers=SHOPPERS, bad_share=0)
    keys = settings.keys()
    rate = capacity * LOAD
    due = set[str]()
    sent = 0
    looks: list[Look] = []
    sender = open_producer(settings)
    client = open_consumer(settings, group_id=settings.kafka.group)

    def send(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            record = next(stream)
            sender.send(settings.topics.clickstream, key=record.key, value=record.value)
            if (answer := trigger_of(settings, keys, record)) is not None:
                due.add(answer)
        sent += max(count, 0)

    def lag() -> int:
        ends = client.end_offsets(events_in)
        return sum(end - (client.committed(partition) or 0) for partition, end in ends.items())

    try:
        events_in, answers_out = (
            [TopicPartition(topic, number) for number in client.partitions_for_topic(topic) or ()]
            for topic in (settings.topics.clickstream, settings.topics.recommendations)
        )
        send(round(rate))
        wait(lambda: any(client.end_offsets(answers_out).values()), contender.check, "first answer")
        wait(lambda: contender.state_mb() is not None, contender.check, "first checkpoint")
        started = time.monotonic()
        sent_before = sent
        while (elapsed := time.monotonic() - started) < seconds:
            send(int(elapsed * rate) - (sent - sent_before))
            if elapsed >= len(looks) * LOOK_S:
                contender.check()
                mb, files = zip(*_usage(contender.roots), strict=True)
                looks.append(Look(round(elapsed, 1), sent, lag(), contender.state_mb() or 0.0, mb, files))
                if len(looks) % 12 == 1:
                    progress.print(f"{elapsed / 60:.0f} min: {looks[-1]}", markup=False)
            time.sleep(TICK_S)
        sender.flush()
        wait(lambda: lag() == 0, contender.check, "last answer")
        time.sleep(3 * settings.checkpoint_ms() / 1000)  # the transaction is committed after the offsets
    finally:
        client.close()
        sender.close()
    digests, answers = read_records(settings)
    missing = len(due - digests.keys())
    return Soaked(round(capacity, 1), round(rate, 1), seconds, answers, missing, answers - len(digests), tuple(looks))


def _usage(roots: Sequence[int]) -> list[tuple[float, int]]:
    """Resident memory in MB and open files of PROCESSES."""
    job_manager, task_manager = (psutil.Process(pid) for pid in roots)
    groups = [[job_manager], [task_manager], task_manager.children(recursive=True)]
    usage = []
    for group in groups:
        mb = 0.0
        files = 0
        for process in group:
            with suppress(psutil.NoSuchProcess):
                mb += process.memory_info().rss / 1e6
                files += process.num_fds()
        usage.append((round(mb, 1), files))
    return usage


def series(looks: Sequence[Look]) -> dict[str, list[float]]:
    """The quantities that are watched, by name, one value per look."""
    values: dict[str, list[float]] = {}
    for number, process in enumerate(PROCESSES):
        values[f"{process}, MB"] = [look.mb[number] for look in looks]
        values[f"{process}, open files"] = [float(look.files[number]) for look in looks]
    values["lag, events"] = [float(look.lag) for look in looks]
    return values | {STATE_NAME: [look.state_mb for look in looks]}


def growth(looks: Sequence[Look], values: Sequence[float]) -> float | None:
    """Growth per hour: the slope of a straight line through the second half of the looks; None for less than three."""
    half = len(looks) // 2
    if len(looks) - half < 3:
        return None
    hours = np.array([look.at_s for look in looks[half:]]) / 3600
    return float(np.polyfit(hours, values[half:], 1)[0])


def show(soaked: Soaked, console: Console) -> None:
    """Print a table, and the machine."""
    minutes = soaked.seconds / 60
    title = f"{soaked.rate:,.0f} events/s for {minutes:,.0f} min, {LOAD:.0%} of the capacity of {soaked.capacity:,.0f}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("", "at first", "at the end", "most", "growth per hour, second half"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name, values in series(soaked.looks).items():
        slope = growth(soaked.looks, values)
        digits = 1 if name == STATE_NAME else 0
        figures = [figure(value, digits) for value in (values[0], values[-1], max(values))]
        table.add_row(name, *figures, "" if slope is None else f"{slope:+,.{digits}f}")
    console.print(table)
    console.print(
        f"{soaked.answers:,} answers, {soaked.missing} missing, {soaked.doubled} doubled; {', '.join(STATE)}; machine: "
        f"{machine()}, shared with the broker and the sender",
        markup=False,
    )


def draw(soaked: Soaked, file: Path) -> None:
    """Draw memory, open files, lag and state over time; the same looks give the same bytes."""
    minutes = [look.at_s / 60 for look in soaked.looks]
    values = series(soaked.looks)
    with drawing(file, 6.4, 7.2) as chart:
        panels = chart.subplots(4, sharex=True)
        titles = ("MB", "open files", "lag, events", STATE_NAME)
        for axes, title in zip(panels, titles, strict=True):
            for process, colour in zip(PROCESSES, COLOURS, strict=True):
                if (name := f"{process}, {title}") in values:
                    axes.plot(minutes, values[name], color=colour, label=process, linewidth=1)
            if title in values:
                axes.plot(minutes, values[title], color=OURS, linewidth=1)
            axes.set_title(title if title != "MB" else "resident memory, MB", loc="left", fontsize=9)
            axes.set_ylim(bottom=0)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].legend(frameon=False, fontsize=8)
        panels[-1].set_xlabel(f"minutes at {soaked.rate:,.0f} events/s, {LOAD:.0%} of the capacity")
