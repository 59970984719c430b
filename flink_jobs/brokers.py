"""Talking to Kafka from outside Flink: clients from settings, topics, and errors in one line."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, NewTopic
from kafka.errors import (
    InvalidReceiveError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
)
from kafka.structs import ConsumerGroupMetadata

from flink_jobs.security import client_options
from flink_jobs.settings import BATCH_BYTES, LINGER_MS, KafkaSettings, Settings
from udfs.core.errors import ShopstreamError

# Reconnection attempts are its errors; ours say it once.
logging.getLogger("kafka").setLevel(logging.CRITICAL)


class _LastFailure(logging.Handler):
    """Remembers why the last connection failed: what kafka-python raises says only that none was made."""

    reason: Exception | None = None

    def emit(self, record: logging.LogRecord) -> None:
        failures = record.args if isinstance(record.args, tuple) else ()
        told = (part for part in failures if isinstance(part, Exception) and not isinstance(part, KafkaTimeoutError))
        self.reason = next(told, self.reason)


_last_failure = _LastFailure()
_connections = logging.getLogger("kafka.net.manager")
_connections.setLevel(logging.WARNING)
_connections.propagate = False
_connections.addHandler(_last_failure)

BOOTSTRAP_TIMEOUT_MS = 4000
DEFAULT_PARTITIONS = 2
#: Kafka's default for how long a segment is written to.
SEGMENT_MS = 7 * 86_400_000


def _client_options(settings: Settings) -> dict[str, Any]:
    brokers = [broker.strip() for broker in settings.kafka.bootstrap.split(",") if broker.strip()]
    addresses = {"bootstrap_servers": brokers, "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS}
    return addresses | client_options(settings.kafka)


@contextmanager
def reachable(settings: Settings) -> Iterator[None]:
    """Turn Kafka's errors in the block into a ShopstreamError that says which broker and what to do."""
    kafka, _last_failure.reason = settings.kafka, None
    try:
        yield
    except KafkaError as error:
        reason = (isinstance(error, KafkaTimeoutError) and _last_failure.reason) or error
        told = str(reason).partition(": Request '")[0]  # what follows is the request in all its length
        raise ShopstreamError(
            f"Kafka at {kafka.bootstrap} (setting kafka.bootstrap) does not serve us: {told}; {_advice(kafka, reason)}"
        ) from None


def _advice(kafka: KafkaSettings, reason: Exception) -> str:
    if "Authorization" in str(reason):
        return "docs/operations.md lists what each command has to be allowed"
    # Over TLS, kafka-python loses the broker's last words when the broker closes the connection right after them.
    closed = "disconnected" in str(reason)
    if kafka.sasl and (closed or isinstance(reason, SaslAuthenticationFailedError)):
        return f"the broker refuses kafka.username={kafka.username}, kafka.password_file or kafka.sasl_mechanism"
    if kafka.tls and isinstance(reason, KafkaConnectionError):
        return "see kafka.ca_file, and kafka.certificate_file where the broker asks who we are"
    # What a broker says in TLS has no length that a client without it could take for one.
    turned_away = closed or isinstance(reason, InvalidReceiveError)
    wanted = "a broker that wants TLS or a password closes the connection: see kafka.security; " if turned_away else ""
    return f"{wanted}a local broker is started by `shopstream kafka start`"


def admin(settings: Settings) -> KafkaAdminClient:
    """An admin client; within `reachable`, a broker that is down is one clear line in seconds."""
    return KafkaAdminClient(**_client_options(settings))


def producer(settings: Settings, **options: Any) -> KafkaProducer:
    """A producer that batches; options as kafka-python takes them."""
    return KafkaProducer(**(_client_options(settings) | {"linger_ms": LINGER_MS, "batch_size": BATCH_BYTES} | options))


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


def records(settings: Settings, topic: str, begin: Mapping[int, int] | None = None) -> Iterator[Any]:
    """The committed records of a topic as it stands, or from those offsets of its partitions on."""
    ends = {TopicPartition(topic, number): end for number, end in end_offsets(settings, topic).items()}
    with reachable(settings):
        client = consumer(settings, auto_offset_reset="earliest")
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


def committed(settings: Settings, topic: str, group: str) -> dict[int, Any]:
    """By partition of a topic what a consumer group has committed (kafka-python's OffsetAndMetadata), or None."""
    numbers = end_offsets(settings, topic)
    with reachable(settings):
        client = consumer(settings, group_id=group)
        try:
            return {number: client.committed(TopicPartition(topic, number), metadata=True) for number in numbers}
        finally:
            client.close()


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


def kept_ms(settings: Settings, *topics: str) -> dict[str, int | None]:
    """How long each topic keeps a record, at most: its retention and that of a whole segment; None for ever.

    ShopstreamError for topics that do not say.
    """
    with reachable(settings):
        client = admin(settings)
        try:
            asked = [ConfigResource("TOPIC", name) for name in topics]
            found = client.describe_configs(asked, config_filter="all")["topic"]
        finally:
            client.close()
    if silent := [name for name in topics if not found.get(name)]:
        raise ShopstreamError(
            f"Kafka at {settings.kafka.bootstrap} does not say how long it keeps {', '.join(silent)}: create topics by "
            "`shopstream kafka topics`, or allow us to DESCRIBE_CONFIGS (docs/operations.md)"
        )

    def kept(topic: str) -> int | None:
        said = {name: each["value"] for name, each in found[topic].items()}
        deletes = "delete" in said["cleanup.policy"] and int(said["retention.ms"]) >= 0
        return int(said["retention.ms"]) + int(said["segment.ms"]) if deletes else None

    return {topic: kept(topic) for topic in topics}


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
            f"Kafka at {settings.kafka.bootstrap} has no topic {', '.join(missing)}: create it, or all topics of the "
            f"settings with `shopstream kafka topics`{_may_be_hidden(settings)}"
        )


def _may_be_hidden(settings: Settings) -> str:
    """Brokers that ask who we are do not list a topic to who may not describe it."""
    return "" if settings.kafka.security == "PLAINTEXT" else "; or allow us to DESCRIBE it (docs/operations.md)"


def create_topics(settings: Settings, partitions: int = DEFAULT_PARTITIONS) -> list[str]:
    """Create the topics that are missing, replication 1; the names of those created."""
    with reachable(settings):
        client = admin(settings)
        try:
            missing = sorted(set(topic_names(settings)) - set(client.list_topics()))
            # Of an item's changes the latest by the record's timestamp holds: the broker's clock, not the senders'.
            configs = {
                settings.topics.catalog: {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}
            }
            kept = settings.retention.model_dump(exclude_none=True)
            # Kafka deletes whole segments: none is open for longer than a record is to be kept.
            configs |= {
                getattr(settings.topics, name): {"retention.ms": str(ms), "segment.ms": str(min(ms, SEGMENT_MS))}
                for name, ms in kept.items()
            }
            if missing:
                client.create_topics(
                    [NewTopic(name, partitions, 1, topic_configs=configs.get(name, {})) for name in missing]
                )
                client.wait_for_topics(missing)
            return missing
        finally:
            client.close()
