"""Kafka clients made from settings, and what is sent with them: single records, or transactions."""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from flink_jobs.brokers import codecs
from flink_jobs.brokers.errors import reachable
from flink_jobs.brokers.security import client_options
from flink_jobs.settings.kafka import BATCH_BYTES, LINGER_MS
from flink_jobs.settings.settings import Settings

codecs.install()
# kafka-python logs each attempt to reconnect as an error; our own error says it once.
logging.getLogger("kafka").setLevel(logging.CRITICAL)

BOOTSTRAP_TIMEOUT_MS = 4000

#: Sends a record; called as KafkaProducer.send is.
Send = Callable[..., None]


def _connection_options(settings: Settings) -> dict[str, Any]:
    brokers = [broker.strip() for broker in settings.kafka.bootstrap.split(",") if broker.strip()]
    addresses = {"bootstrap_servers": brokers, "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS}
    return addresses | client_options(settings.kafka)


def open_admin(settings: Settings) -> KafkaAdminClient:
    """Opens an admin client. Within `reachable`, a broker that is down is one clear line in seconds."""
    return KafkaAdminClient(**_connection_options(settings))


def open_producer(settings: Settings, **options: Any) -> KafkaProducer:
    """Opens a producer that batches. options: as kafka-python takes them."""
    batching = {"linger_ms": LINGER_MS, "batch_size": BATCH_BYTES}
    return KafkaProducer(**(_connection_options(settings) | batching | options))


def open_consumer(settings: Settings, *topics: str, committed: bool = True, **options: Any) -> KafkaConsumer:
    """Opens a consumer without a group. committed: it sees committed transactions only."""
    defaults = {
        "isolation_level": "read_committed" if committed else "read_uncommitted",
        "enable_auto_commit": False,
        "fetch_max_wait_ms": 50,
        "max_partition_fetch_bytes": 8_388_608,
        "max_poll_records": 5000,
    }
    return KafkaConsumer(*topics, **(_connection_options(settings) | defaults | options))


@contextmanager
def sending(settings: Settings) -> Iterator[tuple[Send, Callable[[], None]]]:
    """Gives a function that sends a record, and one that waits until all are acknowledged.

    Waits at the end too. Raises the first failure, at the next call or at the end.
    """
    failures: list[Exception] = []

    def check() -> None:
        if failures:
            raise failures[0]

    with reachable(settings), closing(open_producer(settings)) as producer:

        def send(topic: str, **record: Any) -> None:
            check()
            producer.send(topic, **record).add_errback(failures.append)

        def flush() -> None:
            producer.flush()
            check()

        yield send, flush
        flush()


@contextmanager
def transaction(producer: KafkaProducer, group: str) -> Iterator[tuple[Send, dict[TopicPartition, OffsetAndMetadata]]]:
    """Sends records and commits consumer offsets in one transaction; rolls back on any error.

    Gives a function that sends a record, and a dictionary that takes the offsets of the consumer group.
    """
    failures: list[Exception] = []
    offsets: dict[TopicPartition, OffsetAndMetadata] = {}

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
