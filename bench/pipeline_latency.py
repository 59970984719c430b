"""`python -m bench pipeline --latency`: from an event's append in Kafka until its recommendation can be read."""

import gc
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from kafka.admin import NewTopic
from rich import box
from rich.console import Console
from rich.table import Table

from bench.pipeline import ID, Options, broker, bundle_for, catch_up, cores, flink, settings_for
from flink_jobs.brokers.clients import open_admin
from flink_jobs.brokers.errors import reachable
from flink_jobs.brokers.reading import end_offsets
from flink_jobs.brokers.topics import create_topics
from flink_jobs.settings.flink import CHECKPOINT_MS, RARE_CHECKPOINT_MS
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from flink_jobs.simulation.records import Record
from flink_jobs.simulation.simulate import simulate
from udfs.bundle import Bundle
from udfs.contracts import ClickstreamEvent
from udfs.errors import ShopstreamError

LOADS = (0.25, 0.5, 0.8)
#: Guarantee, checkpoint interval in ms, and whether changes of state go to a log, by name. At-least-once waits for no
#: checkpoint.
WAYS = {
    "at-least-once": ("at-least-once", RARE_CHECKPOINT_MS, False),
    "at-least-once-changelog": ("at-least-once", RARE_CHECKPOINT_MS, True),
    "200ms": ("exactly-once", 200, False),
    "200ms-changelog": ("exactly-once", 200, True),
    "1s": ("exactly-once", CHECKPOINT_MS, False),
    "1s-changelog": ("exactly-once", CHECKPOINT_MS, True),
    "10s": ("exactly-once", 10_000, False),
}
#: Seconds for the first answer, and for the last one beyond a checkpoint interval; how often events are sent.
START_S, LAST_S, TICK_S = 300.0, 30.0, 0.002
ISOLATIONS = {"read_committed": True, "read_uncommitted": False}


@dataclass(frozen=True)
class Latency:
    """A row of the JSON: milliseconds over the answers of one load, a share of the capacity; events_per_s as sent."""

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
    """Reads a topic as it grows: when each recommendation came, epoch ms, by its id.

    By librdkafka: what the measuring takes of the processor is the job's (docs/performance.md says how much).
    """

    def __init__(self, settings: Settings, committed: bool) -> None:
        super().__init__(daemon=True)
        self.came: dict[str, float] = {}
        self._ended = threading.Event()
        isolation = "read_committed" if committed else "read_uncommitted"
        self._consumer = Consumer(
            _client(settings) | {"group.id": "latency", "enable.auto.commit": False, "isolation.level": isolation}
        )
        parts = range(len(end_offsets(settings, settings.topics.recommendations)))
        self._consumer.assign([TopicPartition(settings.topics.recommendations, part, 0) for part in parts])

    def run(self) -> None:
        """Until `end`."""
        while not self._ended.is_set():
            message = self._consumer.poll(0.1)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            now, value = time.time() * 1000, message.value()
            self.came.setdefault(value[len(ID) : value.index(b'"', len(ID))].decode(), now)
        self._consumer.close()

    def end(self) -> None:
        """Stop reading."""
        self._ended.set()
        self.join()

    def wait(self, due: set[str], seconds: float) -> None:
        """Until all that is due has come, or so many seconds have passed."""
        deadline = time.monotonic() + seconds
        while not due <= self.came.keys() and time.monotonic() < deadline:
            time.sleep(0.05)


def _client(settings: Settings) -> dict[str, str]:
    """librdkafka's settings of a broker of the bench's own."""
    return {"bootstrap.servers": settings.kafka.bootstrap}


def run_latency(options: Options, capacity: float | None, seconds: float, *, as_json: bool) -> None:
    """Measure, and print a table or a JSON list.

    options.only: names of WAYS, none: all. capacity: in events/s, None: what `ours` does catching up, with the settings
    that were given.
    """
    if unknown := set(options.only) - set(WAYS):
        raise ShopstreamError(f"no such way: {', '.join(sorted(unknown))}; there are {', '.join(WAYS)}")
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    with TemporaryDirectory(prefix="shopstream-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if capacity is None:
            _, (ours, *_) = catch_up(replace(options, only=("ours",)), folder, notes)
            capacity = ours.events_per_s
            if capacity is None:
                raise ShopstreamError("catching up took too short to tell the capacity; raise --events")
        bundle = bundle_for(options, folder, notes)
        with broker(folder / "latency") as address:
            base = [*settings_for(address, bundle), *options.assignments]
            rows = measure_latency(base, options.only or tuple(WAYS), bundle, capacity, seconds, folder, notes)
    if as_json:
        sys.stdout.write(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    else:
        show_latency(rows, Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140))


def measure_latency(
    base: list[str], ways: Sequence[str], bundle: Bundle, capacity: float, seconds: float, folder: Path, notes: Console
) -> list[Latency]:
    """Rows for each of `ways`, load and isolation; capacity in events/s, seconds for each load."""
    rows: list[Latency] = []
    for way in ways:
        guarantee, interval, changelog = WAYS[way]
        name = f"latency-{way}"
        own = folder / name
        own.mkdir()
        assignments = [*base, f"home={own}", f"kafka.group={name}", f"sink.transactional_id_prefix={name}"]
        assignments += [f"topics.clickstream={name}.in", f"topics.recommendations={name}.out"]
        assignments += [f"sink.guarantee={guarantee}", f"checkpoint.interval={interval} ms"]
        assignments += [f"checkpoint.changelog={str(changelog).lower()}"]
        settings = load_settings(None, assignments)
        _create_timed_topic(settings)
        notes.print(f"latency: {way}, checkpoints each {interval} ms", markup=False)
        with reachable(settings), flink("ours", own, assignments):
            rows += _loads(settings, bundle, capacity, seconds, notes)
    return rows


def _create_timed_topic(settings: Settings) -> None:
    """`clickstream` whose records carry the time of their append; then the other topics."""
    with reachable(settings):
        admin = open_admin(settings)
        timed = {"message.timestamp.type": "LogAppendTime"}
        admin.create_topics([NewTopic(settings.topics.clickstream, cores(), 1, topic_configs=timed)])
        admin.close()
    create_topics(settings, cores())


def _loads(settings: Settings, bundle: Bundle, capacity: float, seconds: float, notes: Console) -> Iterator[Latency]:
    """One load after the other on a job that runs; before them as long at half of the capacity, to warm up."""
    events = simulate(bundle.items().table.to_pylist(), shoppers=2000, bad_share=0)
    # Without transactions there is nothing uncommitted: a second reader would only take time from the job.
    isolations = ISOLATIONS if settings.sink.guarantee == "exactly-once" else {"read_committed": True}
    readers = {name: Reader(settings, committed) for name, committed in isolations.items()}
    producer = Producer(_client(settings) | {"partitioner": "murmur2_random"})  # as kafka-python's
    interval = settings.checkpoint_ms()
    try:
        for reader in readers.values():
            reader.start()
        warm = _send(settings, producer, events, capacity / 2, seconds)
        readers["read_committed"].wait(set(warm), START_S)
        if not warm.keys() <= readers["read_committed"].came.keys():
            raise ShopstreamError(f"the job did not answer its first events within {START_S:.0f} s")
        for load in LOADS:
            appended = _send(settings, producer, events, capacity * load, seconds)
            for name, reader in readers.items():
                reader.wait(set(appended), LAST_S + interval / 1000)
                took = [reader.came[key] - when for key, when in appended.items() if key in reader.came]
                p50, p95, p99, most = (
                    [round(float(value), 1) for value in np.percentile(took, [50, 95, 99, 100])] if took else [None] * 4
                )
                missing = len(appended) - len(took)
                row = Latency(
                    settings.sink.guarantee, interval, settings.checkpoint.changelog, load, round(capacity * load, 1),
                    name, len(took), missing, p50, p95, p99, most,
                )  # fmt: skip
                notes.print(f"  {load:.0%} {name}: p50 {p50} ms, p99 {p99} ms", markup=False)
                yield row
    finally:
        for reader in readers.values():
            reader.end()


def _send(
    settings: Settings, producer: Producer, events: Iterator[Record], rate: float, seconds: float
) -> dict[str, float]:
    """Send events at a rate; when Kafka appended each trigger, epoch ms, by the recommendation that is due for it."""
    decode = msgspec.json.Decoder(ClickstreamEvent).decode
    ahead: list[tuple[Record, str | None]] = []  # with what is due; made before the job needs the processor
    for record in islice(events, int(rate * seconds)):
        event = decode(record.value or b"")
        ahead.append((record, f"{event.user_id}/{event.event_id}" if event.event_type in settings.triggers else None))
    gc.freeze()  # so many objects would stop the readers each time they are looked through
    appended: dict[str, float] = {}
    topic = settings.topics.clickstream

    def delivered(answer: str, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise KafkaException(error)
        appended.setdefault(answer, float(message.timestamp()[1]))

    begun, sent = time.monotonic(), 0
    while sent < len(ahead):
        due = min(int((time.monotonic() - begun) * rate), len(ahead))
        for record, answer in ahead[sent:due]:
            told = {} if answer is None else {"on_delivery": partial(delivered, answer)}
            producer.produce(topic, record.value, record.key, **told)
        sent = due
        producer.poll(0)
        time.sleep(TICK_S)
    if left := producer.flush(LAST_S):
        raise ShopstreamError(f"Kafka did not take {left} events within {LAST_S:.0f} s")
    return appended


def show_latency(rows: list[Latency], console: Console) -> None:
    """A table for people."""
    table = Table(title="event appended → recommendation readable, ms", title_justify="left", box=box.SIMPLE_HEAD)
    headings = "guarantee checkpoints changelog load events/s isolation p50 p95 p99 max missing"
    for heading in headings.split():
        table.add_column(heading, justify="left" if heading in ("guarantee", "isolation") else "right", no_wrap=True)
    for row in rows:
        figures = [
            "" if value is None else f"{value:,.0f}" for value in (row.p50_ms, row.p95_ms, row.p99_ms, row.max_ms)
        ]
        table.add_row(
            row.guarantee, f"{row.checkpoint_interval_ms:,} ms", "yes" if row.changelog else "", f"{row.load:.0%}",
            f"{row.events_per_s:,.0f}", row.isolation, *figures, f"{row.missing:,}",
        )  # fmt: skip
    console.print(table)
