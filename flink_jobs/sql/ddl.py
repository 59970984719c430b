"""The pieces of SQL that tables and views share.

One file per stream has its tables and views. Values go into SQL through `literal`.
"""

from collections.abc import Mapping, Sequence

from flink_jobs.brokers.security import flink_options
from flink_jobs.settings.kafka import BATCH_BYTES, LINGER_MS, MAX_RECORD_BYTES
from flink_jobs.settings.settings import Settings
from udfs.core.clock import DAY_MS
from udfs.events.columns import ANONYMOUS_ID, EVENT_COLUMNS

#: Columns of a sink of unchanged records.
RAW_RECORD = """  `key` BYTES,
  `value` BYTES,
  `headers` MAP<STRING NOT NULL, BYTES> METADATA,
  `timestamp` TIMESTAMP_LTZ(3) METADATA"""
#: Columns of a source of raw records: bytes and their position, so that nothing unreadable is lost.
RAW_SOURCE = """  `key` BYTES,
  `value` BYTES,
  `headers` MAP<STRING NOT NULL, BYTES> METADATA,
  `topic` STRING METADATA VIRTUAL,
  `partition` INT METADATA VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL,
  `timestamp` TIMESTAMP_LTZ(3) METADATA"""
#: Columns of a readable event that closed sessions keep.
FIELDS = tuple(name for name in EVENT_COLUMNS if not name.startswith("error") and name != ANONYMOUS_ID)


def literal(text: str) -> str:
    """Writes a string literal."""
    return "'" + text.replace("'", "''") + "'"


def milliseconds(ms: int) -> str:
    """Writes an interval literal; `ms` is less than a thousand days."""
    days, rest = divmod(ms, DAY_MS)
    clock = f"{rest // 3_600_000}:{rest // 60_000 % 60:02d}:{rest // 1000 % 60:02d}.{rest % 1000:03d}"
    return f"INTERVAL '{days} {clock}' DAY(3) TO SECOND(3)"


def create_table(name: str, columns: str, options: Mapping[str, str], partitioned: str = "") -> str:
    """Writes the DDL of a table."""
    listed = ",\n  ".join(f"{literal(key)} = {literal(value)}" for key, value in options.items())
    return f"CREATE TEMPORARY TABLE {name} (\n{columns}\n) {partitioned}WITH (\n  {listed}\n)"


def event_fields(fields: Sequence[str]) -> str:
    """Selects fields of the parsed event."""
    return ", ".join(f"event.{name} AS {name}" for name in fields)


def kafka_options(settings: Settings, topic: str, key: str) -> dict[str, str]:
    """Returns the options that all Kafka tables share. key: the key's columns."""
    return {
        "connector": "kafka",
        "topic": topic,
        "properties.bootstrap.servers": settings.kafka.bootstrap,
        **flink_options(settings.kafka),
        "key.format": "raw",
        "key.fields": key,
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
    }


def source_options(settings: Settings, topic: str, group_suffix: str, startup: str) -> dict[str, str]:
    """Returns the options of a Kafka source. group_suffix: appended to kafka.group."""
    options = kafka_options(settings, topic, "key") | {
        "properties.group.id": settings.kafka.group + group_suffix,
        "properties.auto.offset.reset": "earliest",
        "properties.isolation.level": "read_committed",  # records of aborted transactions never existed
        "scan.startup.mode": startup,
        "scan.topic-partition-discovery.interval": f"{settings.kafka.partition_discovery} ms",
    }
    return options | ({"scan.bounded.mode": "latest-offset"} if settings.kafka.bounded else {})


def sink_options(settings: Settings, name: str) -> dict[str, str]:
    """Returns the options of a Kafka sink. name: makes its transactional ids unique within the job."""
    options: dict[str, str] = {
        "sink.delivery-guarantee": settings.sink.guarantee,
        # A dead letter is its record and the reason: a large record's exceeds the producer's default.
        "properties.max.request.size": str(MAX_RECORD_BYTES),
        # A request holds some thirty answers; one of the producer's default size holds two.
        "properties.linger.ms": str(LINGER_MS),
        "properties.batch.size": str(BATCH_BYTES),
    }
    if settings.sink.guarantee == "exactly-once":
        options |= {
            "sink.transactional-id-prefix": f"{settings.sink.transactional_id_prefix}-{name}",
            "properties.transaction.timeout.ms": str(settings.sink.transaction_timeout),
        }
    return options


def user_sink(settings: Settings, table: str, topic: str, name: str) -> str:
    """Writes the DDL of a sink of JSON values by user_id. name: of its transactions, as in `sink_options`."""
    options = kafka_options(settings, topic, "user_id") | sink_options(settings, name)
    return create_table(table, "  `user_id` STRING,\n  `value` STRING", options)


def raw_sink(settings: Settings, table: str, topic: str, name: str) -> str:
    """Writes the DDL of a sink of unchanged records. name: of its transactions, as in `sink_options`."""
    return create_table(table, RAW_RECORD, kafka_options(settings, topic, "key") | sink_options(settings, name))


def epoch_ms_of(time: str) -> str:
    """Writes the epoch ms of a TIMESTAMP_LTZ(3)."""
    return f"""UNIX_TIMESTAMP(DATE_FORMAT({time}, 'yyyy-MM-dd HH:mm:ss')) * 1000 + EXTRACT(MILLISECOND FROM {time})"""


def quoted(name: str) -> str:
    """Quotes an identifier."""
    return f"`{name}`"
