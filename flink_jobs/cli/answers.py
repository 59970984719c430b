"""`shopstream watch`, `explain` and `check`: recommendations for people to read, and whether they are right."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flink_jobs.cli.options import Assignments, Columns, Config, Json, Preset, Read
from flink_jobs.console import notes, out, progress_bar, result
from flink_jobs.settings.loading import load_settings
from udfs.contracts.rankings import Recommendation
from udfs.core.errors import ShopstreamError
from udfs.events.mapping import parse_mapping
from udfs.events.options import parse_options

app = typer.Typer()


@app.command()
def watch(
    config: Config = None,
    assignments: Assignments = None,
    from_beginning: Annotated[bool, typer.Option(help="Start with the oldest record, not the next one.")] = False,
    uncommitted: Annotated[bool, typer.Option(help="Show records of open transactions too.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many records.")] = None,
    idle: Annotated[float | None, typer.Option(min=0, help="Stop after this many seconds without a record.")] = None,
    as_json: Json = False,
) -> None:
    """Show recommendations as they arrive; with --json the records themselves, one per line."""
    from flink_jobs.commands.watch import describe_recommendation, known_titles, watch_recommendations

    settings = load_settings(config, assignments or ())
    title_of = known_titles(settings)

    def show(value: bytes, record: Recommendation) -> None:
        if as_json:
            sys.stdout.write(value.decode() + "\n")
            sys.stdout.flush()
        else:
            out.print(describe_recommendation(record, title_of), markup=False)

    def complain(line: str) -> None:
        notes.print(line, markup=False)

    watch_recommendations(
        settings, show, complain, from_beginning=from_beginning, committed=not uncommitted, limit=limit, idle_s=idle
    )


@app.command()
def explain(
    recommendation_id: Annotated[str, typer.Argument(help="USER/EVENT, as in the records.")],
    config: Config = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Show one recommendation with all the reasons of its items, which add up to their scores."""
    import msgspec

    from flink_jobs.commands.explain import explain_recommendation, find_recommendation
    from flink_jobs.commands.watch import known_titles

    settings = load_settings(config, assignments or ())
    record = find_recommendation(settings, recommendation_id)
    if as_json:
        sys.stdout.write(msgspec.json.encode(record).decode() + "\n")
    else:
        out.print(explain_recommendation(record, known_titles(settings)), markup=False)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The file that was replayed.")],
    config: Config = None,
    assignments: Assignments = None,
    preset: Preset = "auto",
    columns: Columns = None,
    read: Read = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only this many events of the file were replayed.")] = None,
    idle: Annotated[float, typer.Option(min=1, help="Give up after this many seconds without a record.")] = 60,
    as_json: Json = False,
) -> None:
    """Check that each trigger event of a replayed file has exactly one good recommendation; exit code 1 if not."""
    from flink_jobs.commands.check import check_recommendations, expected_ids

    settings = load_settings(config, assignments or ())
    mapping = parse_mapping(columns or ())
    expected = expected_ids(
        settings, file, mapping=mapping, preset=preset, limit=limit, options=parse_options(read or ())
    )
    with progress_bar("recommendations", len(expected)) as progress:
        outcome = check_recommendations(settings, expected, idle, progress)
    found = asdict(outcome)
    result(found, ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in found.items()), as_json)
    if not outcome.holds:
        raise ShopstreamError("the recommendations are not exactly one good record for each trigger event")
