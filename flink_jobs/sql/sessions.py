"""Turns the clickstream into sessions: each event with its session up to and including it."""

from flink_jobs.settings.settings import Settings
from flink_jobs.sql.ddl import RAW_SOURCE, create_table, event_fields, source_options
from udfs.events.columns import PACKED_COLUMNS

#: Rows of a user that are looked through for repeats and for the time of the last event, at least; and how many more
#: than a session's events are kept, as repeats and late ones are among them.
DEDUP_ROWS, HEADROOM = 64, 8
#: Columns of a readable event that is packed for its session.
PACKED_FIELDS = tuple(name for name in PACKED_COLUMNS if not name.startswith("error"))


def clickstream_table(settings: Settings, time: str = "  `arrival` AS PROCTIME()", group_suffix: str = "") -> str:
    """The raw records of `clickstream`: bytes and their place, so that what cannot be read is not lost.

    time: columns that say what time it is. group_suffix: what the job's consumer group adds to kafka.group; jobs that
    shared one would begin where another has read to.
    """
    options = source_options(settings, settings.topics.clickstream, group_suffix, settings.kafka.startup)
    return create_table("clickstream", f"{RAW_SOURCE},\n{time}", options)


def session_views(settings: Settings) -> dict[str, str]:
    """Views by name, in order: readable events, then each event with its session up to and with it.

    Nothing waits for a watermark: rows are taken in the order of arrival, which per user is Kafka's.
    An event that has its id among the user's last events (DEDUP_ROWS or session.max_events and HEADROOM, the larger) is
    dropped before it can count in a session; a repeat from further back is caught by `answers`.
    A session opens with an event session.gap or more after everything before it. An event session.gap or more
    before the session's opening belongs to an own, late one: sessions are keyed by their opening time and that.
    `events` are the user's last ones since the latest opening, repeats and other sessions' late ones among them, which
    udfs.sessions.Sessions.own leaves out.
    """
    gap, look_back = settings.session.gap, max(DEDUP_ROWS, settings.session.max_events + HEADROOM)
    told = ", ".join(name for name in PACKED_FIELDS if name != "packed")
    return {
        "parsed": "SELECT *, parse(`value`) AS event FROM clickstream",
        "events": f"SELECT {event_fields(PACKED_FIELDS)}, arrival\nFROM parsed WHERE event.error IS NULL",
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
