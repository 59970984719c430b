"""`python -m bench`: what this project's parts cost and give, beside other tools."""

from pathlib import Path
from typing import Annotated

import typer

from bench.encode import contenders as encoding
from bench.encode import run as encode_run
from bench.features import features as measure_features
from bench.load.latency import WAYS, run_latency
from bench.load.profile import run as run_profile
from bench.load.scale import CASES
from bench.load.scale import run as run_scale
from bench.load.soak import run_soak
from bench.pipeline import contenders as pipelines
from bench.pipeline import prepare as prepared
from bench.pipeline import run as pipeline_run
from bench.quality import contenders as judging
from bench.quality import report as judged
from bench.quality import run as quality_run
from bench.quality.data import PREPARED, prepare
from bench.rank import SIZES
from bench.rank import run as run_rank
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
    options = encode_run.Options(catalog, model, bundles, min(rounds, 2) if quick else rounds, tuple(names), quick)
    encode_run.run(options, as_json=as_json, chart=chart)


@app.command()
def features(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sessions and runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
) -> None:
    """Session features: events a second, ours beside pandas groupby, on one core."""
    measure_features(quick, as_json)


@app.command()
def pipeline(
    events: Annotated[
        int | None, typer.Option(min=1000, help="Events to prepare.", show_default="1,000,000, quick 20,000")
    ] = None,
    bundles: Annotated[
        Path | None, typer.Option(help="Rank with the bundle in use in this folder.", show_default="exports one")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each contender catches up, in turn.")] = 1,
    limit: Annotated[float, typer.Option(min=10, help="Seconds after which a contender is cut off.")] = 900,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,NAME]",
            help=f"Contenders: {', '.join(pipelines.NAMES)}; with --latency {', '.join(WAYS)}. May be repeated.",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="20,000 events.")] = False,
    latency: Annotated[
        bool, typer.Option("--latency", help="Measure our latency at 25, 50 and 80 % of the capacity instead.")
    ] = False,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="Of each load, with --latency.", show_default="120, quick 15")
    ] = None,
    capacity: Annotated[
        float | None, typer.Option(min=1, help="Events/s, with --latency.", show_default="what ours does catching up")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of our job.")
    ] = None,
    chart: Annotated[Path | None, typer.Option(help="Draw events/s to this .svg or .png file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
) -> None:
    """Our job beside other stream processors on one real broker: events a second, CPU, memory, exactness.

    Peers get an environment of their own on first use (some 1.2 GB); Spark needs a Java of its own on PATH, 17 or 21.
    """
    names = tuple(name for part in only or () for name in part.split(","))
    count = events or (prepared.QUICK_EVENTS if quick else prepared.EVENTS)
    options = prepared.Options(count, rounds, names, limit, bundles, tuple(assignments or ()))
    if latency:
        run_latency(options, capacity, seconds or (15 if quick else 120), as_json=as_json)
    else:
        pipeline_run.run(options, as_json=as_json, chart=chart)


@app.command()
def profile(
    charts: Annotated[Path, typer.Option(help="Folder for profile-jvm.svg and profile-python.svg.")] = Path(),
    events: Annotated[int, typer.Option(min=1000, help="Events to catch up on; they have to last.")] = 200_000,
    warm: Annotated[float, typer.Option(min=0, help="Seconds from the first answer on that are not looked at.")] = 40,
    seconds: Annotated[float, typer.Option(min=2, help="Seconds that are.")] = 12,
    bundles: Annotated[
        Path | None, typer.Option(help="Rank with the bundle in use in this folder.", show_default="exports one")
    ] = None,
) -> None:
    """Where our job's time goes: flame graphs of the JVM and of the Python workers."""
    run_profile(charts, events, warm, seconds, bundles)


@app.command()
def scale(
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[,NAME]", help=f"Cases: {', '.join(CASES)}. May be repeated."),
    ] = None,
    share: Annotated[float, typer.Option(min=0.001, max=1, help="Of each case's users, for a quick look.")] = 1,
    limit: Annotated[float, typer.Option(min=10, help="Seconds after which a case is cut off.")] = 900,
    bundles: Annotated[
        Path | None,
        typer.Option(
            help="Rank with the bundle in use in this folder, but for larger catalogues.", show_default="exports one"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
) -> None:
    """Our job with more users, longer sessions, more items, less parallelism and another backend: rate, memory, state.

    Each shopper has one session, and all are under way at once.
    """
    run_scale(tuple(name for part in only or () for name in part.split(",")), share, limit, bundles, as_json=as_json)


@app.command()
def soak(
    minutes: Annotated[float, typer.Option(min=0.5, help="How long events are sent.")] = 30,
    capacity: Annotated[
        float | None, typer.Option(min=1, help="Events/s; half of them are sent.", show_default="measured")
    ] = None,
    bundles: Annotated[
        Path | None, typer.Option(help="Rank with the bundle in use in this folder.", show_default="exports one")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of our job.")
    ] = None,
    chart: Annotated[Path | None, typer.Option(help="Draw it to this .svg or .png file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object instead of a table.")] = False,
) -> None:
    """Our job at half of its capacity for long: do memory, files, lag or state grow? Exit code 1 if answers are lost.

    State is in RocksDB and outlives an event by ten minutes, if not set otherwise, so that it comes and goes while one
    looks.
    """
    run_soak(minutes, capacity, bundles, assignments or (), chart, as_json=as_json)


@app.command()
def quality(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder with sessions.csv (session_id, user_id, event_time, event_type, item_id) and, if there, "
            "items.csv (item_id, title, category, brand, price) and test_sessions.csv; each may be gzipped. Without "
            "the last, the last 20 % of the sessions by start are the test."
        ),
    ],
    make: Annotated[
        str | None,
        typer.Option(
            "--prepare", metavar="NAME", help=f"Make the folder of public data and exit: {', '.join(PREPARED)}."
        ),
    ] = None,
    no_repeats: Annotated[
        bool, typer.Option("--no-repeats", help="An item's first event in a session counts; it is not named again.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[,NAME]", help=f"Contenders: {', '.join(judging.NAMES)}. May be repeated."),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Settings that each baseline is tuned over, the published one among them.")
    ] = judged.Options.trials,
    positions: Annotated[
        int, typer.Option(min=0, help="Positions to test at, at most, by whole sessions; 0 for all.")
    ] = judged.Options.positions,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = judged.Options.seed,
    quick: Annotated[bool, typer.Option("--quick", help="3 trials, 2,000 positions, 100 for the latency.")] = False,
    bundles: Annotated[
        Path | None,
        typer.Option(
            help="Read titles with the encoder of the bundle in use in this folder.", show_default="exports one"
        ),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the table to this Markdown file too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
) -> None:
    """Next-item prediction in sessions beside the published baselines, all tuned alike: accuracy and latency."""
    if make is not None:
        prepare(make, data)
        return
    names = tuple(name for part in only or () for name in part.split(","))
    options = judged.Options(data, names, not no_repeats, quick, trials, positions, seed, report, bundles)
    quality_run.run(options, as_json=as_json)


@app.command()
def rank(
    items: Annotated[
        str, typer.Option(metavar="COUNT[,COUNT]", help="Items: a simulated shop's and copies, their vectors jittered.")
    ] = ",".join(map(str, SIZES)),
    bundles: Annotated[
        Path | None, typer.Option(help="Rank with the bundle in use in this folder.", show_default="exports one")
    ] = None,
    index_from: Annotated[int, typer.Option(min=1, help="Items from which an index finds titles.")] = 5_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
) -> None:
    """What one prediction takes by the size of the catalogue: milliseconds alone and in batches, recall, memory.

    The texts' vectors are there, as from the encoder's cache. A million items take some 10 GB of memory on the way.
    """
    run_rank([int(count) for count in items.split(",")], bundles, index_from, as_json=as_json)


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    exit_with_one_line(lambda: app(arguments))


if __name__ == "__main__":
    main()
