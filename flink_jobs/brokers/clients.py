"""Kafka clients made from settings, and what is sent with them: single records, or transactions."""

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource
from kafka.errors import MessageSizeTooLargeError
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from flink_jobs.brokers import codecs
from flink_jobs.brokers.errors import reachable
from flink_jobs.brokers.security import client_options
from flink_jobs.settings.kafka import BATCH_BYTES, LINGER_MS, MAX_RECORD_BYTES
from flink_jobs.settings.settings import Settings
from udfs.core.errors import ShopstreamError

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
    batching = {"linger_ms": LINGER_MS, "batch_size": BATCH_BYTES, "max_request_size": MAX_RECORD_BYTES}
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


def max_record_bytes(settings: Settings, *topics: str) -> dict[str, int | None]:
    """Returns the largest record that each topic takes (max.message.bytes); None if the broker does not say."""
    found = described(settings, topics)
    sizes = {topic: found.get(topic, {}).get("max.message.bytes") for topic in topics}
    return {topic: int(size["value"]) if size else None for topic, size in sizes.items()}


def described(settings: Settings, topics: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns the configuration of topics, without those that the broker does not describe."""
    with reachable(settings), closing(open_admin(settings)) as client:
        resources = [ConfigResource("TOPIC", name) for name in topics]
        found: dict[str, dict[str, dict[str, Any]]] = client.describe_configs(resources, config_filter="all")["topic"]
    return found


@contextmanager
def sending(settings: Settings) -> Iterator[tuple[Send, Callable[[], None]]]:
    """Gives a function that sends a record, and one that waits until all are acknowledged.

    Waits at the end too. Raises the first failure, at the next call or at the end: a ShopstreamError with its number
    for a record that is larger than its topic takes.
    """
    failures: list[tuple[str, int, dict[str, Any], Exception]] = []
    numbers = itertools.count(1)

    def check() -> None:
        if failures:
            topic, number, record, error = failures[0]
            if not isinstance(error, MessageSizeTooLargeError):
                raise error
            size = sum(len(record.get(part) or b"") for part in ("key", "value"))
            limit = max_record_bytes(settings, topic)[topic]
            raise ShopstreamError(
                f"record {number:,} has {size:,} bytes, and topic {topic} takes at most "
                f"{min(limit or MAX_RECORD_BYTES, MAX_RECORD_BYTES):,} (max.message.bytes of the topic, and "
                f"{MAX_RECORD_BYTES:,} here): raise the topic's limit, or leave the record out"
            ) from None

    with reachable(settings), closing(open_producer(settings)) as producer:

        def send(topic: str, **record: Any) -> None:
            check()
            number = next(numbers)
            try:
                sent = producer.send(topic, **record)
            except MessageSizeTooLargeError as error:
                failures.append((topic, number, record, error))
                check()
            sent.add_errback(lambda error: failures.append((topic, number, record, error)))

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
