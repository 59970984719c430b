"""`python -m bench soak`: the main job under an even load for long; do its memory, files, lag or state grow?"""

import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
from kafka import TopicPartition
from rich import box
from rich.console import Console
from rich.table import Table

from bench.chart import OURS, PEERS, require_drawing
from bench.encode import machine
from bench.pipeline import (
    Contender,
    Options,
    broker,
    bundle_for,
    catch_up,
    cores,
    flink,
    read_records,
    settings_for,
    wait,
)
from flink_jobs.brokers.clients import open_consumer, open_producer
from flink_jobs.brokers.errors import reachable
from flink_jobs.brokers.topics import create_topics
from flink_jobs.demo.stream import trigger_of
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from flink_jobs.simulation.simulate import simulate
from udfs.bundle import Bundle
from udfs.errors import ShopstreamError

#: Of the capacity; seconds between two looks.
LOAD, LOOK_S = 0.5, 5.0
#: State outlives an event by ten minutes instead of an hour, on disk: half an hour sees it come and go three times.
STATE = ("checkpoint.backend=rocksdb", "dedup.ttl=10 min", "session.gap=5 min")
#: Seconds between two sendings.
TICK_S = 0.01
#: Whose memory and files are looked at: Flink's two processes, and all that the second one has started.
KINDS = ("job manager", "task manager", "Python workers")
STATE_NAME = "state in the last checkpoint, MB"
#: The colours of KINDS, which differ in lightness, too.
COLOURS = (PEERS, "#000000", OURS)


@dataclass(frozen=True)
class Look:
    """A row of the JSON: seconds since the first answer, events sent until then, and events beyond the group's offsets.

    lag: what the last checkpoint has not covered; state_mb: its size. mb and files: resident memory and open file
    handles by KINDS.
    """

    at_s: float
    events: int
    lag: int
    state_mb: float
    mb: tuple[float, ...]
    files: tuple[int, ...]


@dataclass(frozen=True)
class Soaked:
    """What came of it: rates in events/s, answers that are missing or doubled at the end, and all looks."""

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

    capacity: in events/s, None: what `ours-rocksdb` does catching up. assignments: settings of our job, `name=value`
    each, which outweigh STATE.
    ShopstreamError when an answer is missing or doubled at the end.
    """
    if chart is not None:
        require_drawing(chart)
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    options = Options(only=("ours-rocksdb",), bundles=bundles, assignments=tuple(assignments))
    with TemporaryDirectory(prefix="shopstream-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if capacity is None:
            _, (ours, *_) = catch_up(replace(options, events=100_000), folder, notes)
            if ours.events_per_s is None:
                raise ShopstreamError("catching up took too short to tell the capacity; give --capacity")
            capacity = ours.events_per_s
        bundle = bundle_for(options, folder, notes)
        own = folder / "soak"
        with broker(own) as address:
            given = [*settings_for(address, bundle), f"home={own}", *STATE, *assignments]
            settings = load_settings(None, given)
            create_topics(settings, cores())
            with reachable(settings), flink("ours", own, given) as contender:
                soaked = soak(settings, bundle, contender, capacity, minutes * 60, notes)
    if chart is not None:
        draw(soaked, chart)
    if as_json:
        sys.stdout.write(json.dumps(asdict(soaked), indent=1) + "\n")
    else:
        show(soaked, Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140))
    if soaked.missing or soaked.doubled:
        raise ShopstreamError(f"{soaked.missing:,} answers are missing and {soaked.doubled:,} came twice")


def soak(
    settings: Settings,
    bundle: Bundle,
    contender: Contender,
    capacity: float,
    seconds: float,
    notes: Console,
) -> Soaked:
    """Send events at LOAD × capacity for so long, from the first answer on; contender: the job on its cluster."""
    records = simulate(bundle.items().table.to_pylist(), shoppers=2000, bad_share=0)
    keys, rate = settings.keys(), capacity * LOAD
    due = set[str]()
    sent = 0
    looks: list[Look] = []
    producer, client = open_producer(settings), open_consumer(settings, group_id=settings.kafka.group)

    def send(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            record = next(records)
            producer.send(settings.topics.clickstream, key=record.key, value=record.value)
            if (trigger := trigger_of(settings, keys, record)) is not None:
                due.add(trigger)
        sent += max(count, 0)

    def lag() -> int:
        ends = client.end_offsets(events_in)
        return sum(end - (client.committed(place) or 0) for place, end in ends.items())

    try:
        events_in, answers_out = (
            [TopicPartition(topic, number) for number in client.partitions_for_topic(topic) or ()]
            for topic in (settings.topics.clickstream, settings.topics.recommendations)
        )
        send(round(rate))
        wait(lambda: any(client.end_offsets(answers_out).values()), contender.check, "first answer")
        wait(lambda: contender.state_mb() is not None, contender.check, "first checkpoint")
        begun, before = time.monotonic(), sent
        while (passed := time.monotonic() - begun) < seconds:
            send(int(passed * rate) - (sent - before))
            if passed >= len(looks) * LOOK_S:
                contender.check()
                mb, files = zip(*_usage(contender.roots), strict=True)
                looks.append(Look(round(passed, 1), sent, lag(), contender.state_mb() or 0.0, mb, files))
                if len(looks) % 12 == 1:
                    notes.print(f"{passed / 60:.0f} min: {looks[-1]}", markup=False)
            time.sleep(TICK_S)
        producer.flush()
        wait(lambda: lag() == 0, contender.check, "last answer")
        time.sleep(3 * settings.checkpoint_ms() / 1000)  # its transaction is committed after the offsets
    finally:
        client.close()
        producer.close()
    digests, answers = read_records(settings)
    missing, doubled = len(due - digests.keys()), answers - len(digests)
    return Soaked(round(capacity, 1), round(rate, 1), seconds, answers, missing, doubled, tuple(looks))


def _usage(roots: Sequence[int]) -> list[tuple[float, int]]:
    """MB resident and open files, by KINDS."""
    job_manager, task_manager = (psutil.Process(pid) for pid in roots)
    groups = [[job_manager], [task_manager], task_manager.children(recursive=True)]
    found = []
    for group in groups:
        mb, files = 0.0, 0
        for process in group:
            with suppress(psutil.NoSuchProcess):
                mb, files = mb + process.memory_info().rss / 1e6, files + process.num_fds()
        found.append((round(mb, 1), files))
    return found


# --- what is said of it -----------------------------------------------------------------------------------------------


def series(looks: Sequence[Look]) -> dict[str, list[float]]:
    """What was looked at, by name, a value a look."""
    found: dict[str, list[float]] = {}
    for place, kind in enumerate(KINDS):
        found[f"{kind}, MB"] = [look.mb[place] for look in looks]
        found[f"{kind}, open files"] = [float(look.files[place]) for look in looks]
    found["lag, events"] = [float(look.lag) for look in looks]
    return found | {STATE_NAME: [look.state_mb for look in looks]}


def growth(looks: Sequence[Look], values: Sequence[float]) -> float | None:
    """Growth an hour: the slope of a straight line through the looks of the second half; None for less than three."""
    half = len(looks) // 2
    if len(looks) - half < 3:
        return None
    hours = np.array([look.at_s for look in looks[half:]]) / 3600
    return float(np.polyfit(hours, values[half:], 1)[0])


def show(soaked: Soaked, console: Console) -> None:
    """A table for people, and the machine."""
    minutes = soaked.seconds / 60
    title = f"{soaked.rate:,.0f} events/s for {minutes:,.0f} min, {LOAD:.0%} of the capacity of {soaked.capacity:,.0f}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("", "at first", "at the end", "most", "growth an hour, second half"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name, values in series(soaked.looks).items():
        slope = growth(soaked.looks, values)
        digits = 1 if name == STATE_NAME else 0
        figures = [f"{value:,.{digits}f}" for value in (values[0], values[-1], max(values))]
        table.add_row(name, *figures, "" if slope is None else f"{slope:+,.{digits}f}")
    console.print(table)
    console.print(
        f"{soaked.answers:,} answers, {soaked.missing} missing, {soaked.doubled} doubled; {', '.join(STATE)}; machine: "
        f"{machine()}, shared with the broker and the sender",
        markup=False,
    )


def draw(soaked: Soaked, file: Path) -> None:
    """Memory, open files, lag and state over the minutes; the same looks give the same bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    minutes = [look.at_s / 60 for look in soaked.looks]
    found = series(soaked.looks)
    with mpl.rc_context({"svg.hashsalt": "shopstream", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(6.4, 7.2), layout="constrained")
        panels = figure.subplots(4, sharex=True)
        titles = ("MB", "open files", "lag, events", STATE_NAME)
        for axes, what in zip(panels, titles, strict=True):
            for kind, colour in zip(KINDS, COLOURS, strict=True):
                if (name := f"{kind}, {what}") in found:
                    axes.plot(minutes, found[name], color=colour, label=kind, linewidth=1)
            if what in found:
                axes.plot(minutes, found[what], color=OURS, linewidth=1)
            axes.set_title(what if what != "MB" else "resident memory, MB", loc="left", fontsize=9)
            axes.set_ylim(bottom=0)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].legend(frameon=False, fontsize=8)
        panels[-1].set_xlabel(f"minutes at {soaked.rate:,.0f} events/s, {LOAD:.0%} of the capacity")
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=160)
