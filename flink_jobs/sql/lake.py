"""The lake's tables, and the rows of closed sessions that go into them."""

import pyarrow as pa

from flink_jobs.settings.settings import Settings
from flink_jobs.sql.ddl import FIELDS, create_table, quoted
from udfs.core.paths import flink_uri
from udfs.lake.closing import CLOSING_COLUMNS
from udfs.lake.schema import DAY, TABLES, VERSION_COLUMN, events_schema, flink_columns, sessions_schema

#: Names the lake's own events as the source of a backfill, instead of a file.
LAKE = "lake"


def lake_table(settings: Settings, name: str, *, streaming: bool) -> str:
    """Writes the DDL of `lake_<name>`, a table of the lake by UTC day. A stream compacts each checkpoint's files."""
    options = {"connector": "filesystem", "path": flink_uri(settings.lake_folder / name), "format": "parquet"}
    if streaming:
        # While catching up, one file per day is open between checkpoints: dictionaries would take memory in each.
        options |= {"auto-compaction": "true", "parquet.enable.dictionary": "false"}
    columns = f"{flink_columns(TABLES[name]())},\n  `{DAY.name}` STRING"
    return create_table(f"lake_{name}", columns, options, f"PARTITIONED BY (`{DAY.name}`) ")


def recorded_table(folder: str) -> str:
    """Writes the DDL of `recorded`: events in Parquet files with the columns of `recorded_schema`. folder: a URI."""
    options = {"connector": "filesystem", "path": folder, "format": "parquet"}
    return create_table("recorded", flink_columns(recorded_schema()), options)


def recorded_schema() -> pa.Schema:
    """Returns the columns of an event with the lake's types."""
    return pa.schema([field for field in events_schema() if field.name in FIELDS])


def lake_views() -> dict[str, str]:
    """Defines, in order, `described` closed sessions, and the rows of both of the lake's tables."""
    sessions = ", ".join(f"session.sessions__{name} AS {quoted(name)}" for name in sessions_schema().names)
    of_session = {VERSION_COLUMN, "session_id"}
    events = ", ".join(
        f"session.{'sessions__' + name if name in of_session else f'events__{name}[nth]'} AS {quoted(name)}"
        for name in events_schema().names
    )
    return {
        "described": f"SELECT user_id, close_sessions({', '.join(CLOSING_COLUMNS)}) AS session FROM closed",
        "session_rows": f"SELECT {sessions}, {_day('session.sessions__session_start')} FROM described",
        "event_rows": f"SELECT {events}, {_day('happened')} FROM described\n"
        "CROSS JOIN UNNEST(described.session.events__event_time) WITH ORDINALITY AS e(happened, nth)",
    }


def recounted_view() -> dict[str, str]:
    """Defines `recounted`: session_rows computed from the lake's events, which are cleaned already.

    What cleaning once counted is carried over from the lake's row of the same session.
    """
    counts = ("repeats", "repaired")
    columns = ", ".join(
        f"s.{name} + COALESCE(o.{name}, 0) AS {name}" if name in counts else f"s.{quoted(name)}"
        for name in (*sessions_schema().names, DAY.name)
    )
    same = " AND ".join(f"s.{name} = o.{name}" for name in ("session_id", quoted(DAY.name)))
    return {"recounted": f"SELECT {columns} FROM session_rows AS s LEFT JOIN lake_sessions AS o ON {same}"}


def _day(time: str) -> str:
    """Writes the UTC day of epoch ms."""
    return f"DATE_FORMAT(TO_TIMESTAMP_LTZ({time}, 3), 'yyyy-MM-dd') AS `{DAY.name}`"
