"""The lake's days as a table for a terminal. A file of its own, as pyarrow and pandas would delay every command."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.box import SIMPLE
from rich.filesize import decimal
from rich.table import Table

from flink_jobs.commands.lake import Part
from udfs.lake.schema import TABLES

#: At most this many days of a table are listed on a terminal.
SHOWN_DAYS = 30


def parts_table(folder: Path, parts: Sequence[Part]) -> Table:
    """Lists the newest SHOWN_DAYS days of each table, then the whole table, for a terminal of 80 columns."""
    versions = {version for part in parts for version in (part.oldest_version, part.newest_version)}
    title = f"{folder}, schema version {', '.join(map(str, sorted(filter(None, versions))))}"
    grid = Table(box=SIMPLE, collapse_padding=True, pad_edge=False, title=title, title_justify="left")
    for name in ("table", "day"):
        grid.add_column(name)
    for name in ("rows", "files", "size", "first", "last"):
        grid.add_column(name, justify="right")
    for table in TABLES:
        own = [part for part in parts if part.table == table]
        for part in own[-SHOWN_DAYS:]:
            grid.add_row(table, part.day, *_sizes([part]), _utc(part.first)[11:], _utc(part.last)[11:])
        if own:
            first = min((part.first for part in own if part.first is not None), default=None)
            last = max((part.last for part in own if part.last is not None), default=None)
            grid.add_row(table, "all", *_sizes(own), _utc(first)[:10], _utc(last)[:10], style="bold", end_section=True)
    return grid


def _sizes(parts: Sequence[Part]) -> Iterator[str]:
    """Yields the rows, files and bytes of some parts together."""
    yield f"{sum(part.rows for part in parts):,}"
    yield f"{sum(part.files for part in parts):,}"
    yield decimal(sum(part.bytes for part in parts))


def _utc(time_ms: int | None) -> str:
    """Writes epoch ms as YYYY-MM-DDTHH:MM:SS; empty for None."""
    return "" if time_ms is None else str(np.datetime64(time_ms, "ms").astype("M8[s]"))
