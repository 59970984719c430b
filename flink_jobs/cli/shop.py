"""`shopstream replay`, `simulate` and `catalog`: events and items for Kafka, or a simulated shop as files."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flink_jobs.cli.options import (
    Assignments,
    Columns,
    Config,
    Json,
    Preset,
    Read,
    RejectedFile,
    Strict,
    rejected_rows,
)
from flink_jobs.console import progress_bar, result
from flink_jobs.settings.loading import load_settings
from udfs.core.errors import ShopstreamError
from udfs.events.mapping import parse_mapping
from udfs.events.options import parse_options

app = typer.Typer()
catalog_app = typer.Typer(help="Items as they change.", no_args_is_help=True)
app.add_typer(catalog_app, name="catalog")


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="CSV, TSV, JSON lines or Parquet; compressed too, or a folder.")],
    config: Config = None,
    assignments: Assignments = None,
    preset: Preset = "auto",
    columns: Columns = None,
    read: Read = None,
    strict: Strict = False,
    rejected_file: RejectedFile = None,
    speed: Annotated[str, typer.Option(help="Multiple of the recorded speed, or max.")] = "max",
    limit: Annotated[int | None, typer.Option(min=1, help="Send at most this many events.")] = None,
    as_json: Json = False,
) -> None:
    """Send recorded events to Kafka. Next: `shopstream watch`."""
    from flink_jobs.commands.replay import replay_file

    mapping = parse_mapping(columns or ())
    factor = None if speed == "max" else _positive(speed)
    settings = load_settings(config, assignments or ())
    options = parse_options(read or ())
    with (
        rejected_rows(file, rejected_file, strict=strict) as rejected,
        progress_bar(f"{file.name} → {settings.topics.clickstream}", limit) as progress,
    ):
        done = replay_file(
            settings, file, mapping=mapping, preset=preset, options=options, rejected=rejected,
            speed=factor, limit=limit, progress=progress,
        )  # fmt: skip
    text = f"sent {done.events:,} events to {settings.topics.clickstream} in {done.seconds:.1f} s"
    result(asdict(done) | rejected.counts(), "\n".join([text, *rejected.lines()]), as_json)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="Events or items, as for replay or catalog send.")],
    preset: Preset = "auto",
    columns: Columns = None,
    read: Read = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Show what a file would be read as, what would be refused, and the --map to use. Next: `shopstream replay`."""
    from flink_jobs.commands.inspect import describe, inspect_file

    found = inspect_file(
        file, mapping=parse_mapping(columns or ()), preset=preset, options=parse_options(read or ()), strict=strict
    )
    result(asdict(found), describe(found), as_json)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ShopstreamError(f"--speed {text!r} should be max or a number above 0")
    return number


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder for catalog.jsonl, sessions.jsonl and events.jsonl.")],
    events: Annotated[int, typer.Option(min=1, help="Number of events.")] = 20_000,
    items: Annotated[int, typer.Option(min=1, help="Number of items in the catalog.")] = 1500,
    seed: Annotated[int, typer.Option(help="The same seed makes the same files.")] = 7,
    as_json: Json = False,
) -> None:
    """Write a simulated shop: a catalog, past sessions and events. Next: `python -m export bundle`."""
    from flink_jobs.simulation.simulate import write_shop

    write_shop(out, events=events, items=items, seed=seed)
    result(
        {"out": out, "events": events, "items": items}, f"wrote {events:,} events and {items:,} items to {out}", as_json
    )


@catalog_app.command("send")
def catalog_send(
    file: Annotated[Path, typer.Argument(help="CSV, TSV, JSON lines or Parquet; compressed too, or a folder.")],
    config: Config = None,
    assignments: Assignments = None,
    preset: Preset = "auto",
    columns: Columns = None,
    read: Read = None,
    strict: Strict = False,
    rejected_file: RejectedFile = None,
    as_json: Json = False,
) -> None:
    """Send a file's items to the catalog topic. Next: `shopstream submit catalog`, if it does not run yet."""
    from flink_jobs.commands.catalog import send_items

    settings = load_settings(config, assignments or ())
    mapping, options = parse_mapping(columns or ()), parse_options(read or ())
    with rejected_rows(file, rejected_file, strict=strict) as rejected:
        sent = send_items(settings, file, mapping=mapping, preset=preset, options=options, rejected=rejected)
    text = f"sent {sent:,} items to {settings.topics.catalog}"
    result({"items": sent} | rejected.counts(), "\n".join([text, *rejected.lines()]), as_json)


@catalog_app.command("remove")
def catalog_remove(
    item_ids: Annotated[list[str], typer.Argument(metavar="ITEM_ID...", help="Items that the shop no longer has.")],
    config: Config = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Send tombstones to the catalog topic: within seconds these items are no longer recommended."""
    from flink_jobs.commands.catalog import remove_items

    settings = load_settings(config, assignments or ())
    remove_items(settings, item_ids)
    text = f"sent {len(item_ids):,} removals to {settings.topics.catalog}"
    result({"removals": len(item_ids)}, text, as_json)


@catalog_app.command("show")
def catalog_show(config: Config = None, assignments: Assignments = None, as_json: Json = False) -> None:
    """Sum up the changes that the catalog job has written next to the bundles."""
    from flink_jobs.commands.catalog import catalog_changes

    settings = load_settings(config, assignments or ())
    found = catalog_changes(settings)
    text = (
        f"{found.changed:,} items changed since the bundles were made, {found.removed:,} of them removed and "
        f"{found.sold_out:,} sold out, in {found.files:,} segments of {found.bytes:,} bytes"
    )
    result(asdict(found), text, as_json)
