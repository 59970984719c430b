"""Turns the clickstream into sessions: each event with its session up to and including it."""

from flink_jobs.settings.settings import Settings
from flink_jobs.sql.ddl import RAW_SOURCE, create_table, event_fields, milliseconds, source_options
from udfs.events.columns import ANONYMOUS_ID, PACKED_COLUMNS

#: Minimum rows per user kept for deduplication and gap detection.
DEDUP_ROWS = 64
#: Extra rows kept besides a session's events, for duplicates and late events among them.
HEADROOM = 8
#: Columns of a readable event that is packed for its session.
PACKED_FIELDS = tuple(name for name in PACKED_COLUMNS if not name.startswith("error"))


def clickstream_table(settings: Settings, time: str = "  `arrival` AS PROCTIME()", group_suffix: str = "") -> str:
    """Writes the DDL of `clickstream`, raw.

    time: the columns with the row's time. group_suffix: appended to kafka.group for the job's consumer group; jobs that
    shared one would start where another has read to.
    """
    options = source_options(settings, settings.topics.clickstream, group_suffix, settings.kafka.startup)
    return create_table("clickstream", f"{RAW_SOURCE},\n{time}", options)


def window_rows(settings: Settings) -> int:
    """Returns how many rows of a visitor before the current one are known."""
    return max(DEDUP_ROWS, settings.session.max_events + HEADROOM)


def session_views(settings: Settings) -> dict[str, str]:
    """Defines, in order, readable events, then each event with its session up to and including it.

    Nothing waits for a watermark: rows are taken in the order of arrival, which per key is Kafka's.
    An event that is further ahead of its record's timestamp than watermark.ahead comes from a wrong clock. A visitor's
    events of such clocks have sessions of their own, apart from all others: they neither open nor close those.
    A repeat, with the id and the content of an event among the visitor's latest rows, is dropped before it can count in
    a session: of DEDUP_ROWS, or session.max_events and HEADROOM, whichever is more. `answers` catches those from
    further back. An event with a used id and other content is another event; `id_reused` tells of it.
    Sessions are of a visitor: an anonymous_id with session.join_logins, where there is one, or else a user_id. One
    opens with an event session.gap or more after everything before it, or when another user logs in. An event
    session.gap or more before the session's opening belongs to a late session of its own: sessions are keyed by their
    opening time and whether they are late. `events` are the visitor's latest since the latest opening. Duplicates and
    other sessions' late events are among them, and Python leaves them out.
    """
    gap, rows = settings.session.gap, window_rows(settings)
    fields = ", ".join(name for name in PACKED_FIELDS if name not in ("packed", ANONYMOUS_ID))
    columns = f"{fields}, visitor, is_ahead"
    visitor, logged_in = "event.user_id", "CAST(NULL AS STRING)"
    if settings.session.join_logins:
        # A cookie is no user of the same name.
        visitor = f"COALESCE(U&'\\0001' || event.{ANONYMOUS_ID}, event.user_id)"
        logged_in = f"CASE WHEN event.user_id <> event.{ANONYMOUS_ID} THEN event.user_id END"
    earlier_users = "ARRAY_REVERSE(ARRAY_REMOVE(ARRAY_SLICE(users, 1, -2), CAST(NULL AS STRING)))"
    return {
        "parsed": "SELECT *, parse(`value`) AS event FROM clickstream",
        "events": f"""SELECT {event_fields(PACKED_FIELDS)}, {visitor} AS visitor, {logged_in} AS logged_in, arrival,
  TO_TIMESTAMP_LTZ(event.event_time, 3) > `timestamp` + {milliseconds(settings.watermark.ahead)} AS is_ahead
FROM parsed WHERE event.error IS NULL""",
        "arrivals": f"""SELECT {columns}, logged_in, arrival,
  ARRAY_AGG(event_id) OVER w AS ids, ARRAY_AGG(event_time) OVER w AS times, ARRAY_AGG(packed) OVER w AS last_events,
  ARRAY_AGG(logged_in) OVER w AS users
FROM events
WINDOW w AS (PARTITION BY visitor, is_ahead ORDER BY arrival ROWS BETWEEN {rows} PRECEDING AND CURRENT ROW)""",
        "fresh": f"""SELECT {columns}, arrival, times, last_events,
  ARRAY_POSITION(ids, event_id) < CARDINALITY(ids) AS id_reused,
  CASE WHEN CARDINALITY(times) = 1 OR event_time - ARRAY_MAX(ARRAY_SLICE(times, 1, -2)) >= {gap}
    OR logged_in <> {earlier_users}[1] THEN event_time END AS opens
FROM arrivals
WHERE ARRAY_POSITION(ids, event_id) = CARDINALITY(ids)
  OR ARRAY_POSITION(last_events, last_events[CARDINALITY(last_events)]) = CARDINALITY(last_events)""",
        # The first event after this step's state has expired opens a session, whatever the previous step remembers.
        "opened": f"""SELECT {columns}, id_reused, arrival, times, last_events,
  COALESCE(MAX(opens) OVER w, FIRST_VALUE(event_time) OVER w) AS latest_opening
FROM fresh WINDOW w AS (PARTITION BY visitor, is_ahead ORDER BY arrival)""",
        # The first row with the time of the latest opening is that event: all earlier ones are session.gap older, or
        # from before another user's login.
        "keyed": f"""SELECT {columns}, id_reused, arrival, event_time <= latest_opening - {gap} AS is_late,
  CASE WHEN event_time <= latest_opening - {gap} THEN event_time ELSE latest_opening END AS opening,
  ARRAY_SLICE(last_events, GREATEST(ARRAY_POSITION(times, latest_opening), 1)) AS events
FROM opened""",
        "in_session": f"""SELECT {columns}, id_reused, arrival, events,
  MIN(event_time) OVER w AS session_start, MAX(event_time) OVER w AS session_end, SUM(items) OVER w AS session_events
FROM keyed WINDOW w AS (PARTITION BY visitor, is_ahead, opening, is_late ORDER BY arrival)""",
    }
