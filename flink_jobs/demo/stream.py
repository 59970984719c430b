"""Sends simulated events at a steady rate, and waits until all are answered."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import msgspec

from flink_jobs.brokers.clients import open_consumer, open_producer
from flink_jobs.demo.screen import live, step
from flink_jobs.demo.seen import Seen, count_bad, read_topics
from flink_jobs.settings.settings import Settings
from flink_jobs.simulation.records import Record
from udfs.contracts.clickstream import ClickstreamEvent
from udfs.contracts.rankings import answer_id
from udfs.core.clock import epoch_ms
from udfs.privacy.pseudonyms import Keys

#: Sent first and left out of the latencies, as they wait while the workers load the model.
WARM_UP_EVENTS = 20
START_TIMEOUT_S, DRAIN_TIMEOUT_S = 120.0, 60.0


def stream(
    settings: Settings, records: Iterator[Record], seconds: float, rate: float, title_of: Mapping[str, str]
) -> tuple[Seen, list[Record]]:
    """Sends `rate` records per second and reads until all are answered; returns what was seen, and what was sent."""
    seen, sent, stop, keys = Seen(), [], threading.Event(), settings.keys()
    topics = settings.topics
    consumer = open_consumer(
        settings, topics.clickstream, topics.recommendations, topics.dlq, auto_offset_reset="earliest"
    )
    producer = open_producer(settings, linger_ms=0)
    reader = threading.Thread(target=read_topics, args=(settings, consumer, seen, stop), daemon=True)
    reader.start()

    def send(record: Record) -> None:
        producer.send(topics.clickstream, key=record.key, value=record.value)
        sent.append(record)
        if (trigger := trigger_of(settings, keys, record)) is not None:
            seen.expected.add(trigger)

    try:
        with step("waiting for the first answer"):
            for record in islice(records, WARM_UP_EVENTS):
                send(record)
            producer.flush()
            _until(lambda: seen.complete(count_bad(sent)), START_TIMEOUT_S)
        warm_up = set(seen.answers)
        with live(seen, title_of) as refresh:
            started = time.monotonic()
            for number, record in enumerate(islice(records, max(1, round(seconds * rate)))):
                wait = number / rate - (time.monotonic() - started)
                if wait > 0:
                    time.sleep(wait)
                send(record)
                refresh()
            producer.flush()
            _until(lambda: seen.complete(count_bad(sent)), DRAIN_TIMEOUT_S)
            # A doubled answer would come with the next checkpoints.
            time.sleep(5 * settings.checkpoint_ms() / 1000)
    finally:
        stop.set()
        producer.close()
        reader.join(10)
    for recommendation_id in warm_up:
        seen.computed_ms.pop(recommendation_id, None)
        seen.readable_ms.pop(recommendation_id, None)
    return seen, sent


def trigger_of(settings: Settings, keys: Keys | None, record: Record) -> str | None:
    """Returns the id of the recommendation that a record is due, None if it is due none."""
    if record.kind != "valid" or record.value is None:
        return None
    event = msgspec.json.decode(record.value, type=ClickstreamEvent)
    user = keys.pseudonyms([event.user_id], [epoch_ms(event.event_time)])[0] if keys else event.user_id
    return answer_id("recommend", user, event.event_id) if event.event_type in settings.triggers else None


def _until(done: Callable[[], bool], timeout_s: float) -> None:
    limit = time.monotonic() + timeout_s
    while not done() and time.monotonic() < limit:
        time.sleep(0.05)
