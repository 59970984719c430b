"""Reads the lake's Parquet files."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from udfs.core.errors import ShopstreamError
from udfs.lake.schema import DAY, VERSION, VERSION_COLUMN, columns_of


def read(
    folder: Path | str, table: str, *, days: Iterable[str] | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read rows of a table with the columns of today's schema and `day`, in no particular order.

    folder: the lake's.
    table: "sessions" or "events".
    days: YYYY-MM-DD, all by default.
    columns: names, all by default. A column that an old file lacks is null. A column that today's schema lacks, such as
        a feature of a module that is not loaded, is left out.

    Raises ShopstreamError for an unknown table or column, an unreadable file, and rows of a newer version.
    """
    import pyarrow.dataset as ds  # here: it imports pandas, 0.4 s that most users of the lake's schema do not need

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


def data_files(folder: Path | str, table: str) -> dict[str, list[Path]]:
    """Return the files of a table by day, both in order; ShopstreamError without the table's folder."""
    if not Path(folder, table).is_dir():
        raise ShopstreamError(f"there is no folder {Path(folder, table)}; a job or a backfill makes it")
    return {
        part.name.partition("=")[2]: sorted(file for file in part.iterdir() if not file.name.startswith((".", "_")))
        for part in sorted(Path(folder, table).glob(f"{DAY.name}=*"))
    }
