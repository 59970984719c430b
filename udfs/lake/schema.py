"""The lake: closed sessions and their events as Parquet files by UTC day, and the one declaration of their columns.

    <lake>/sessions/day=YYYY-MM-DD/   Parquet files, one row per closed session, on the day of its start
    <lake>/events/day=YYYY-MM-DD/     Parquet files, one row per cleaned event, on the event's day

A file whose name begins with `.` or `_` is ignored; any other is data, whatever its suffix.
Columns are only added, never renamed, removed or given another type: a column that an old file lacks is null. The
meaning of a column changes with VERSION only, which every row carries in `schema_version`.
"""

from collections.abc import Callable

import pyarrow as pa

from udfs.core.errors import ShopstreamError
from udfs.events.columns import ARROW_TYPES, EVENT_COLUMNS, EVENTS
from udfs.features.registry import arrow_schema

VERSION = 1

VERSION_COLUMN = "schema_version"

#: The partition column; its values are the folders' names, not in the files.
DAY = pa.field("day", pa.string())

_SQL_OF = {
    pa.int32(): "INT",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.string(): "STRING",
    pa.bool_(): "BOOLEAN",
    pa.binary(): "BYTES",
}


def sessions_schema() -> pa.Schema:
    """Return the columns of `sessions`, the declared features last; times are epoch ms UTC.

    ShopstreamError for a feature with the name of another column.
    """
    own = pa.schema(
        [
            (VERSION_COLUMN, pa.int32()),
            ("session_id", pa.string()),
            ("user_id", pa.string()),
            ("session_start", pa.int64()),
            ("session_end", pa.int64()),
            ("session_events", pa.int64()),  # of the whole session, without duplicates
            ("repeats", pa.int64()),  # duplicates that were dropped
            ("repaired", pa.int64()),  # values that cleaning made unknown
            ("unknown_items", pa.int64()),  # events whose item is not in the catalog
            ("bot", pa.bool_()),
            ("model", pa.string()),  # the bundle's id
        ]
    )
    features = arrow_schema()
    if taken := {*own.names, DAY.name}.intersection(features.names):
        raise ShopstreamError(f"feature {min(taken)!r} needs another name: the lake's sessions have such a column")
    return pa.schema([*own, *features])


def events_schema() -> pa.Schema:
    """Return the columns of `events`: those of a parsed event, and its session_id."""
    columns = {name: kind for name, kind in EVENT_COLUMNS.items() if name in EVENTS.names}
    return pa.schema(
        [
            (VERSION_COLUMN, pa.int32()),
            ("session_id", pa.string()),
            *((name, ARROW_TYPES[kind]) for name, kind in columns.items()),
        ]
    )


#: By table: its columns, and the one whose UTC day is the row's partition.
TABLES: dict[str, Callable[[], pa.Schema]] = {"sessions": sessions_schema, "events": events_schema}

TIME_OF = {"sessions": "session_start", "events": "event_time"}

#: The column that identifies a row.
ID_OF = {"sessions": "session_id", "events": "event_id"}

#: Further columns that tell rows with one id apart: other content is another event.
CONTENT_OF: dict[str, tuple[str, ...]] = {"sessions": (), "events": ("event_time", "event_type", "item_id", "query")}


def flink_columns(schema: pa.Schema) -> str:
    """Return columns as Flink's DDL lists them, one per line, without the partition column."""
    return ",\n".join(f"  `{field.name}` {_SQL_OF[field.type]}" for field in schema)


def columns_of(table: str) -> pa.Schema:
    """Return a table's columns; ShopstreamError for an unknown table."""
    if table not in TABLES:
        raise ShopstreamError(f"the lake has no table {table!r}, only {' and '.join(TABLES)}")
    return TABLES[table]()
