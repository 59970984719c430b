"""`python -m bench`: what this project's parts cost and give, beside other tools."""

from pathlib import Path
from typing import Annotated

import typer

from bench import encode as encoding
from bench.features import features as measure_features
from udfs.errors import exit_with_one_line

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def commands() -> None:
    """Measurements beside others' tools, each command one table; a quiet machine gives figures worth keeping."""


@app.command()
def encode(
    catalog: Annotated[
        Path | None,
        typer.Option(
            help="Items: .csv, .tsv, .jsonl (each also .gz) or .parquet.",
            show_default="Online Retail where it is, else simulated",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="BERT-type encoder: folder or hub id.", show_default="all-MiniLM-L6-v2, offline")
    ] = None,
    bundles: Annotated[
        Path | None, typer.Option(help="Measure the bundle in use in this folder instead of exporting one.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each contender encodes each text set.")] = 5,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[,NAME]", help=f"Contenders: {', '.join(encoding.NAMES)}. May be repeated."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few texts, two rounds at most, peers not tuned.")] = False,
    chart: Annotated[Path | None, typer.Option(help="Draw texts/s to this .svg or .png file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of tables.")] = False,
) -> None:
    """Our encoder variants beside peers on the CPU: texts a second and fidelity, every core, one process each.

    Peers get an environment of their own on first use (some 6 GB, most of it PyTorch).
    """
    names = [name for part in only or () for name in part.split(",")]
    options = encoding.Options(catalog, model, bundles, min(rounds, 2) if quick else rounds, tuple(names), quick)
    encoding.run(options, as_json=as_json, chart=chart)


@app.command()
def features(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sessions and runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
) -> None:
    """Session features: events a second, ours beside pandas groupby, on one core."""
    measure_features(quick, as_json)


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    exit_with_one_line(lambda: app(arguments))


if __name__ == "__main__":
    main()
