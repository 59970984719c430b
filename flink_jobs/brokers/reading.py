"""Reads topics from outside Flink: records and offsets."""

from collections.abc import Iterator, Mapping
from typing import Any

from kafka import TopicPartition

from flink_jobs.brokers.clients import open_consumer
from flink_jobs.brokers.errors import reachable
from flink_jobs.settings.settings import Settings


def end_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """The next offset of each partition of a topic."""
    with reachable(settings):
        client = open_consumer(settings)
        try:
            partitions = [TopicPartition(topic, number) for number in client.partitions_for_topic(topic) or ()]
            return {place.partition: offset for place, offset in client.end_offsets(partitions).items()}
        finally:
            client.close()


def read_topic(settings: Settings, topic: str, begin: Mapping[int, int] | None = None) -> Iterator[Any]:
    """The committed records of a topic as it stands, or from those offsets of its partitions on."""
    ends = {TopicPartition(topic, number): end for number, end in end_offsets(settings, topic).items()}
    with reachable(settings):
        client = open_consumer(settings, auto_offset_reset="earliest")
        try:
            client.assign(list(ends))
            client.seek_to_beginning(*ends)
            for number, offset in (begin or {}).items():
                client.seek(TopicPartition(topic, number), offset)
            while any(client.position(place) < end for place, end in ends.items()):
                for found in client.poll(timeout_ms=500).values():
                    yield from found
        finally:
            client.close()


def committed_offsets(settings: Settings, topic: str, group: str) -> dict[int, Any]:
    """By partition of a topic what a consumer group has committed (kafka-python's OffsetAndMetadata), or None."""
    numbers = end_offsets(settings, topic)
    with reachable(settings):
        client = open_consumer(settings, group_id=group)
        try:
            return {number: client.committed(TopicPartition(topic, number), metadata=True) for number in numbers}
        finally:
            client.close()
