"""Dead letters: unreadable records, unchanged but for masked user ids, with the reason in their headers."""

from collections.abc import Sequence

from flink_jobs.settings.settings import Settings
from flink_jobs.sql.ddl import epoch_ms_of, literal, raw_sink

#: The parser that refused a record, in the header `__connect.errors.class.name`. A public contract: consumers compare
#: these, so they stay as they are wherever the code moves.
EVENT_PARSER, ITEM_PARSER = "udfs.events.parse_event", "udfs.catalog.parse_item"
#: Characters of the reason in a letter that is cut.
MAX_CUT_MESSAGE = 1024
_ONE_BYTE = "'ISO-8859-1'"


def dead_letter_table(settings: Settings, name: str = "dlq") -> str:
    """Writes the DDL of `dead_letters`, the sink of unreadable records. name: of its transactions; one per job."""
    return raw_sink(settings, "dead_letters", settings.topics.dlq, name)


def insert_dead_letters(settings: Settings, view: str = "unreadable", parsed: str = "event") -> str:
    """Sends unreadable records to the dead letters. parsed: the view's column with the errors.

    A letter that is larger than sink.letter_bytes is cut, so that no record can stop the job: its key and its own
    headers are kept up to a quarter each, its value gets what is left, and a header has the value's length.
    """
    room = settings.sink.letter_bytes
    parser = ITEM_PARSER if parsed == "item" else EVENT_PARSER
    own = f"""'__connect.errors.topic', CAST(`topic` AS BYTES),
  '__connect.errors.partition', CAST(CAST(`partition` AS STRING) AS BYTES),
  '__connect.errors.offset', CAST(CAST(`offset` AS STRING) AS BYTES),
  '__connect.errors.stage', CAST('VALUE_CONVERTER' AS BYTES),
  '__connect.errors.class.name', CAST({literal(parser)} AS BYTES),
  '__connect.errors.exception.class.name', CAST({parsed}.error_class AS BYTES),
  '__connect.errors.exception.message'"""
    whole = f"MAP[{own}, CAST({parsed}.error AS BYTES)]"
    cut = f"""MAP[{own}, CAST(LEFT({parsed}.error, {MAX_CUT_MESSAGE}) AS BYTES),
  '__connect.errors.value.bytes', CAST(CAST(value_bytes AS STRING) AS BYTES)]"""
    left = f"GREATEST({room // 2}, {room} - key_bytes - header_bytes)"
    return f"""INSERT INTO dead_letters
SELECT IF(is_large, CAST(`key` AS VARBINARY({room // 4})), `key`),
  IF(is_large, ENCODE(SUBSTRING({_characters("`value`")} FROM 1 FOR {left}), {_ONE_BYTE}), `value`),
  CASE WHEN NOT is_large THEN MAP_UNION(`headers`, {whole})
    WHEN header_bytes <= {room // 4} THEN MAP_UNION(`headers`, {cut}) ELSE {cut} END,
  `timestamp`
FROM (
  SELECT *, key_bytes + value_bytes + header_bytes + 4 * CHAR_LENGTH({parsed}.error) > {room} AS is_large FROM (
    SELECT *, COALESCE(CHAR_LENGTH({_characters("`key`")}), 0) AS key_bytes,
      COALESCE(CHAR_LENGTH({_characters("`value`")}), 0) AS value_bytes,
      4 * CHAR_LENGTH(CAST(`headers` AS STRING)) AS header_bytes
    FROM {view} WHERE {parsed}.error IS NOT NULL
  )
)"""


def _characters(column: str) -> str:
    """Writes bytes as a string of as many characters, as SQL measures and cuts strings alone."""
    return f"DECODE({column}, {_ONE_BYTE})"


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
