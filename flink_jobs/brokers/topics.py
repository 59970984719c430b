"""Creates the topics, checks that they exist, and tells how long they keep records."""

from kafka.admin import ConfigResource, NewTopic

from flink_jobs.brokers.clients import open_admin
from flink_jobs.brokers.errors import reachable
from flink_jobs.settings.settings import Settings
from udfs.core.errors import ShopstreamError

DEFAULT_PARTITIONS = 2
#: Kafka's default for how long a segment is written to.
SEGMENT_MS = 7 * 86_400_000


def retention_ms(settings: Settings, *topics: str) -> dict[str, int | None]:
    """How long each topic keeps a record, at most: its retention and that of a whole segment; None for ever.

    ShopstreamError for topics that do not say.
    """
    with reachable(settings):
        client = open_admin(settings)
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
        client = open_admin(settings)
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
        client = open_admin(settings)
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
