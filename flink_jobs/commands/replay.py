"""`shopstream replay FILE`: recorded events into Kafka, flat out or at a multiple of the recorded speed."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from flink_jobs.brokers.clients import open_producer
from flink_jobs.brokers.errors import reachable
from flink_jobs.brokers.topics import require_topics
from flink_jobs.console import notes
from flink_jobs.settings.settings import Settings
from udfs.events.columns import PROPERTIES
from udfs.events.files import read_events

#: At a recorded speed, events this close to due are sent without another sleep.
TICK_S = 0.005


@dataclass(frozen=True)
class Replayed:
    """What a replay did. seconds: wall time from the first record to the last acknowledgement."""

    events: int
    seconds: float


def replay_file(
    settings: Settings, file: Path, *, mapping: Mapping[str, str], preset: str, speed: float | None, limit: int | None
) -> Replayed:
    """Send the events of a file to `clickstream`, key user_id, in the file's order.

    speed: multiple of the recorded speed, None for flat out. limit: at most so many events.
    """
    batches = read_events(file, mapping=mapping, preset=preset)
    require_topics(settings, settings.topics.clickstream)
    topic, sent, started = settings.topics.clickstream, 0, time.monotonic()
    first: int | None = None
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"))
    with (
        reachable(settings),
        Progress(*columns, TimeElapsedColumn(), console=notes, disable=not notes.is_terminal) as progress,
    ):
        task = progress.add_task(f"{file.name} → {topic}", total=limit, rate="")
        producer = open_producer(settings)
        failures: list[Exception] = []
        try:
            for batch in batches:
                batch = batch if limit is None else batch.slice(0, limit - sent)
                for key, value, when in event_messages(batch):
                    if speed is not None:
                        first = when if first is None else first
                        wait = (when - first) / 1000 / speed - (time.monotonic() - started)
                        if wait > TICK_S:
                            producer.flush()
                            time.sleep(wait)
                    producer.send(topic, key=key, value=value).add_errback(failures.append)
                sent += len(batch)
                rate = sent / (time.monotonic() - started)
                progress.update(task, completed=sent, rate=f"{sent:,} events, {rate:,.0f}/s")
                if failures or sent == limit:
                    break
            producer.flush()
        finally:
            producer.close()
        if failures:
            raise failures[0]
    return Replayed(sent, time.monotonic() - started)


def event_messages(batch: pa.RecordBatch) -> Iterator[tuple[bytes, bytes, int]]:
    """Key, JSON value and event time of each row; what is unknown is left out."""
    encode = msgspec.json.Encoder().encode
    rows: list[dict[str, Any]] = batch.to_pylist()
    for row in rows:
        known = {name: field for name, field in row.items() if field is not None}
        if properties := {name: known.pop(name) for name in PROPERTIES if name in known}:
            known["properties"] = properties
        value = encode(known)
        yield row["user_id"].encode(), value, row["event_time"]
