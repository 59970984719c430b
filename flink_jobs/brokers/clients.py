"""Kafka clients made from settings, and transactions."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import ConsumerGroupMetadata

from flink_jobs.brokers.security import client_options
from flink_jobs.settings.kafka import BATCH_BYTES, LINGER_MS
from flink_jobs.settings.settings import Settings

# kafka-python logs each attempt to reconnect as an error; our own error says it once.
logging.getLogger("kafka").setLevel(logging.CRITICAL)

BOOTSTRAP_TIMEOUT_MS = 4000


def connection_options(settings: Settings) -> dict[str, Any]:
    """What every client is given: addresses and security."""
    brokers = [broker.strip() for broker in settings.kafka.bootstrap.split(",") if broker.strip()]
    addresses = {"bootstrap_servers": brokers, "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS}
    return addresses | client_options(settings.kafka)


def open_admin(settings: Settings) -> KafkaAdminClient:
    """An admin client; within `reachable`, a broker that is down is one clear line in seconds."""
    return KafkaAdminClient(**connection_options(settings))


def open_producer(settings: Settings, **options: Any) -> KafkaProducer:
    """A producer that batches; options as kafka-python takes them."""
    return KafkaProducer(
        **(connection_options(settings) | {"linger_ms": LINGER_MS, "batch_size": BATCH_BYTES} | options)
    )


def open_consumer(settings: Settings, *topics: str, committed: bool = True, **options: Any) -> KafkaConsumer:
    """A consumer of its own, without a group; `committed`: it sees committed transactions only."""
    defaults = {
        "isolation_level": "read_committed" if committed else "read_uncommitted",
        "enable_auto_commit": False,
        "fetch_max_wait_ms": 50,
        "max_partition_fetch_bytes": 8_388_608,
        "max_poll_records": 5000,
    }
    return KafkaConsumer(*topics, **(connection_options(settings) | defaults | options))


@contextmanager
def transaction(producer: KafkaProducer, group: str) -> Iterator[tuple[Callable[..., None], dict[TopicPartition, Any]]]:
    """One transaction of what is sent within, and of offsets of a consumer group; whatever fails undoes both.

    Gives what sends a record, called as KafkaProducer.send is, and a dictionary that takes the offsets
    (OffsetAndMetadata).
    """
    failures: list[Exception] = []
    offsets: dict[TopicPartition, Any] = {}

    def send(topic: str, **record: Any) -> None:
        producer.send(topic, **record).add_errback(failures.append)

    producer.begin_transaction()
    try:
        yield send, offsets
        producer.flush()
        if failures:
            raise failures[0]
        producer.send_offsets_to_transaction(offsets, ConsumerGroupMetadata(group))
        producer.commit_transaction()
    except BaseException:
        producer.abort_transaction()
        raise
