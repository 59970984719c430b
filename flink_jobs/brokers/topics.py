"""Creates the topics, checks that they exist, and finds out how long they keep records."""

from contextlib import closing
from typing import Any

from kafka.admin import NewTopic
from kafka.errors import InvalidReplicationFactorError, NoError, PolicyViolationError, for_code

from flink_jobs.brokers.clients import described, open_admin
from flink_jobs.brokers.errors import reachable
from flink_jobs.settings.settings import Settings
from udfs.core.clock import DAY_MS
from udfs.core.errors import ShopstreamError

DEFAULT_PARTITIONS = 2
#: Stands for the broker's own setting, default.replication.factor.
BROKERS_REPLICATION = -1
#: Kafka's default for how long a segment is written to.
SEGMENT_MS = 7 * DAY_MS


def retention_ms(settings: Settings, *topics: str) -> dict[str, int | None]:
    """Returns how long each topic keeps a record at most: its retention plus that of a whole segment; None for ever.

    Raises ShopstreamError if the broker does not describe a topic.
    """
    found = described(settings, topics)
    if silent := [name for name in topics if not found.get(name)]:
        raise ShopstreamError(
            f"Kafka at {settings.kafka.bootstrap} does not say how long it keeps {', '.join(silent)}: create topics by "
            "`shopstream kafka topics`, or allow us to DESCRIBE_CONFIGS (docs/operations.md)"
        )

    def longest(topic: str) -> int | None:
        config = {name: entry["value"] for name, entry in found[topic].items()}
        deletes = "delete" in config["cleanup.policy"] and int(config["retention.ms"]) >= 0
        return int(config["retention.ms"]) + int(config["segment.ms"]) if deletes else None

    return {topic: longest(topic) for topic in topics}


def topic_names(settings: Settings) -> list[str]:
    """Returns all topics of the contract, by their names in the settings."""
    return list(settings.topics.model_dump().values())


def require_topics(settings: Settings, *names: str) -> None:
    """Raises ShopstreamError if one of these topics is missing or no broker answers."""
    with reachable(settings), closing(open_admin(settings)) as client:
        present = set(client.list_topics())
    missing = [name for name in names if name not in present]
    if missing:
        # A broker with security does not list a topic to clients that may not describe it.
        hidden = settings.kafka.security != "PLAINTEXT"
        raise ShopstreamError(
            f"Kafka at {settings.kafka.bootstrap} has no topic {', '.join(missing)}: create it, or all topics of the "
            "settings with `shopstream kafka topics`"
            f"{'; or allow us to DESCRIBE it (docs/operations.md)' if hidden else ''}"
        )


def create_topics(
    settings: Settings, partitions: int = DEFAULT_PARTITIONS, replication: int = BROKERS_REPLICATION
) -> list[str]:
    """Creates the missing topics and returns their names; ShopstreamError if the broker refuses their replication."""
    with reachable(settings), closing(open_admin(settings)) as client:
        missing = sorted(set(topic_names(settings)) - set(client.list_topics()))
        # An item's latest change wins by its record's timestamp: the broker's clock, not the senders'.
        configs = {settings.topics.catalog: {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}}
        # Kafka deletes whole segments, so none stays open for longer than its records are kept.
        configs |= {
            getattr(settings.topics, name): {"retention.ms": str(ms), "segment.ms": str(min(ms, SEGMENT_MS))}
            for name, ms in settings.retention.model_dump(exclude_none=True).items()
        }
        if missing:
            topics = [NewTopic(name, partitions, replication, topic_configs=configs.get(name, {})) for name in missing]
            for answer in client.create_topics(topics, raise_errors=False)["topics"]:
                _require_created(settings, answer, replication)
            client.wait_for_topics(missing)
        return missing


def _require_created(settings: Settings, answer: dict[str, Any], replication: int) -> None:
    """Raises the error that the broker answers for a topic; ShopstreamError with its reason for a refused topic."""
    error = for_code(answer["error_code"])
    if error in (InvalidReplicationFactorError, PolicyViolationError):
        asked = "the broker's default" if replication == BROKERS_REPLICATION else str(replication)
        raise ShopstreamError(
            f"Kafka at {settings.kafka.bootstrap} refuses topic {answer['name']} with replication factor {asked}: "
            f"{answer['error_message'] or error.description}; choose another by `shopstream kafka topics --replication`"
        )
    if error is not NoError:
        raise error(answer["error_message"])
