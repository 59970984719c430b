"""`shopstream lake`: what is in the lake, and whether it is sound."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.box import SIMPLE
from rich.filesize import decimal
from rich.table import Table

from flink_jobs.cli.options import Assignments, Config, Json
from flink_jobs.commands.lake import Part
from flink_jobs.console import out, result
from flink_jobs.settings.loading import load_settings
from udfs.core.errors import ShopstreamError
from udfs.lake.schema import TABLES

app = typer.Typer()
lake_app = typer.Typer(help="Closed sessions and their events as Parquet files.", no_args_is_help=True)
app.add_typer(lake_app, name="lake")

Lake = Annotated[Path | None, typer.Option("--folder", help="Folder of the lake; by default that of the settings.")]
#: Days that are listed on a terminal.
SHOWN_DAYS = 30


def parts_table(folder: Path, parts: Sequence[Part]) -> Table:
    """The newest SHOWN_DAYS days of each table, then the table as a whole, for a terminal of 80 columns."""
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
    """Rows, files and bytes of some parts together."""
    yield f"{sum(part.rows for part in parts):,}"
    yield f"{sum(part.files for part in parts):,}"
    yield decimal(sum(part.bytes for part in parts))


def _utc(time_ms: int | None) -> str:
    """YYYY-MM-DDTHH:MM:SS."""
    return "" if time_ms is None else str(np.datetime64(time_ms, "ms").astype("M8[s]"))


@lake_app.command("show")
def lake_show(
    folder: Lake = None, config: Config = None, assignments: Assignments = None, as_json: Json = False
) -> None:
    """List the days of the lake, rows, files and times; the newest 30 days as text, all with --json."""
    from flink_jobs.commands.lake import list_parts

    where = folder or load_settings(config, assignments or ()).lake_folder
    parts = list_parts(where)
    if as_json:
        result({"folder": where, "parts": [asdict(part) for part in parts]}, "", True)
    else:
        out.print(parts_table(where, parts))


@lake_app.command("check")
def lake_check(
    folder: Lake = None, config: Config = None, assignments: Assignments = None, as_json: Json = False
) -> None:
    """Read the whole lake and say what is wrong with it, a line each; exit code 1 if anything is."""
    from flink_jobs.commands.lake import check_lake

    where = folder or load_settings(config, assignments or ()).lake_folder
    found = check_lake(where)
    lines = [*(f"wrong: {line}" for line in found.wrong), *(f"note: {line}" for line in found.notes)]
    result({"folder": where, **asdict(found)}, "\n".join(lines) or f"nothing is wrong with {where}", as_json)
    if found.wrong:
        raise ShopstreamError(f"faults in the lake in {where}: {len(found.wrong):,}")
