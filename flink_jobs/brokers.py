"""Talking to Kafka from outside Flink: clients from settings, topics, and errors in one line."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError

from flink_jobs.settings import Settings
from udfs.errors import ShopstreamError

# Reconnection attempts are its errors; ours say it once.
logging.getLogger("kafka").setLevel(logging.CRITICAL)

BOOTSTRAP_TIMEOUT_MS = 4000
DEFAULT_PARTITIONS = 2


def _client_options(settings: Settings) -> dict[str, Any]:
    brokers = [broker.strip() for broker in settings.kafka.bootstrap.split(",") if broker.strip()]
    return {"bootstrap_servers": brokers, "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS}


@contextmanager
def reachable(settings: Settings) -> Iterator[None]:
    """Turn Kafka's errors in the block into a ShopstreamError that says which broker and what to do."""
    try:
        yield
    except KafkaError as error:
        raise ShopstreamError(
            f"Kafka at {settings.kafka.bootstrap} (setting kafka.bootstrap) does not serve us: {error}; "
            "a local broker is started by `shopstream kafka start`"
        ) from None


def admin(settings: Settings) -> KafkaAdminClient:
    """An admin client; within `reachable`, a broker that is down is one clear line in seconds."""
    return KafkaAdminClient(**_client_options(settings))


def producer(settings: Settings, **options: Any) -> KafkaProducer:
    """A producer that batches; options as kafka-python takes them."""
    return KafkaProducer(**(_client_options(settings) | {"linger_ms": 5, "batch_size": 262_144} | options))


def consumer(settings: Settings, *topics: str, committed: bool = True, **options: Any) -> KafkaConsumer:
    """A consumer of its own, without a group; `committed`: it sees committed transactions only."""
    defaults = {
        "isolation_level": "read_committed" if committed else "read_uncommitted",
        "enable_auto_commit": False,
        "fetch_max_wait_ms": 50,
        "max_partition_fetch_bytes": 8_388_608,
        "max_poll_records": 5000,
    }
    return KafkaConsumer(*topics, **(_client_options(settings) | defaults | options))


def end_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """The next offset of each partition of a topic."""
    with reachable(settings):
        client = consumer(settings)
        try:
            partitions = [TopicPartition(topic, number) for number in client.partitions_for_topic(topic) or ()]
            return {place.partition: offset for place, offset in client.end_offsets(partitions).items()}
        finally:
            client.close()


def topic_names(settings: Settings) -> list[str]:
    """All topics of the contract, by their names in the settings."""
    return list(settings.topics.model_dump().values())


def require_topics(settings: Settings, *names: str) -> None:
    """ShopstreamError when one of these topics is missing or no broker answers."""
    with reachable(settings):
        client = admin(settings)
        try:
            present = set(client.list_topics())
        finally:
            client.close()
    missing = [name for name in names if name not in present]
    if missing:
        raise ShopstreamError(
            f"Kafka at {settings.kafka.bootstrap} has no topic {', '.join(missing)}: create it, "
            "or all topics of the settings with `shopstream kafka topics`"
        )


def create_topics(settings: Settings, partitions: int = DEFAULT_PARTITIONS) -> list[str]:
    """Create the topics that are missing, replication 1; the names of those created."""
    with reachable(settings):
        client = admin(settings)
        try:
            missing = sorted(set(topic_names(settings)) - set(client.list_topics()))
            # Of an item's changes the latest by the record's timestamp holds: the broker's clock, not the senders'.
            compacted = {
                settings.topics.catalog: {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}
            }
            if missing:
                client.create_topics(
                    [NewTopic(name, partitions, 1, topic_configs=compacted.get(name, {})) for name in missing]
                )
                client.wait_for_topics(missing)
            return missing
        finally:
            client.close()
