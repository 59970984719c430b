"""All DDL and SQL in one place: tables over the topics, and the views that turn events into sessions."""

from collections.abc import Mapping

from flink_jobs.settings import Settings
from udfs.events import EVENT_COLUMNS
from udfs.recommend import RECOMMEND_COLUMNS

MAX_RECORD_BYTES = 16 * 1024 * 1024
#: Rows of a user that are looked through for repeats and for the time of the last event, at least.
LOOK_BACK = 64


def literal(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def _table(name: str, columns: str, options: Mapping[str, str]) -> str:
    listed = ",\n  ".join(f"{literal(key)} = {literal(value)}" for key, value in options.items())
    return f"CREATE TEMPORARY TABLE {name} (\n{columns}\n) WITH (\n  {listed}\n)"


def _kafka(settings: Settings, topic: str, key: str) -> dict[str, str]:
    return {
        "connector": "kafka",
        "topic": topic,
        "properties.bootstrap.servers": settings.kafka.bootstrap,
        "key.format": "raw",
        "key.fields": key,
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
    }


def _sink(settings: Settings, name: str) -> dict[str, str]:
    options: dict[str, str] = {
        "sink.delivery-guarantee": settings.sink.guarantee,
        # A dead letter is its record and the reason: larger than the producer's default, if the record was that large.
        "properties.max.request.size": str(MAX_RECORD_BYTES),
    }
    if settings.sink.guarantee == "exactly-once":
        options |= {
            "sink.transactional-id-prefix": f"{settings.sink.transactional_id_prefix}-{name}",
            "properties.transaction.timeout.ms": str(settings.sink.transaction_timeout),
        }
    return options


def clickstream_table(settings: Settings) -> str:
    """The raw records of `clickstream`: bytes and their place, so that what cannot be read is not lost."""
    options = _kafka(settings, settings.topics.clickstream, "key") | {
        "properties.group.id": settings.kafka.group,
        "properties.auto.offset.reset": "earliest",
        "scan.startup.mode": settings.kafka.startup,
    }
    if settings.kafka.bounded:
        options["scan.bounded.mode"] = "latest-offset"
    columns = """  `key` BYTES,
  `value` BYTES,
  `headers` MAP<STRING NOT NULL, BYTES> METADATA,
  `topic` STRING METADATA VIRTUAL,
  `partition` INT METADATA VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL,
  `timestamp` TIMESTAMP_LTZ(3) METADATA,
  `arrival` AS PROCTIME()"""
    return _table("clickstream", columns, options)


def recommendations_table(settings: Settings) -> str:
    """The sink of the recommendations, key user_id."""
    options = _kafka(settings, settings.topics.recommendations, "user_id") | _sink(settings, "recommendations")
    return _table("recommendations", "  `user_id` STRING,\n  `value` STRING", options)


def dead_letter_table(settings: Settings) -> str:
    """The sink of unreadable events, bytes as they came."""
    options = _kafka(settings, settings.topics.dlq, "key") | _sink(settings, "dlq")
    columns = """  `key` BYTES,
  `value` BYTES,
  `headers` MAP<STRING NOT NULL, BYTES> METADATA,
  `timestamp` TIMESTAMP_LTZ(3) METADATA"""
    return _table("dead_letters", columns, options)


def session_views(settings: Settings) -> dict[str, str]:
    """Views by name, in order: readable events, then each event with its session up to and with it.

    Nothing waits for a watermark: rows are taken in the order of arrival, which per user is Kafka's.
    An event that has its id among the user's last events (LOOK_BACK or session.max_events, the larger) is dropped
    before it can count in a session; a repeat from further back is caught by `answers`.
    A session opens with an event session.gap or more after everything before it. An event session.gap or more
    before the session's opening belongs to an own, late one: sessions are keyed by their opening time and that.
    """
    gap, rows = settings.session.gap, settings.session.max_events
    look_back = max(LOOK_BACK, rows)
    fields = [name for name in EVENT_COLUMNS if not name.startswith("error")]
    carried = ", ".join(fields)
    session = "PARTITION BY user_id, opening, is_late ORDER BY arrival"
    collected = ",\n  ".join(
        f"ARRAY_AGG({column}) OVER w AS {array}"
        for column, array in {
            "event_time": "event_times",
            "event_type": "event_types",
            "item_id": "item_ids",
            "query": "queries",
            "price": "prices",
            "quantity": "quantities",
            "rating": "ratings",
            "dwell_ms": "dwell_times",
            "event_id": "event_ids",
            "device": "devices",
            "timezone": "timezones",
            "returning": "returnings",
            "locale": "locales",
        }.items()
    )
    return {
        "parsed": "SELECT *, parse(`value`) AS event FROM clickstream",
        "events": f"SELECT {', '.join(f'event.{name} AS {name}' for name in fields)}, arrival\n"
        "FROM parsed WHERE event.error IS NULL",
        "arrivals": f"""SELECT {carried}, arrival,
  ARRAY_AGG(event_id) OVER w AS ids, ARRAY_AGG(event_time) OVER w AS times
FROM events
WINDOW w AS (PARTITION BY user_id ORDER BY arrival ROWS BETWEEN {look_back} PRECEDING AND CURRENT ROW)""",
        "fresh": f"""SELECT {carried}, arrival,
  CASE WHEN CARDINALITY(times) = 1 OR event_time - ARRAY_MAX(ARRAY_SLICE(times, 1, -2)) >= {gap}
    THEN event_time END AS opens
FROM arrivals WHERE ARRAY_POSITION(ids, event_id) = CARDINALITY(ids)""",
        # The first event after this step's state has expired opens a session, whatever the step before remembers.
        "opened": f"""SELECT {carried}, arrival,
  COALESCE(MAX(opens) OVER w, FIRST_VALUE(event_time) OVER w) AS latest_opening
FROM fresh WINDOW w AS (PARTITION BY user_id ORDER BY arrival)""",
        "keyed": f"""SELECT {carried}, arrival, event_time <= latest_opening - {gap} AS is_late,
  CASE WHEN event_time <= latest_opening - {gap} THEN event_time ELSE latest_opening END AS opening
FROM opened""",
        "placed": f"""SELECT {carried}, arrival, opening, is_late,
  MIN(event_time) OVER w AS session_start, MAX(event_time) OVER w AS session_end, COUNT(*) OVER w AS session_events
FROM keyed WINDOW w AS ({session})""",
        "in_session": f"""SELECT user_id, event_id, event_type, event_time, arrival,
  session_start, session_end, session_events,
  {collected}
FROM placed WINDOW w AS ({session} ROWS BETWEEN {rows - 1} PRECEDING AND CURRENT ROW)""",
    }


def answer_views(settings: Settings) -> dict[str, str]:
    """Views that answer each trigger, once: of one event_id within the state's time to live, the first answer."""
    triggers = ", ".join(literal(kind) for kind in sorted(settings.triggers))
    return {
        "answered": f"""SELECT user_id, event_id, arrival, recommend({", ".join(RECOMMEND_COLUMNS)}) AS `value`
FROM in_session WHERE event_type IN ({triggers})""",
        "answers": """SELECT user_id, `value` FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY user_id, event_id ORDER BY arrival) AS nth FROM answered
) WHERE nth = 1""",
    }


INSERT_RECOMMENDATIONS = "INSERT INTO recommendations SELECT user_id, `value` FROM answers"

INSERT_DEAD_LETTERS = """INSERT INTO dead_letters
SELECT `key`, `value`, MAP_UNION(`headers`, MAP[
  '__connect.errors.topic', CAST(`topic` AS BYTES),
  '__connect.errors.partition', CAST(CAST(`partition` AS STRING) AS BYTES),
  '__connect.errors.offset', CAST(CAST(`offset` AS STRING) AS BYTES),
  '__connect.errors.stage', CAST('VALUE_CONVERTER' AS BYTES),
  '__connect.errors.class.name', CAST('udfs.events.parse_event' AS BYTES),
  '__connect.errors.exception.class.name', CAST(event.error_class AS BYTES),
  '__connect.errors.exception.message', CAST(event.error AS BYTES)
]), `timestamp` FROM parsed WHERE event.error IS NOT NULL"""
