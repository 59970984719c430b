"""`python -m bench pipeline --latency`: from the append of an event in Kafka until its recommendation is readable."""

import gc
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from kafka.admin import NewTopic
from rich import box
from rich.console import Console
from rich.table import Table

from bench.environment import cores
from bench.output import figure, print_json, progress_console, require_known, table_console
from bench.pipeline.contenders import flink
from bench.pipeline.measure import recommendation_id
from bench.pipeline.prepare import broker, bundle_for, settings_for, shopper_count
from bench.pipeline.run import Options, catch_up
from flink_jobs.brokers.clients import open_admin
from flink_jobs.brokers.errors import reachable
from flink_jobs.brokers.reading import end_offsets
from flink_jobs.brokers.topics import create_topics
from flink_jobs.demo.stream import trigger_of
from flink_jobs.settings.flink import CHECKPOINT_MS, RARE_CHECKPOINT_MS
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from flink_jobs.simulation.records import Record
from flink_jobs.simulation.simulate import simulate
from udfs.bundles.bundle import Bundle
from udfs.core.errors import ShopstreamError

#: Loads, as shares of the capacity.
LOADS = (0.25, 0.5, 0.8)
#: Shoppers of the simulated shop.
SHOPPERS = 2000
#: Seconds to wait for the first answer.
FIRST_ANSWER_S = 300.0
#: Seconds to wait for the last answer, in addition to a checkpoint interval.
LAST_ANSWER_S = 30.0
#: Seconds between two sendings.
TICK_S = 0.002
#: Isolation levels, and whether a reader at that level sees committed records only.
ISOLATIONS = {"read_committed": True, "read_uncommitted": False}


@dataclass(frozen=True)
class Mode:
    """Settings of the job: its guarantee, its checkpoint interval, and whether state changes go to a log."""

    guarantee: str
    checkpoint_ms: int
    changelog: bool


#: At-least-once answers without waiting for a checkpoint.
MODES = {
    "at-least-once": Mode("at-least-once", RARE_CHECKPOINT_MS, changelog=False),
    "at-least-once-changelog": Mode("at-least-once", RARE_CHECKPOINT_MS, changelog=True),
    "200ms": Mode("exactly-once", 200, changelog=False),
    "200ms-changelog": Mode("exactly-once", 200, changelog=True),
    "1s": Mode("exactly-once", CHECKPOINT_MS, changelog=False),
    "1s-changelog": Mode("exactly-once", CHECKPOINT_MS, changelog=True),
    "10s": Mode("exactly-once", 10_000, changelog=False),
}


@dataclass(frozen=True)
class Latency:
    """The answers at one load, as in the JSON; load: share of the capacity; events_per_s: as sent."""

    guarantee: str
    checkpoint_interval_ms: int
    changelog: bool
    load: float
    events_per_s: float
    isolation: str
    answers: int
    missing: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Reader(threading.Thread):
    """Reads the recommendations as they arrive. arrived: the time of arrival, epoch ms, by recommendation id.

    It uses librdkafka, as the processor time of measuring is lost to the job (docs/performance.md says how much).
    """

    def __init__(self, settings: Settings, committed: bool) -> None:
        super().__init__(daemon=True)
        self.arrived: dict[str, float] = {}
        self._stopped = threading.Event()
        isolation = "read_committed" if committed else "read_uncommitted"
        self._consumer = Consumer(
            _client(settings) | {"group.id": "latency", "enable.auto.commit": False, "isolation.level": isolation}
        )
        partitions = range(len(end_offsets(settings, settings.topics.recommendations)))
        self._consumer.assign([TopicPartition(settings.topics.recommendations, number, 0) for number in partitions])

    def run(self) -> None:
        """Read until `stop`."""
        while not self._stopped.is_set():
            message = self._consumer.poll(0.1)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            now = time.time() * 1000
            self.arrived.setdefault(recommendation_id(message.value()), now)
        self._consumer.close()

    def stop(self) -> None:
        """Stop reading."""
        self._stopped.set()
        self.join()

    def wait(self, due: set[str], seconds: float) -> None:
        """Wait until everything due has arrived, or until the time is up."""
        deadline = time.monotonic() + seconds
        while not due <= self.arrived.keys() and time.monotonic() < deadline:
            time.sleep(0.05)


def _client(settings: Settings) -> dict[str, str]:
    """Settings of librdkafka for the benchmark's own broker."""
    return {"bootstrap.servers": settings.kafka.bootstrap}


def run_latency(options: Options, capacity: float | None, seconds: float, *, as_json: bool) -> None:
    """Measure, and print a table or a JSON list; raise ShopstreamError for what a user can fix.

    options.only: names of MODES; empty: all. capacity: in events/s; None: the rate of `ours` catching up with the given
    settings. seconds: per load.
    """
    require_known(options.only, tuple(MODES), "modes")
    progress = progress_console()
    with TemporaryDirectory(prefix="shopstream-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if capacity is None:
            _, (ours, *_) = catch_up(replace(options, only=("ours",)), folder, progress)
            capacity = ours.events_per_s
            if capacity is None:
                raise ShopstreamError("catching up took too short to measure the capacity; raise --events")
        bundle = bundle_for(options.bundles, shopper_count(options.events), folder, progress)
        with broker(folder / "latency") as address:
            base = [*settings_for(address, bundle), *options.assignments]
            rows = measure_latency(base, options.only or tuple(MODES), bundle, capacity, seconds, folder, progress)
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        show(rows, table_console())


def measure_latency(
    base: list[str],
    modes: Sequence[str],
    bundle: Bundle,
    capacity: float,
    seconds: float,
    folder: Path,
    progress: Console,
) -> list[Latency]:
    """Return a row per mode, load and isolation level; capacity in events/s, seconds per load."""
    rows: list[Latency] = []
    for name in modes:
        mode = MODES[name]
        prefix = f"latency-{name}"
        own = folder / prefix
        own.mkdir()
        assignments = [*base, f"home={own}", f"kafka.group={prefix}", f"sink.transactional_id_prefix={prefix}"]
        assignments += [f"topics.clickstream={prefix}.in", f"topics.recommendations={prefix}.out"]
        assignments += [f"sink.guarantee={mode.guarantee}", f"checkpoint.interval={mode.checkpoint_ms} ms"]
        assignments += [f"checkpoint.changelog={str(mode.changelog).lower()}"]
        settings = load_settings(None, assignments)
        _create_timed_topic(settings)
        progress.print(f"latency: {name}, a checkpoint every {mode.checkpoint_ms} ms", markup=False)
        with reachable(settings), flink("ours", own, assignments):
            rows += _loads(settings, bundle, capacity, seconds, progress)
    return rows


def _create_timed_topic(settings: Settings) -> None:
    """Create `clickstream` with records that carry the time of their append, then the other topics."""
    with reachable(settings):
        client = open_admin(settings)
        timed = {"message.timestamp.type": "LogAppendTime"}
        client.create_topics([NewTopic(settings.topics.clickstream, cores(), 1, topic_configs=timed)])
        client.close()
    create_topics(settings, cores())


def _loads(settings: Settings, bundle: Bundle, capacity: float, seconds: float, progress: Console) -> Iterator[Latency]:
    """Put one load after the other on a running job, after as long a warm-up at half of the capacity."""
    stream = simulate(bundle.items().table.to_pylist(), shoppers=SHOPPERS, bad_share=0)
    # Without transactions nothing is uncommitted: a second reader would only take processor time from the job.
    isolations = ISOLATIONS if settings.sink.guarantee == "exactly-once" else {"read_committed": True}
    readers = {name: Reader(settings, committed) for name, committed in isolations.items()}
    sender = Producer(_client(settings) | {"partitioner": "murmur2_random"})  # the partitioner of kafka-python
    interval_ms = settings.checkpoint_ms()
    try:
        for reader in readers.values():
            reader.start()
        warm_up = send_events(settings, sender, stream, capacity / 2, seconds)
        readers["read_committed"].wait(set(warm_up), FIRST_ANSWER_S)
        if not warm_up.keys() <= readers["read_committed"].arrived.keys():
            raise ShopstreamError(f"the job did not answer its first events within {FIRST_ANSWER_S:.0f} s")
        for load in LOADS:
            appended = send_events(settings, sender, stream, capacity * load, seconds)
            for isolation, reader in readers.items():
                reader.wait(set(appended), LAST_ANSWER_S + interval_ms / 1000)
                times = [reader.arrived[key] - at for key, at in appended.items() if key in reader.arrived]
                p50, p95, p99, longest = (
                    [round(float(value), 1) for value in np.percentile(times, [50, 95, 99, 100])]
                    if times
                    else [None] * 4
                )
                progress.print(f"  {load:.0%} {isolation}: p50 {p50} ms, p99 {p99} ms", markup=False)
                yield Latency(
                    guarantee=settings.sink.guarantee,
                    checkpoint_interval_ms=interval_ms,
                    changelog=settings.checkpoint.changelog,
                    load=load,
                    events_per_s=round(capacity * load, 1),
                    isolation=isolation,
                    answers=len(times),
                    missing=len(appended) - len(times),
                    p50_ms=p50,
                    p95_ms=p95,
                    p99_ms=p99,
                    max_ms=longest,
                )
    finally:
        for reader in readers.values():
            reader.stop()


def send_events(
    settings: Settings, sender: Producer, stream: Iterator[Record], rate: float, seconds: float
) -> dict[str, float]:
    """Send events at a rate, in events/s, for some seconds.

    Returns when Kafka appended each trigger, epoch ms, by the id of its recommendation. Repeats are no triggers.
    """
    keys = settings.keys()
    # Made in advance, while the job does not need the processor.
    records = [(record, trigger_of(settings, keys, record)) for record in islice(stream, int(rate * seconds))]
    gc.freeze()  # the garbage collector would halt the readers to scan all these objects
    appended: dict[str, float] = {}
    topic = settings.topics.clickstream

    def on_delivery(answer: str, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise KafkaException(error)
        appended.setdefault(answer, float(message.timestamp()[1]))

    started = time.monotonic()
    sent = 0
    while sent < len(records):
        due = min(int((time.monotonic() - started) * rate), len(records))
        for record, answer in records[sent:due]:
            callback = {} if answer is None else {"on_delivery": partial(on_delivery, answer)}
            sender.produce(topic, record.value, record.key, **callback)
        sent = due
        sender.poll(0)
        time.sleep(TICK_S)
    if left := sender.flush(LAST_ANSWER_S):
        raise ShopstreamError(f"Kafka did not take {left} events within {LAST_ANSWER_S:.0f} s")
    return appended


def show(rows: list[Latency], console: Console) -> None:
    """Print a table."""
    table = Table(title="event appended → recommendation readable, ms", title_justify="left", box=box.SIMPLE_HEAD)
    headings = "guarantee checkpoints changelog load events/s isolation p50 p95 p99 max missing"
    for heading in headings.split():
        table.add_column(heading, justify="left" if heading in ("guarantee", "isolation") else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.guarantee,
            f"{row.checkpoint_interval_ms:,} ms",
            "yes" if row.changelog else "",
            f"{row.load:.0%}",
            figure(row.events_per_s),
            row.isolation,
            *(figure(value) for value in (row.p50_ms, row.p95_ms, row.p99_ms, row.max_ms)),
            figure(row.missing),
        )
    console.print(table)
