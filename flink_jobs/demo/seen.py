"""What has come through Kafka so far."""

import threading
import time
from collections import deque
from dataclasses import dataclass, field

import msgspec
from kafka import KafkaConsumer

from flink_jobs.brokers.reading import ConsumerRecord
from flink_jobs.commands.watch import decode_recommendation
from flink_jobs.settings.settings import Settings
from flink_jobs.simulation.records import Record
from udfs.contracts.clickstream import ClickstreamEvent
from udfs.contracts.rankings import Recommendation


@dataclass
class Seen:
    """What has come through Kafka so far. Times are when the broker appended, epoch ms."""

    appended: dict[str, int] = field(default_factory=dict)  #: time of each trigger, by event_id
    expected: set[str] = field(default_factory=set)  #: ids of the recommendations that are due
    events: int = 0
    answers: dict[str, Recommendation] = field(default_factory=dict)
    doubled: int = 0
    dead_letters: int = 0
    computed_ms: dict[str, int] = field(default_factory=dict)  #: from a trigger to its recommendation written
    readable_ms: dict[str, int] = field(default_factory=dict)  #: the same until readable with read_committed
    newest: deque[Recommendation] = field(default_factory=lambda: deque(maxlen=3))

    def complete(self, dead_letters: int) -> bool:
        """Whether every trigger has its answer and every bad record its dead letter."""
        return len(self.answers) >= len(self.expected) and self.dead_letters >= dead_letters


def count_bad(sent: list[Record]) -> int:
    """Counts the records that no job can read."""
    return sum(record.kind == "bad" for record in sent)


def read_topics(settings: Settings, consumer: KafkaConsumer, seen: Seen, stop: threading.Event) -> None:
    """Notes everything that comes through the topics until `stop` is set; closes the consumer."""
    topics = settings.topics
    while not stop.is_set():
        for partition, records in consumer.poll(timeout_ms=100).items():
            now = time.time() * 1000
            for record in records:
                if partition.topic == topics.clickstream:
                    seen.events += 1
                    _note_trigger(seen, record)
                elif partition.topic == topics.dlq:
                    seen.dead_letters += 1
                else:
                    _note_answer(seen, record, now)
    consumer.close()


def _note_trigger(seen: Seen, record: ConsumerRecord) -> None:
    try:
        event = msgspec.json.decode(record.value or b"", type=ClickstreamEvent)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    seen.appended.setdefault(event.event_id, record.timestamp)


def _note_answer(seen: Seen, record: ConsumerRecord, now: float) -> None:
    answer = decode_recommendation(record.value or b"")
    name = answer.recommendation_id
    seen.doubled += name in seen.answers
    seen.answers[name] = answer
    seen.newest.append(answer)
    appended = seen.appended.get(answer.trigger_event_id)
    if appended is not None:
        seen.computed_ms[name] = record.timestamp - appended
        seen.readable_ms[name] = round(now - appended)
