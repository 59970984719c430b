"""All DDL and SQL in one place: tables over the topics, and the views that turn events into sessions."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from flink_jobs.security import flink_options
from flink_jobs.settings import BATCH_BYTES, LINGER_MS, Settings
from udfs.bundles.changes import FOLDER, SCHEMA
from udfs.contracts.fields import MIN_TIME_MS
from udfs.core.clock import DAY_MS
from udfs.events.columns import EVENT_COLUMNS, PACKED_COLUMNS
from udfs.lake.closing import CLOSING_COLUMNS
from udfs.lake.schema import DAY, TABLES, VERSION_COLUMN, events_schema, flink_columns, sessions_schema
from udfs.recommend.columns import RECOMMEND_COLUMNS

MAX_RECORD_BYTES = 16 * 1024 * 1024
#: Rows of a user that are looked through for repeats and for the time of the last event, at least; and how many more
#: than a session's events are kept, as repeats and late ones are among them.
LOOK_BACK, SPARE = 64, 8
#: Columns of a sink of records as they came.
RAW_RECORD = """  `key` BYTES,
  `value` BYTES,
  `headers` MAP<STRING NOT NULL, BYTES> METADATA,
  `timestamp` TIMESTAMP_LTZ(3) METADATA"""
#: Columns of a source of records as they came.
RAW_SOURCE = """  `key` BYTES,
  `value` BYTES,
  `headers` MAP<STRING NOT NULL, BYTES> METADATA,
  `topic` STRING METADATA VIRTUAL,
  `partition` INT METADATA VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL,
  `timestamp` TIMESTAMP_LTZ(3) METADATA"""
#: Columns of a readable event.
FIELDS = tuple(name for name in EVENT_COLUMNS if not name.startswith("error"))
#: Columns of a readable event that is packed for its session.
PACKED_FIELDS = tuple(name for name in PACKED_COLUMNS if not name.startswith("error"))
#: A closed session's arrays, by the column of an event that each of them collects.
ARRAYS = {
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
}


def literal(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def milliseconds(ms: int) -> str:
    """A SQL interval literal, of less than a thousand days."""
    days, rest = divmod(ms, DAY_MS)
    clock = f"{rest // 3_600_000}:{rest // 60_000 % 60:02d}:{rest // 1000 % 60:02d}.{rest % 1000:03d}"
    return f"INTERVAL '{days} {clock}' DAY(3) TO SECOND(3)"


def _table(name: str, columns: str, options: Mapping[str, str], partitioned: str = "") -> str:
    listed = ",\n  ".join(f"{literal(key)} = {literal(value)}" for key, value in options.items())
    return f"CREATE TEMPORARY TABLE {name} (\n{columns}\n) {partitioned}WITH (\n  {listed}\n)"


def _parsed(fields: Sequence[str]) -> str:
    return ", ".join(f"event.{name} AS {name}" for name in fields)


def _kafka(settings: Settings, topic: str, key: str) -> dict[str, str]:
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


def _source(settings: Settings, topic: str, group_suffix: str, startup: str) -> dict[str, str]:
    options = _kafka(settings, topic, "key") | {
        "properties.group.id": settings.kafka.group + group_suffix,
        "properties.auto.offset.reset": "earliest",
        "properties.isolation.level": "read_committed",  # what a producer took back never was
        "scan.startup.mode": startup,
    }
    return options | ({"scan.bounded.mode": "latest-offset"} if settings.kafka.bounded else {})


def _sink(settings: Settings, name: str) -> dict[str, str]:
    options: dict[str, str] = {
        "sink.delivery-guarantee": settings.sink.guarantee,
        # A dead letter is its record and the reason: larger than the producer's default, if the record was that large.
        "properties.max.request.size": str(MAX_RECORD_BYTES),
        # Room for some thirty answers in a request; of the producer's default size it has room for two.
        "properties.linger.ms": str(LINGER_MS),
        "properties.batch.size": str(BATCH_BYTES),
    }
    if settings.sink.guarantee == "exactly-once":
        options |= {
            "sink.transactional-id-prefix": f"{settings.sink.transactional_id_prefix}-{name}",
            "properties.transaction.timeout.ms": str(settings.sink.transaction_timeout),
        }
    return options


def clickstream_table(settings: Settings, time: str = "  `arrival` AS PROCTIME()", group_suffix: str = "") -> str:
    """The raw records of `clickstream`: bytes and their place, so that what cannot be read is not lost.

    time: columns that say what time it is. group_suffix: what the job's consumer group adds to kafka.group; jobs that
    shared one would begin where another has read to.
    """
    options = _source(settings, settings.topics.clickstream, group_suffix, settings.kafka.startup)
    return _table("clickstream", f"{RAW_SOURCE},\n{time}", options)


def catalog_table(settings: Settings) -> str:
    """The raw records of `catalog`, from the earliest on: a new job goes through all items, a restored one goes on."""
    options = _source(settings, settings.topics.catalog, "-catalog", "earliest-offset")
    return _table("catalog_records", RAW_SOURCE, options)


def segments_table(settings: Settings) -> str:
    """The sink of the items that were read, see udfs.segments; a file for each checkpoint that has any."""
    folder = settings.bundle_folder / FOLDER
    options = {"connector": "filesystem", "path": folder.as_uri(), "format": "parquet"}
    return _table("segments", flink_columns(SCHEMA), options)


def recommendations_table(settings: Settings) -> str:
    """The sink of the recommendations, key user_id."""
    options = _kafka(settings, settings.topics.recommendations, "user_id") | _sink(settings, "recommendations")
    return _table("recommendations", "  `user_id` STRING,\n  `value` STRING", options)


def dead_letter_table(settings: Settings, name: str = "dlq") -> str:
    """The sink of unreadable records, bytes as they came. name: of its transactions, another one in each job."""
    options = _kafka(settings, settings.topics.dlq, "key") | _sink(settings, name)
    return _table("dead_letters", RAW_RECORD, options)


def session_views(settings: Settings) -> dict[str, str]:
    """Views by name, in order: readable events, then each event with its session up to and with it.

    Nothing waits for a watermark: rows are taken in the order of arrival, which per user is Kafka's.
    An event that has its id among the user's last events (LOOK_BACK or session.max_events and SPARE, the larger) is
    dropped before it can count in a session; a repeat from further back is caught by `answers`.
    A session opens with an event session.gap or more after everything before it. An event session.gap or more
    before the session's opening belongs to an own, late one: sessions are keyed by their opening time and that.
    `events` are the user's last ones since the latest opening, repeats and other sessions' late ones among them, which
    udfs.sessions.Sessions.own leaves out.
    """
    gap, look_back = settings.session.gap, max(LOOK_BACK, settings.session.max_events + SPARE)
    told = ", ".join(name for name in PACKED_FIELDS if name != "packed")
    return {
        "parsed": "SELECT *, parse(`value`) AS event FROM clickstream",
        "events": f"SELECT {_parsed(PACKED_FIELDS)}, arrival\nFROM parsed WHERE event.error IS NULL",
        "arrivals": f"""SELECT {told}, arrival,
  ARRAY_AGG(event_id) OVER w AS ids, ARRAY_AGG(event_time) OVER w AS times, ARRAY_AGG(packed) OVER w AS last_events
FROM events
WINDOW w AS (PARTITION BY user_id ORDER BY arrival ROWS BETWEEN {look_back} PRECEDING AND CURRENT ROW)""",
        "fresh": f"""SELECT {told}, arrival, times, last_events,
  CASE WHEN CARDINALITY(times) = 1 OR event_time - ARRAY_MAX(ARRAY_SLICE(times, 1, -2)) >= {gap}
    THEN event_time END AS opens
FROM arrivals WHERE ARRAY_POSITION(ids, event_id) = CARDINALITY(ids)""",
        # The first event after this step's state has expired opens a session, whatever the step before remembers.
        "opened": f"""SELECT {told}, arrival, times, last_events,
  COALESCE(MAX(opens) OVER w, FIRST_VALUE(event_time) OVER w) AS latest_opening
FROM fresh WINDOW w AS (PARTITION BY user_id ORDER BY arrival)""",
        # The time of the latest opening is first met in it: all events before it are session.gap older, or more.
        "keyed": f"""SELECT {told}, arrival, event_time <= latest_opening - {gap} AS is_late,
  CASE WHEN event_time <= latest_opening - {gap} THEN event_time ELSE latest_opening END AS opening,
  ARRAY_SLICE(last_events, GREATEST(ARRAY_POSITION(times, latest_opening), 1)) AS events
FROM opened""",
        "in_session": f"""SELECT {told}, arrival, events,
  MIN(event_time) OVER w AS session_start, MAX(event_time) OVER w AS session_end, COUNT(*) OVER w AS session_events
FROM keyed WINDOW w AS (PARTITION BY user_id, opening, is_late ORDER BY arrival)""",
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
    moment = f"COALESCE(event.event_time, {_epoch_ms('`timestamp`')})"
    return {"unreadable": _letters(settings, "parsed", "event.error IS NOT NULL", columns, moment)}


def _letters(settings: Settings, view: str, condition: str, columns: Sequence[str], moment: str) -> str:
    """SQL: columns of records, and key and value as letters have them. moment: of an event whose time is unreadable."""
    rest = ", ".join(f"`{name}`" for name in columns)
    if settings.keys_file is None:
        return f"SELECT `key`, `value`, {rest} FROM {view} WHERE {condition}"
    return f"""SELECT letter.`key` AS `key`, letter.`value` AS `value`, {rest} FROM (
  SELECT mask(`key`, `value`, {moment}) AS letter, {rest} FROM {view} WHERE {condition}
)"""


ITEMS_VIEW = "SELECT *, read_items(`key`, `value`) AS item FROM catalog_records"


def insert_segments() -> str:
    """The items that could be read, and those that were removed, to the segments."""
    columns = {name: f"item.{name}" for name in SCHEMA.names}
    columns |= {"written": _epoch_ms("`timestamp`"), "offset": "`offset`"}
    listed = ", ".join(f"{value} AS `{name}`" for name, value in columns.items())
    return f"INSERT INTO segments SELECT {listed} FROM items WHERE item.error IS NULL"


def _epoch_ms(time: str) -> str:
    """SQL for the epoch ms of a TIMESTAMP_LTZ(3)."""
    return f"""UNIX_TIMESTAMP(DATE_FORMAT({time}, 'yyyy-MM-dd HH:mm:ss')) * 1000 + EXTRACT(MILLISECOND FROM {time})"""


# --- closed sessions --------------------------------------------------------------------------------------------------

_RFC_3339 = r"^(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,3})?)\d*(?:[Zz]|[+-]\d\d:?\d\d)$"


def event_time(value: str) -> str:
    """SQL for the event_time (TIMESTAMP_LTZ(3)) of a `clickstream` value (BYTES), null where it cannot be read.

    The same as udfs.events.parse_event's for all that it reads: integer epoch ms, or RFC 3339 with T, t or a space, Z,
    z or an offset, and a fraction that is rounded to microseconds, then down to milliseconds: .…9995 is the next one.
    Built-in functions alone can do that in the Kafka source.
    """
    text = f"JSON_VALUE(CAST({value} AS STRING), '$.event_time')"
    clock = f"OVERLAY(REGEXP_EXTRACT({text}, {literal(_RFC_3339)}, 1) PLACING ' ' FROM 11 FOR 1)"
    # What remains without date, time and fraction is the offset; 1970 began at minus the offset.
    offset = f"UNIX_TIMESTAMP('19700101' || REGEXP_REPLACE(UPPER({text}), '^.{{19}}(\\.\\d+)?|:', ''), 'yyyyMMddXX')"
    rounded = f"CASE WHEN REGEXP({text}, '\\.\\d{{3}}999[5-9]') THEN 1 ELSE 0 END"
    return f"""COALESCE(TO_TIMESTAMP_LTZ(TRY_CAST({text} AS BIGINT), 3),
    CAST(TRY_CAST({clock} AS TIMESTAMP(3)) AS TIMESTAMP_LTZ(3))
    + INTERVAL '1' SECOND * {offset} + INTERVAL '0.001' SECOND * {rounded})"""


def timed_clickstream_table(settings: Settings) -> str:
    """`clickstream` with the event time as `rowtime`, and watermarks partition by partition in the Kafka source.

    An event time further ahead of its record's timestamp than watermark.ahead moves the watermark no further, so a
    device with a wrong clock closes nobody's session; a time that cannot be read never moves it.
    """
    wait = settings.watermark
    time = f"""  `rowtime` AS COALESCE({event_time("`value`")}, TO_TIMESTAMP_LTZ({MIN_TIME_MS}, 3)),
  WATERMARK FOR `rowtime` AS LEAST(`rowtime`, `timestamp` + {milliseconds(wait.ahead)}) - {milliseconds(wait.delay)}"""
    return clickstream_table(settings, time, "-session-features")


def session_features_table(settings: Settings) -> str:
    """The sink of closed sessions, key user_id."""
    options = _kafka(settings, settings.topics.session_features, "user_id") | _sink(settings, "session-features")
    return _table("session_features", "  `user_id` STRING,\n  `value` STRING", options)


def late_table(settings: Settings) -> str:
    """The sink of late events, bytes as they came."""
    options = _kafka(settings, settings.topics.late, "key") | _sink(settings, "late")
    return _table("late", RAW_RECORD, options)


def lake_table(settings: Settings, name: str, *, streaming: bool) -> str:
    """`lake_<name>`: a table of the lake, by UTC day; the files that a stream makes for one checkpoint become one."""
    options = {"connector": "filesystem", "path": (settings.lake_folder / name).as_uri(), "format": "parquet"}
    if streaming:
        # Catching up, a file is open for each day between two checkpoints: no memory for dictionaries in each of them.
        options |= {"auto-compaction": "true", "parquet.enable.dictionary": "false"}
    columns = f"{flink_columns(TABLES[name]())},\n  `{DAY.name}` STRING"
    return _table(f"lake_{name}", columns, options, f"PARTITIONED BY (`{DAY.name}`) ")


def recorded_table(folder: str) -> str:
    """`recorded`: events in Parquet files of the schema `recorded_schema` (a URI)."""
    options = {"connector": "filesystem", "path": folder, "format": "parquet"}
    return _table("recorded", flink_columns(recorded_schema()), options)


def recorded_schema() -> pa.Schema:
    """Columns of an event, as the lake types them."""
    return pa.schema([field for field in events_schema() if field.name in FIELDS])


def window_views(settings: Settings) -> dict[str, str]:
    """Views by name, in order, of a stream: events with whether they are late, then sessions on close with all events.

    Flink's session windows also merge when they only touch, and a session's events are less than session.gap apart:
    windows are a millisecond shorter. An event is late when the watermark has passed the window that it would open;
    then none that is not late is dropped by the window operator. One whose time only Python can read (a number of more
    than a thousand digits beside it) would stand in a wrong window, and is treated as late.
    """
    gap = settings.session.gap - 1
    late = f"""COALESCE(CURRENT_WATERMARK(rowtime) >= rowtime + {milliseconds(gap - 1)}, FALSE)
  OR rowtime <> TO_TIMESTAMP_LTZ(event.event_time, 3)"""
    return {
        "parsed": "SELECT *, parse(`value`) AS event FROM clickstream",
        "readable": f"""SELECT `key`, `value`, `headers`, `timestamp`, rowtime, {_parsed(FIELDS)},
  CURRENT_WATERMARK(rowtime) AS closed_to, {late} AS is_late
FROM parsed WHERE event.error IS NULL""",
        "belated": _letters(
            settings, "readable", "is_late", ("headers", "timestamp", "closed_to", "event_time"), "event_time"
        ),
        "on_time": f"SELECT {', '.join(FIELDS)}, rowtime FROM readable WHERE NOT is_late",
        "closed": f"""SELECT user_id, {_collected()}
FROM SESSION(TABLE on_time PARTITION BY user_id, DESCRIPTOR(rowtime), {milliseconds(gap)})
GROUP BY user_id, window_start, window_end""",
    }


def batch_views(settings: Settings) -> dict[str, str]:
    """Views by name, in order, of recorded events: each event's session by the user's times, then whole sessions."""
    user = "PARTITION BY user_id ORDER BY event_time"
    return {
        "gaps": f"SELECT *, event_time - LAG(event_time) OVER ({user}) AS gap FROM recorded",
        "numbered": f"""SELECT *, SUM(CASE WHEN gap < {settings.session.gap} THEN 0 ELSE 1 END)
  OVER ({user} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS nth
FROM gaps""",
        "closed": f"SELECT user_id, {_collected()} FROM numbered GROUP BY user_id, nth",
    }


def _collected() -> str:
    """A session's columns as CLOSING_COLUMNS names them."""
    arrays = ",\n  ".join(f"ARRAY_AGG({column}) AS {array}" for column, array in ARRAYS.items())
    return f"""MIN(event_time) AS session_start, MAX(event_time) AS session_end, COUNT(*) AS session_events,
  {arrays}"""


def lake_views() -> dict[str, str]:
    """Views by name, in order: `described` closed sessions, and the rows of both of the lake's tables."""
    sessions = ", ".join(f"session.sessions__{name} AS {_quoted(name)}" for name in sessions_schema().names)
    told = {VERSION_COLUMN, "session_id"}
    events = ", ".join(
        f"session.{'sessions__' + name if name in told else f'events__{name}[nth]'} AS {_quoted(name)}"
        for name in events_schema().names
    )
    return {
        "described": f"SELECT user_id, close_sessions({', '.join(CLOSING_COLUMNS)}) AS session FROM closed",
        "session_rows": f"SELECT {sessions}, {_day('session.sessions__session_start')} FROM described",
        "event_rows": f"SELECT {events}, {_day('happened')} FROM described\n"
        "CROSS JOIN UNNEST(described.session.events__event_time) WITH ORDINALITY AS e(happened, nth)",
    }


def recounted_view() -> dict[str, str]:
    """`recounted`: session_rows that were computed from the lake's events, which are cleaned already.

    What cleaning counted as they came is carried over from the lake's row of the same session.
    """
    counts = ("repeats", "repaired")
    columns = ", ".join(
        f"s.{name} + COALESCE(o.{name}, 0) AS {name}" if name in counts else f"s.{_quoted(name)}"
        for name in (*sessions_schema().names, DAY.name)
    )
    same = " AND ".join(f"s.{name} = o.{name}" for name in ("session_id", _quoted(DAY.name)))
    return {"recounted": f"SELECT {columns} FROM session_rows AS s LEFT JOIN lake_sessions AS o ON {same}"}


def _quoted(name: str) -> str:
    return f"`{name}`"


def _day(time: str) -> str:
    """The UTC day of epoch ms."""
    return f"DATE_FORMAT(TO_TIMESTAMP_LTZ({time}, 3), 'yyyy-MM-dd') AS `{DAY.name}`"


INSERT_SESSION_FEATURES = "INSERT INTO session_features SELECT user_id, session.record FROM described"

INSERT_LATE = f"""INSERT INTO late
SELECT `key`, `value`, MAP_UNION(`headers`, MAP['lateness_ms', CAST(CAST(COALESCE(
  {_epoch_ms("closed_to")} - event_time, 0) AS STRING) AS BYTES)]), `timestamp`
FROM belated"""
