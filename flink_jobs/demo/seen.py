"""What has come through Kafka so far."""

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import msgspec
from kafka import KafkaConsumer

from flink_jobs.commands.watch import decode_recommendation
from flink_jobs.settings.settings import Settings
from flink_jobs.simulation.records import Record
from udfs.contracts.clickstream import ClickstreamEvent
from udfs.contracts.rankings import Recommendation


@dataclass
class Seen:
    """What has come through Kafka so far. Times are the broker's, of appending, in epoch ms."""

    appended: dict[str, int] = field(default_factory=dict)  #: trigger event_id to its time
    expected: set[str] = field(default_factory=set)  #: recommendation ids that are due
    events: int = 0
    answers: dict[str, Recommendation] = field(default_factory=dict)
    doubled: int = 0
    dead_letters: int = 0
    computed_ms: dict[str, int] = field(default_factory=dict)  #: recommendation written, since its trigger
    readable_ms: dict[str, int] = field(default_factory=dict)  #: and readable with read_committed
    newest: deque[Recommendation] = field(default_factory=lambda: deque(maxlen=3))

    def complete(self, dead_letters: int) -> bool:
        """Every trigger has its answer and every bad record its dead letter."""
        return len(self.answers) >= len(self.expected) and self.dead_letters >= dead_letters


def count_bad(sent: list[Record]) -> int:
    """Counts the records that no job can read."""
    return sum(record.kind == "bad" for record in sent)


def read_topics(settings: Settings, consumer: KafkaConsumer, seen: Seen, stop: threading.Event) -> None:
    """Notes everything that comes through the topics until `stop` is set; closes the consumer."""
    topics = settings.topics
    while not stop.is_set():
        for place, messages in consumer.poll(timeout_ms=100).items():
            now = time.time() * 1000
            for message in messages:
                if place.topic == topics.clickstream:
                    seen.events += 1
                    _note_trigger(seen, message)
                elif place.topic == topics.dlq:
                    seen.dead_letters += 1
                else:
                    _note_answer(seen, message, now)
    consumer.close()


def _note_trigger(seen: Seen, message: Any) -> None:
    try:
        event = msgspec.json.decode(message.value or b"", type=ClickstreamEvent)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    seen.appended.setdefault(event.event_id, message.timestamp)


def _note_answer(seen: Seen, message: Any, now: float) -> None:
    answer = decode_recommendation(message.value)
    name = answer.recommendation_id
    seen.doubled += name in seen.answers
    seen.answers[name] = answer
    seen.newest.append(answer)
    appended = seen.appended.get(answer.trigger_event_id)
    if appended is not None:
        seen.computed_ms[name] = message.timestamp - appended
        seen.readable_ms[name] = round(now - appended)
