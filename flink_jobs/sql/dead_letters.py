"""Dead letters: unreadable records, unchanged but for masked user ids, with the reason in their headers."""

from collections.abc import Sequence

from flink_jobs.settings.settings import Settings
from flink_jobs.sql.ddl import epoch_ms_of, literal, raw_sink

#: The parser that refused a record, in the header `__connect.errors.class.name`. A public contract: consumers compare
#: these, so they stay as they are wherever the code moves.
EVENT_PARSER, ITEM_PARSER = "udfs.events.parse_event", "udfs.catalog.parse_item"


def dead_letter_table(settings: Settings, name: str = "dlq") -> str:
    """Writes the DDL of `dead_letters`, the sink of unreadable records. name: of its transactions; one per job."""
    return raw_sink(settings, "dead_letters", settings.topics.dlq, name)


def insert_dead_letters(view: str, parsed: str, parser: str) -> str:
    """Sends unreadable records to the dead letters. parsed: the view's column with the errors; parser: its maker."""
    return f"""INSERT INTO dead_letters
SELECT `key`, `value`, MAP_UNION(`headers`, MAP[
  '__connect.errors.topic', CAST(`topic` AS BYTES),
  '__connect.errors.partition', CAST(CAST(`partition` AS STRING) AS BYTES),
  '__connect.errors.offset', CAST(CAST(`offset` AS STRING) AS BYTES),
  '__connect.errors.stage', CAST('VALUE_CONVERTER' AS BYTES),
  '__connect.errors.class.name', CAST({literal(parser)} AS BYTES),
  '__connect.errors.exception.class.name', CAST({parsed}.error_class AS BYTES),
  '__connect.errors.exception.message', CAST({parsed}.error AS BYTES)
]), `timestamp` FROM {view} WHERE {parsed}.error IS NOT NULL"""


INSERT_DEAD_LETTERS = insert_dead_letters("unreadable", "event", EVENT_PARSER)


def dead_letter_view(settings: Settings) -> dict[str, str]:
    """Defines `unreadable`: unreadable events as dead letters."""
    columns = ("headers", "topic", "partition", "offset", "timestamp", "event")
    moment = f"COALESCE(event.event_time, {epoch_ms_of('`timestamp`')})"
    return {"unreadable": masked_records(settings, "parsed", "event.error IS NOT NULL", columns, moment)}


def masked_records(settings: Settings, view: str, condition: str, columns: Sequence[str], moment: str) -> str:
    """Selects columns of records, with key and value masked if there are pseudonyms.

    moment: SQL for the epoch ms whose key masks an event that has no readable time.
    """
    rest = ", ".join(f"`{name}`" for name in columns)
    if settings.privacy.keys_file is None:
        return f"SELECT `key`, `value`, {rest} FROM {view} WHERE {condition}"
    return f"""SELECT letter.`key` AS `key`, letter.`value` AS `value`, {rest} FROM (
  SELECT mask(`key`, `value`, {moment}) AS letter, {rest} FROM {view} WHERE {condition}
)"""
