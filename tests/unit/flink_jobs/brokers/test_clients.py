"""What is sent to Kafka and what is taken back, with a producer that only notes what is asked of it."""

from collections.abc import Callable
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from flink_jobs.brokers.clients import sending, transaction
from flink_jobs.settings.settings import Settings

OFFSETS = {TopicPartition("in", 0): OffsetAndMetadata(7, "", -1)}


class Future:
    def __init__(self, failure: Exception | None) -> None:
        self._failure = failure

    def add_errback(self, note: Callable[[Exception], Any]) -> None:
        if self._failure:
            note(self._failure)


class Producer:
    def __init__(self, failure: Exception | None = None) -> None:
        self.calls: list[str] = []
        self.offsets: Any = None
        self._failure = failure

    def send(self, topic: str, **record: Any) -> Future:
        self.calls.append(f"send {topic} {record['value']}")
        return Future(self._failure)

    def send_offsets_to_transaction(self, offsets: Any, group: Any) -> None:
        self.calls.append(f"offsets {group.group_id}")
        self.offsets = dict(offsets)

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: self.calls.append(name)


def test_transaction_commits_records_with_offsets():
    producer = Producer()
    with transaction(producer, "group") as (send, offsets):
        send("out", value=1)
        offsets.update(OFFSETS)
    sequence = ["begin_transaction", "send out 1", "flush", "offsets group", "commit_transaction"]
    assert producer.calls == sequence
    assert producer.offsets == OFFSETS


@pytest.mark.parametrize("error", [ValueError("inside"), KeyboardInterrupt()])
def test_transaction_rolls_back_errors_inside(error: BaseException):
    producer = Producer()

    def fail() -> None:
        with transaction(producer, "group") as (send, _):
            send("out", value=1)
            raise error

    with pytest.raises(type(error)):
        fail()
    assert producer.calls == ["begin_transaction", "send out 1", "abort_transaction"]


def test_transaction_rolls_back_failed_records():
    producer = Producer(OSError("the broker refused it"))

    def fail() -> None:
        with transaction(producer, "group") as (send, offsets):
            send("out", value=1)
            offsets.update(OFFSETS)

    with pytest.raises(OSError, match="refused"):
        fail()
    assert producer.calls == ["begin_transaction", "send out 1", "flush", "abort_transaction"]
    assert producer.offsets is None


def test_sending_flushes_and_closes(monkeypatch: pytest.MonkeyPatch):
    producer = Producer()
    monkeypatch.setattr("flink_jobs.brokers.clients.open_producer", lambda _: producer)
    with sending(Settings()) as (send, flush):
        send("out", value=1)
        flush()
        send("out", value=2)
    assert producer.calls == ["send out 1", "flush", "send out 2", "flush", "close"]


def test_sending_raises_the_first_failure(monkeypatch: pytest.MonkeyPatch):
    producer = Producer(OSError("the broker refused it"))
    monkeypatch.setattr("flink_jobs.brokers.clients.open_producer", lambda _: producer)

    def fail() -> None:
        with sending(Settings()) as (send, _):
            send("out", value=1)
            send("out", value=2)

    with pytest.raises(OSError, match="refused"):
        fail()
    assert producer.calls == ["send out 1", "close"]
