"""The dead letters' table, and what goes into it."""

from collections.abc import Sequence

from flink_jobs.settings.settings import Settings
from flink_jobs.sql.ddl import RAW_RECORD, create_table, epoch_ms_of, kafka_options, literal, sink_options


def dead_letter_table(settings: Settings, name: str = "dlq") -> str:
    """The sink of unreadable records, bytes as they came. name: of its transactions, another one in each job."""
    options = kafka_options(settings, settings.topics.dlq, "key") | sink_options(settings, name)
    return create_table("dead_letters", RAW_RECORD, options)


def insert_dead_letters(view: str, parsed: str, by: str) -> str:
    """What could not be read, to the dead letters. parsed: the view's column with the errors; by: who found them."""
    return f"""INSERT INTO dead_letters
SELECT `key`, `value`, MAP_UNION(`headers`, MAP[
  '__connect.errors.topic', CAST(`topic` AS BYTES),
  '__connect.errors.partition', CAST(CAST(`partition` AS STRING) AS BYTES),
  '__connect.errors.offset', CAST(CAST(`offset` AS STRING) AS BYTES),
  '__connect.errors.stage', CAST('VALUE_CONVERTER' AS BYTES),
  '__connect.errors.class.name', CAST({literal(by)} AS BYTES),
  '__connect.errors.exception.class.name', CAST({parsed}.error_class AS BYTES),
  '__connect.errors.exception.message', CAST({parsed}.error AS BYTES)
]), `timestamp` FROM {view} WHERE {parsed}.error IS NOT NULL"""


INSERT_DEAD_LETTERS = insert_dead_letters("unreadable", "event", "udfs.events.parse_event")


def dead_letter_view(settings: Settings) -> dict[str, str]:
    """`unreadable`: events that could not be read, as letters have them."""
    columns = ("headers", "topic", "partition", "offset", "timestamp", "event")
    moment = f"COALESCE(event.event_time, {epoch_ms_of('`timestamp`')})"
    return {"unreadable": masked_records(settings, "parsed", "event.error IS NOT NULL", columns, moment)}


def masked_records(settings: Settings, view: str, condition: str, columns: Sequence[str], moment: str) -> str:
    """SQL: columns of records, and key and value as letters have them. moment: of an event whose time is unreadable."""
    rest = ", ".join(f"`{name}`" for name in columns)
    if settings.privacy.keys_file is None:
        return f"SELECT `key`, `value`, {rest} FROM {view} WHERE {condition}"
    return f"""SELECT letter.`key` AS `key`, letter.`value` AS `value`, {rest} FROM (
  SELECT mask(`key`, `value`, {moment}) AS letter, {rest} FROM {view} WHERE {condition}
)"""
