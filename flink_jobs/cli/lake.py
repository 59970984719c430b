"""`shopstream lake`: what is in the lake, and whether it is sound."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flink_jobs.cli.options import Assignments, Config, Json
from flink_jobs.console import out, result, tracked
from flink_jobs.settings.loading import load_settings
from udfs.core.errors import ShopstreamError

app = typer.Typer()
lake_app = typer.Typer(help="Closed sessions and their events as Parquet files.", no_args_is_help=True)
app.add_typer(lake_app, name="lake")

Lake = Annotated[Path | None, typer.Option("--folder", help="Folder of the lake; by default that of the settings.")]


@lake_app.command("show")
def lake_show(
    folder: Lake = None, config: Config = None, assignments: Assignments = None, as_json: Json = False
) -> None:
    """List the days of the lake with rows, files and times: the newest 30, or all with --json."""
    from flink_jobs.cli.lake_table import parts_table
    from flink_jobs.commands.lake import list_parts

    where = folder or load_settings(config, assignments or ()).lake_folder
    parts = list_parts(where, lambda parts: tracked(parts, "reading"))
    if as_json:
        result({"folder": where, "parts": [asdict(part) for part in parts]}, "", True)
    else:
        out.print(parts_table(where, parts))


@lake_app.command("check")
def lake_check(
    folder: Lake = None, config: Config = None, assignments: Assignments = None, as_json: Json = False
) -> None:
    """Read the whole lake and report what is wrong with it, one line per fault; exit code 1 if anything is."""
    from flink_jobs.commands.lake import check_lake

    where = folder or load_settings(config, assignments or ()).lake_folder
    found = check_lake(where, lambda parts: tracked(parts, "checking"))
    lines = [*(f"wrong: {line}" for line in found.wrong), *(f"note: {line}" for line in found.notes)]
    result({"folder": where, **asdict(found)}, "\n".join(lines) or f"nothing is wrong with {where}", as_json)
    if found.wrong:
        raise ShopstreamError(f"faults in the lake in {where}: {len(found.wrong):,}")
