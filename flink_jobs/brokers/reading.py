"""Reads topics from outside Flink: records and offsets."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Protocol

from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from flink_jobs.brokers.clients import open_consumer
from flink_jobs.brokers.errors import reachable
from flink_jobs.settings.settings import Settings


class ConsumerRecord(Protocol):
    """A record as kafka-python's consumer gives it. timestamp: epoch ms."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def end_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """Returns the next offset of each partition of a topic."""
    with reachable(settings), closing(open_consumer(settings)) as client:
        partitions = [TopicPartition(topic, number) for number in client.partitions_for_topic(topic) or ()]
        return {partition.partition: offset for partition, offset in client.end_offsets(partitions).items()}


def read_topic(settings: Settings, topic: str, begin: Mapping[int, int] | None = None) -> Iterator[ConsumerRecord]:
    """Yields the committed records of a topic up to its present end. begin: first offset by partition."""
    ends = {TopicPartition(topic, number): end for number, end in end_offsets(settings, topic).items()}
    with reachable(settings), closing(open_consumer(settings, auto_offset_reset="earliest")) as client:
        client.assign(list(ends))
        client.seek_to_beginning(*ends)
        for number, offset in (begin or {}).items():
            client.seek(TopicPartition(topic, number), offset)
        while any(client.position(partition) < end for partition, end in ends.items()):
            for records in client.poll(timeout_ms=500).values():
                yield from records


def committed_offsets(settings: Settings, topic: str, group: str) -> dict[int, OffsetAndMetadata | None]:
    """Returns what a consumer group has committed, by partition of a topic; None for nothing."""
    numbers = end_offsets(settings, topic)
    with reachable(settings), closing(open_consumer(settings, group_id=group)) as client:
        return {number: client.committed(TopicPartition(topic, number), metadata=True) for number in numbers}
