"""Closed sessions: event-time session windows over a stream, or over recorded events in batch mode."""

from flink_jobs.settings.settings import Settings
from flink_jobs.sql.ddl import FIELDS, epoch_ms_of, event_fields, literal, milliseconds, raw_sink, user_sink
from flink_jobs.sql.dead_letters import masked_records
from flink_jobs.sql.sessions import clickstream_table
from udfs.contracts.fields import MIN_TIME_MS
from udfs.events.columns import MORE_ITEMS, PACKED
from udfs.events.envelopes import Envelope
from udfs.events.registry import HEADER

#: Epoch ms in a whole number of ms, µs or ns: the first 13 of 13, 16 or 19 digits, and all of any other but 10 (s).
_MILLISECONDS = r"^\s*(\d{13}(?=(?:\d{3}){0,2}(?:\.0*)?\s*$)|(?!\d{10}\b)-?\d+(?=(?:\.0*)?\s*$))"

_RFC_3339 = (
    r"^\s*(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,3})?)\d*(?:[Zz]| ?[+-]\d\d(?::?\d\d)?|\s*(?i:UTC|GMT))\s*$"
)


#: Where the event's time is in a value, by the envelope around it.
_TIME_IN: dict[Envelope, tuple[str, ...]] = {
    "connect": ("$.payload.event_time",),
    "debezium": ("$.after.event_time", "$.payload.after.event_time"),
    "cloudevents": ("$.data.event_time",),
    "segment": ("$.timestamp",),
}


def event_time(value: str, envelope: Envelope = "none") -> str:
    """Writes the event_time (TIMESTAMP_LTZ(3)) of a `clickstream` value (BYTES), null if it is unreadable.

    It agrees with the parser of events on all that producers write: numbers of s, ms, µs and ns, told by their size, or
    RFC 3339 with T, t or a space, a zone, and a fraction that is rounded to microseconds, then down to milliseconds:
    .…9995 is the next one. Only built-in functions can do that in the Kafka source.
    """
    content = f"TRIM(LEADING U&'\\FEFF' FROM CAST({value} AS STRING))"
    if envelope == "schema-registry":  # one character per byte, so that the header is five
        behind = f"DECODE({value}, 'ISO-8859-1')"
        content = f"SUBSTRING({behind} FROM CASE WHEN {behind} LIKE '{{%' THEN 1 ELSE {HEADER + 1} END)"
    places = [f"JSON_VALUE({content}, {literal(path)})" for path in _TIME_IN.get(envelope, ("$.event_time",))]
    text = places[0] if len(places) == 1 else f"COALESCE({', '.join(places)})"
    milliseconds = f"REGEXP_EXTRACT({text}, {literal(_MILLISECONDS)}, 1)"
    number = f"TRY_CAST({text} AS DECIMAL(38, 6))"
    seconds = f"CASE WHEN {number} BETWEEN 1000000000 AND 9999999999 THEN FLOOR({number} * 1000) ELSE {number} END"
    clock = f"OVERLAY(REGEXP_EXTRACT({text}, {literal(_RFC_3339)}, 1) PLACING ' ' FROM 11 FOR 1)"
    # Without date, time and fraction, the offset remains; 1970 began at minus the offset.
    zone = f"REGEXP_REPLACE(UPPER({text}), '^\\s*.{{19}}(\\.\\d+)?|[:\\s]', '')"
    zone = f"RPAD(REGEXP_REPLACE({zone}, 'Z|UTC|GMT', '+0000'), 5, '0')"
    offset = f"UNIX_TIMESTAMP('19700101' || {zone}, 'yyyyMMddXX')"
    rounded = f"CASE WHEN REGEXP({text}, '\\.\\d{{3}}999[5-9]') THEN 1 ELSE 0 END"
    return f"""COALESCE(TO_TIMESTAMP_LTZ(TRY_CAST({milliseconds} AS BIGINT), 3),
    TO_TIMESTAMP_LTZ(CAST({seconds} AS BIGINT), 3),
    CAST(TRY_CAST({clock} AS TIMESTAMP(3)) AS TIMESTAMP_LTZ(3))
    + INTERVAL '1' SECOND * {offset} + INTERVAL '0.001' SECOND * {rounded})"""


def timed_clickstream_table(settings: Settings) -> str:
    """Writes the DDL of `clickstream` with the event time as `rowtime`, and watermarks per partition in the source.

    An event time further ahead of its record's timestamp than watermark.ahead moves the watermark no further, so a
    device with a wrong clock closes nobody's session. An unreadable time never moves it. The time of Avro is that of
    its record: SQL cannot read the event's.
    """
    wait = settings.watermark
    happened = "`timestamp`" if settings.may_be_avro else event_time("`value`", settings.clickstream.envelope)
    time = f"""  `rowtime` AS COALESCE({happened}, TO_TIMESTAMP_LTZ({MIN_TIME_MS}, 3)),
  WATERMARK FOR `rowtime` AS LEAST(`rowtime`, `timestamp` + {milliseconds(wait.ahead)}) - {milliseconds(wait.delay)}"""
    return clickstream_table(settings, time, "-session-features")


def session_features_table(settings: Settings) -> str:
    """Writes the DDL of `session_features`, the sink of closed sessions."""
    return user_sink(settings, "session_features", settings.topics.session_features, "session-features")


def late_table(settings: Settings) -> str:
    """Writes the DDL of `late`, the sink of late events."""
    return raw_sink(settings, "late", settings.topics.late, "late")


def window_views(settings: Settings) -> dict[str, str]:
    """Defines, in order, a stream's events with whether they are late, then closed sessions with all their events.

    Flink's session windows merge even when they only touch, but a session's events are less than session.gap apart:
    windows are a millisecond shorter. An event is late if the watermark has passed the window that it would open, so
    the window operator drops no event that is on time. An event whose time only Python can read (with a number of more
    than a thousand digits next to it) would land in a wrong window, and counts as late.
    """
    gap = settings.session.gap - 1
    late = f"COALESCE(CURRENT_WATERMARK(rowtime) >= rowtime + {milliseconds(gap - 1)}, FALSE)"
    if not settings.may_be_avro:
        late += " OR rowtime <> TO_TIMESTAMP_LTZ(event.event_time, 3)"
    return {
        "parsed": "SELECT *, parse(`value`) AS event FROM clickstream",
        "readable": f"""SELECT `key`, `value`, `headers`, `timestamp`, rowtime, {event_fields(FIELDS)},
  CURRENT_WATERMARK(rowtime) AS closed_to, {late} AS is_late
FROM parsed WHERE event.error IS NULL""",
        "late_records": masked_records(
            settings, "readable", "is_late", ("headers", "timestamp", "closed_to", "event_time"), "event_time"
        ),
        "on_time": f"SELECT {', '.join(FIELDS)}, rowtime FROM readable WHERE NOT is_late",
        "closed": f"""SELECT user_id, {_collected()}
FROM SESSION(TABLE on_time PARTITION BY user_id, DESCRIPTOR(rowtime), {milliseconds(gap)})
GROUP BY user_id, window_start, window_end""",
    }


def batch_views(settings: Settings) -> dict[str, str]:
    """Defines, in order, each recorded event's session by the user's event times, then whole sessions."""
    user = "PARTITION BY user_id ORDER BY event_time"
    return {
        "gaps": f"""SELECT *, CAST(NULL AS STRING) AS {MORE_ITEMS}, event_time - LAG(event_time) OVER ({user}) AS gap
FROM recorded""",
        "numbered": f"""SELECT *, SUM(CASE WHEN gap < {settings.session.gap} THEN 0 ELSE 1 END)
  OVER ({user} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS nth
FROM gaps""",
        "closed": f"SELECT user_id, {_collected()} FROM numbered GROUP BY user_id, nth",
    }


def _collected() -> str:
    """Aggregates a session's events to the columns of CLOSING_COLUMNS."""
    arrays = ",\n  ".join(f"ARRAY_AGG({name}) AS {name}" for name in PACKED)
    return f"""MIN(event_time) AS session_start, MAX(event_time) AS session_end, COUNT(*) AS session_events,
  {arrays}"""


INSERT_SESSION_FEATURES = "INSERT INTO session_features SELECT user_id, session.record FROM described"
INSERT_LATE = f"""INSERT INTO late
SELECT `key`, `value`, MAP_UNION(`headers`, MAP['lateness_ms', CAST(CAST(COALESCE(
  {epoch_ms_of("closed_to")} - event_time, 0) AS STRING) AS BYTES)]), `timestamp`
FROM late_records"""
