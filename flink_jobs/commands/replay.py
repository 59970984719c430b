"""`shopstream replay FILE`: sends recorded events to Kafka, as fast as possible or at a multiple of their speed."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from flink_jobs.brokers.clients import sending
from flink_jobs.brokers.topics import require_topics
from flink_jobs.settings.settings import Settings
from udfs.contracts.clickstream import PROPERTIES
from udfs.events.files import read_events
from udfs.events.rejected import Rejected

#: At a recorded speed, events that are due within this time are sent without another sleep.
TICK_S = 0.005


@dataclass(frozen=True)
class Replayed:
    """What a replay did. seconds: wall time from the first record to the last acknowledgement."""

    events: int
    seconds: float


def replay_file(
    settings: Settings,
    file: Path,
    *,
    mapping: Mapping[str, str],
    preset: str,
    options: Mapping[str, object] | None = None,
    rejected: Rejected | None = None,
    speed: float | None,
    limit: int | None,
    progress: Callable[[int], None] = lambda _: None,
) -> Replayed:
    """Sends the events of a file to `clickstream`, key user_id, in the file's order.

    speed: multiple of the recorded speed, None for as fast as possible. limit: at most this many events. progress:
    called with the number of events sent so far. options, rejected: those of read_events.
    """
    batches = read_events(file, mapping=mapping, preset=preset, options=options, rejected=rejected)
    topic, sent = settings.topics.clickstream, 0
    require_topics(settings, topic)
    started = time.monotonic()
    first: int | None = None
    with sending(settings) as (send, flush):
        for batch in batches:
            rows = batch if limit is None else batch.slice(0, limit - sent)
            for key, value, event_ms in event_messages(rows):
                if speed is not None:
                    first = event_ms if first is None else first
                    wait = (event_ms - first) / 1000 / speed - (time.monotonic() - started)
                    if wait > TICK_S:
                        flush()
                        time.sleep(wait)
                send(topic, key=key, value=value)
            sent += len(rows)
            progress(sent)
            if sent == limit:
                break
    return Replayed(sent, time.monotonic() - started)


def event_messages(batch: pa.RecordBatch) -> Iterator[tuple[bytes, bytes, int]]:
    """Yields the key, the JSON value and the event time (epoch ms) of each row; unknown fields are left out."""
    encode = msgspec.json.Encoder().encode
    rows: list[dict[str, Any]] = batch.to_pylist()
    for row in rows:
        known = {name: field for name, field in row.items() if field is not None}
        if properties := {name: known.pop(name) for name in PROPERTIES if name in known}:
            known["properties"] = properties
        value = encode(known)
        yield row["user_id"].encode(), value, row["event_time"]
