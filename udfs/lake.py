"""The lake: closed sessions and their events as Parquet files by UTC day, and the one declaration of their columns.

    <lake>/sessions/day=YYYY-MM-DD/   Parquet files, a row a closed session, on the day of its start
    <lake>/events/day=YYYY-MM-DD/     Parquet files, a row a cleaned event, on its own day

A file whose name begins with `.` or `_` is no data; any other is, whatever its name ends in.
A column is only ever added, never renamed, removed or given another type: what an old file lacks is null. What a column
means changes with VERSION only, which every row carries in `schema_version`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from udfs.datasets import EVENTS
from udfs.errors import ShopstreamError
from udfs.events import EVENT_COLUMNS
from udfs.features import arrow_schema

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
_ARROW_OF = {sql: arrow for arrow, sql in _SQL_OF.items()}


def sessions_schema() -> pa.Schema:
    """Columns of `sessions`, the declared features last; times are epoch ms UTC.

    ShopstreamError for a feature that has the name of another column.
    """
    own = pa.schema(
        [
            (VERSION_COLUMN, pa.int32()),
            ("session_id", pa.string()),
            ("user_id", pa.string()),
            ("session_start", pa.int64()),
            ("session_end", pa.int64()),
            ("session_events", pa.int64()),  # of the whole session, repeats not counted
            ("repeats", pa.int64()),
            ("repaired", pa.int64()),  # values that cleaning made unknown
            ("unknown_items", pa.int64()),  # events whose item is not in the catalogue
            ("bot", pa.bool_()),
            ("model", pa.string()),  # the bundle's id
        ]
    )
    features = arrow_schema()
    if taken := {*own.names, DAY.name}.intersection(features.names):
        raise ShopstreamError(f"feature {min(taken)!r} needs another name: the lake's sessions have such a column")
    return pa.schema([*own, *features])


def events_schema() -> pa.Schema:
    """Columns of `events`: those of a parsed event, and the session that it is in."""
    columns = {name: kind for name, kind in EVENT_COLUMNS.items() if not name.startswith("error")}
    return pa.schema(
        [
            (VERSION_COLUMN, pa.int32()),
            ("session_id", pa.string()),
            *((name, _ARROW_OF[kind]) for name, kind in columns.items()),
        ]
    )


#: By table: its columns, and the one whose UTC day is the row's partition.
TABLES: dict[str, Callable[[], pa.Schema]] = {"sessions": sessions_schema, "events": events_schema}
TIME_OF = {"sessions": "session_start", "events": "event_time"}
#: The column that tells its rows apart.
ID_OF = {"sessions": "session_id", "events": "event_id"}


def flink_columns(schema: pa.Schema) -> str:
    """The columns as Flink's DDL lists them, one a line; the partition column is not among them."""
    return ",\n".join(f"  `{field.name}` {_SQL_OF[field.type]}" for field in schema)


def read(
    folder: Path | str, table: str, *, days: Iterable[str] | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Rows of a table (`sessions` or `events`) with today's columns and `day`.

    days are YYYY-MM-DD, all by default; columns are names of the result's, all by default. What an old file lacks is
    null; columns of files that today's schema does not have, such as features of a module that is not loaded, are left
    out. Rows are in no particular order.

    Raises ShopstreamError for a table or a column that is not there, a file that cannot be read, and rows of a newer
    version.
    """
    schema = columns_of(table).append(DAY)
    wanted = schema.names if columns is None else list(columns)
    if unknown := [name for name in wanted if name not in schema.names]:
        raise ShopstreamError(f"the lake's {table} have no column {unknown[0]!r}")
    by_day = data_files(folder, table)
    chosen = by_day if days is None else sorted(by_day.keys() & set(days))
    files = [str(file) for day in chosen for file in by_day[day]]
    hive = ds.partitioning(pa.schema([DAY]), flavor="hive")
    try:
        source = ds.dataset(files, schema, format="parquet", partitioning=hive)
        rows = source.to_table(columns=list(dict.fromkeys([*wanted, VERSION_COLUMN])))
    except (pa.ArrowException, OSError) as error:
        raise ShopstreamError(f"{Path(folder, table)} cannot be read: {error}") from error
    newest = pc.max(rows[VERSION_COLUMN]).as_py()
    if newest is not None and newest > VERSION:
        raise ShopstreamError(f"{Path(folder, table)} has rows of version {newest}, this package reads up to {VERSION}")
    return rows.select(wanted)


def past_events(folder: Path | str) -> Iterator[pa.RecordBatch]:
    """The events (schema udfs.datasets.EVENTS) of all sessions but those of bots, day by day, by time and id.

    A bot's are those that were written with the session_id of a session that is called one. Raises ShopstreamError as
    `read` does, and for events without what every event has.
    """
    sessions = read(folder, "sessions", columns=["session_id", "bot"])
    bots = sessions["session_id"].filter(pc.fill_null(sessions["bot"], False)).combine_chunks()
    for day in data_files(folder, "events"):
        events = read(folder, "events", days=[day], columns=EVENTS.names)
        if lacking := [name for name in ("event_id", "event_type", "user_id", "event_time") if events[name].null_count]:
            raise ShopstreamError(f"{Path(folder, 'events')} has rows of {day} without {lacking[0]}")
        human = events.filter(pc.invert(pc.is_in(events["session_id"], bots)))
        yield from human.sort_by([("event_time", "ascending"), ("event_id", "ascending")]).to_batches()


def columns_of(table: str) -> pa.Schema:
    """A table's columns; ShopstreamError for a name that is no table's."""
    if table not in TABLES:
        raise ShopstreamError(f"the lake has no table {table!r}, only {' and '.join(TABLES)}")
    return TABLES[table]()


def data_files(folder: Path | str, table: str) -> dict[str, list[Path]]:
    """The files of a table by day, both in order; ShopstreamError without the table's folder."""
    if not Path(folder, table).is_dir():
        raise ShopstreamError(f"there is no folder {Path(folder, table)}; a job or a backfill makes it")
    return {
        part.name.partition("=")[2]: sorted(file for file in part.iterdir() if not file.name.startswith((".", "_")))
        for part in sorted(Path(folder, table).glob(f"{DAY.name}=*"))
    }
