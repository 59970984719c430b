"""`python -m bench`: the cost and the quality of this project's parts, alongside other tools."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from bench import features as features_bench
from bench import input as input_bench
from bench import rank as rank_bench
from bench.encode import contenders as encode_contenders
from bench.encode import run as encode_bench
from bench.gpu import pack as gpu_bench
from bench.gpu.start import PACK
from bench.load import latency as latency_bench
from bench.load import profile as profile_bench
from bench.load import scale as scale_bench
from bench.load import soak as soak_bench
from bench.pipeline import contenders as pipeline_contenders
from bench.pipeline import run as pipeline_bench
from bench.pipeline.prepare import EVENTS, QUICK_EVENTS
from bench.quality import contenders as quality_contenders
from bench.quality import prior as prior_bench
from bench.quality import run as quality_bench
from bench.quality.data import PREPARED, prepare
from export.ranker.prior import FILE
from udfs.core.errors import ShopstreamError, exit_with_one_line

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

Bundles: TypeAlias = Annotated[
    Path | None, typer.Option(help="Rank with the bundle in use in this folder.", show_default="exports one")
]
Settings: TypeAlias = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of our job. May be repeated.")
]
JsonList: TypeAlias = Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")]


def _names(only: list[str] | None) -> tuple[str, ...]:
    """The names of --only, each of which may hold several with commas."""
    return tuple(name for part in only or () for name in part.split(","))


@app.callback()
def commands() -> None:
    """Benchmarks alongside other tools, one table per command. Run them on a quiet machine."""


@app.command()
def encode(
    catalog: Annotated[
        Path | None,
        typer.Option(
            help="Items: .csv, .tsv, .jsonl (each also .gz) or .parquet.",
            show_default="Online Retail if it is there, else simulated",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="BERT-type encoder: folder or hub id.", show_default="all-MiniLM-L6-v2, offline")
    ] = None,
    bundles: Annotated[
        Path | None, typer.Option(help="Measure the bundle in use in this folder.", show_default="exports one")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each contender encodes each text set.")] = 5,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[,NAME]", help=f"Contenders: {', '.join(encode_contenders.NAMES)}. May be repeated."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few texts, at most two rounds, peers not tuned.")] = False,
    chart: Annotated[Path | None, typer.Option(help="Draw texts/s to this .svg or .png file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of tables.")] = False,
) -> None:
    """Our encoder variants and their peers on the CPU: texts per second and fidelity, one process each, all cores.

    The first use installs the peers into their own environment (some 6 GB, most of it PyTorch).
    """
    options = encode_bench.Options(catalog, model, bundles, min(rounds, 2) if quick else rounds, _names(only), quick)
    encode_bench.run(options, as_json=as_json, chart=chart)


@app.command()
def features(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sessions and runs.")] = False,
    as_json: JsonList = False,
) -> None:
    """Session features: events per second of ours and of pandas groupby, on one core."""
    features_bench.run(quick, as_json)


@app.command("input")
def read_files(
    rows: Annotated[int, typer.Option(min=1000, help="Rows of each file.")] = input_bench.ROWS,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[,NAME]", help=f"Readers: {', '.join(input_bench.READERS)}. May be repeated."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="100,000 rows.")] = False,
    as_json: JsonList = False,
) -> None:
    """Our file reader, pandas and DuckDB: rows per second and peak memory."""
    input_bench.run(min(rows, 100_000) if quick else rows, _names(only), as_json)


@app.command()
def pipeline(
    events: Annotated[
        int | None,
        typer.Option(min=1000, help="Events to prepare.", show_default=f"{EVENTS:,}, quick {QUICK_EVENTS:,}"),
    ] = None,
    bundles: Bundles = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each contender catches up, in turn.")] = 1,
    limit: Annotated[float, typer.Option(min=10, help="Seconds after which a contender is cut off.")] = 900,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,NAME]",
            help=f"Contenders: {', '.join(pipeline_contenders.NAMES)}; with --latency "
            f"{', '.join(latency_bench.MODES)}. May be repeated.",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help=f"{QUICK_EVENTS:,} events.")] = False,
    latency: Annotated[
        bool, typer.Option("--latency", help="Measure our latency at 25, 50 and 80 % of the capacity instead.")
    ] = False,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="Seconds per load, with --latency.", show_default="120, quick 15")
    ] = None,
    capacity: Annotated[
        float | None, typer.Option(min=1, help="Events/s, with --latency.", show_default="the rate of ours catching up")
    ] = None,
    assignments: Settings = None,
    chart: Annotated[Path | None, typer.Option(help="Draw events/s to this .svg or .png file.")] = None,
    as_json: JsonList = False,
) -> None:
    """Our job and other stream processors on one real broker: events per second, CPU, memory, exactness.

    The first use installs the peers into their own environment (some 1.2 GB). Spark needs Java 17 or 21 on PATH.
    """
    count = events or (QUICK_EVENTS if quick else EVENTS)
    options = pipeline_bench.Options(count, rounds, _names(only), limit, bundles, tuple(assignments or ()))
    if latency:
        latency_bench.run_latency(options, capacity, seconds or (15 if quick else 120), as_json=as_json)
    else:
        pipeline_bench.run(options, as_json=as_json, chart=chart)


@app.command()
def profile(
    charts: Annotated[Path, typer.Option(help="Folder for profile-jvm.svg and profile-python.svg.")] = Path(),
    events: Annotated[
        int, typer.Option(min=1000, help="Events to catch up on; enough to last until the profile is made.")
    ] = 200_000,
    warm: Annotated[float, typer.Option(min=0, help="Seconds to warm up after the first answer.")] = 40,
    seconds: Annotated[float, typer.Option(min=2, help="Seconds to profile.")] = 12,
    bundles: Bundles = None,
) -> None:
    """Where our job spends its time: flame graphs of the JVM and of the Python workers."""
    profile_bench.run(charts, events, warm, seconds, bundles)


@app.command()
def scale(
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[,NAME]", help=f"Cases: {', '.join(scale_bench.CASES)}. May be repeated."),
    ] = None,
    share: Annotated[
        float, typer.Option(min=0.001, max=1, help="Take this share of each case's users, for a quick look.")
    ] = 1,
    limit: Annotated[float, typer.Option(min=10, help="Seconds after which a case is cut off.")] = 900,
    bundles: Annotated[
        Path | None,
        typer.Option(
            help="Rank with the bundle in use in this folder, except in cases with a larger catalog.",
            show_default="exports one",
        ),
    ] = None,
    as_json: JsonList = False,
) -> None:
    """Our job with more users, longer sessions, more items, less parallelism, another state backend.

    Prints rate, memory and state. Each shopper has one session, and all sessions are in progress at once.
    """
    scale_bench.run(_names(only), share, limit, bundles, as_json=as_json)


@app.command()
def soak(
    minutes: Annotated[float, typer.Option(min=0.5, help="How long events are sent.")] = 30,
    capacity: Annotated[
        float | None, typer.Option(min=1, help="Events/s; half of them are sent.", show_default="measured")
    ] = None,
    bundles: Bundles = None,
    assignments: Settings = None,
    chart: Annotated[Path | None, typer.Option(help="Draw the result to this .svg or .png file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object instead of a table.")] = False,
) -> None:
    """Our job at half of its capacity for a long time: do memory, files, lag or state grow?

    Exit code 1 if answers are lost. By default, state is in RocksDB and outlives an event by ten minutes, so that the
    run sees it come and go.
    """
    soak_bench.run_soak(minutes, capacity, bundles, assignments or (), chart, as_json=as_json)


@app.command()
def quality(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder with sessions.csv (session_id, user_id, event_time, event_type, item_id) and optionally "
            "items.csv (item_id, title, category, brand, price) and test_sessions.csv; each may be gzipped. Without "
            "test_sessions.csv, the last 20 % of the sessions by start are the test."
        ),
    ],
    make: Annotated[
        str | None,
        typer.Option(
            "--prepare", metavar="NAME", help=f"Make the folder from public data and exit: {', '.join(PREPARED)}."
        ),
    ] = None,
    no_repeats: Annotated[
        bool,
        typer.Option("--no-repeats", help="Only an item's first event in a session counts; it is not predicted again."),
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,NAME]", help=f"Contenders: {', '.join(quality_contenders.NAMES)}. May be repeated."
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Settings to tune each baseline over, including the published one.")
    ] = quality_bench.Options.trials,
    positions: Annotated[
        int, typer.Option(min=0, help="At most this many positions to test at, by whole sessions; 0 for all.")
    ] = quality_bench.Options.positions,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random choices.")] = quality_bench.Options.seed,
    quick: Annotated[bool, typer.Option("--quick", help="3 trials, 2,000 positions, 100 for the latency.")] = False,
    bundles: Annotated[
        Path | None,
        typer.Option(
            help="Read titles with the encoder of the bundle in use in this folder.", show_default="exports one"
        ),
    ] = None,
    sessions: Annotated[
        int | None,
        typer.Option(
            min=10,
            help="Measure a small shop: shoppers drawn at random with that many training sessions.",
            show_default="all",
        ),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="How many such shops, by seeds from --seed on.")] = 1,
    held_back: Annotated[
        bool, typer.Option("--held-back", help="Test on the last training sessions: what settings are chosen on.")
    ] = False,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Also measure ours without each of its sources and tricks.")
    ] = False,
    prior: Annotated[
        Path, typer.Option(help="Ranker of ours-prior, made by `bench prior`.", show_default="the one of the package")
    ] = FILE,
    report: Annotated[Path | None, typer.Option(help="Also write the table to this Markdown file.")] = None,
    as_json: JsonList = False,
) -> None:
    """Next-item prediction in sessions by ours and the published baselines, all tuned alike: accuracy and latency."""
    if make is not None:
        prepare(make, data)
        return
    if draws > 1 and sessions is None:
        raise ShopstreamError("--draws draws small shops: say how large with --sessions")
    options = quality_bench.Options(
        data=data,
        only=_names(only),
        repeats=not no_repeats,
        quick=quick,
        trials=trials,
        positions=positions,
        seed=seed,
        report=report,
        bundles=bundles,
        sessions=sessions,
        draws=draws,
        held_back=held_back,
        ablate=ablate,
        prior=prior,
    )
    quality_bench.run(options, as_json=as_json)


@app.command()
def prior(
    folders: Annotated[list[Path], typer.Argument(help="Folders of `bench quality --prepare`, with titles.")],
    out: Annotated[Path, typer.Option(help="The file to write; the package's is export/ranker/prior.txt.")],
    bundles: Bundles = None,
) -> None:
    """Learn the ranker of shops without sessions from public data, and write it as LightGBM's text."""
    prior_bench.run(folders, out, bundles)


@app.command()
def rank(
    items: Annotated[
        str,
        typer.Option(
            metavar="COUNT[,COUNT]", help="Catalog sizes: a simulated shop's items and copies with jittered vectors."
        ),
    ] = ",".join(map(str, rank_bench.SIZES)),
    bundles: Bundles = None,
    index_from: Annotated[int, typer.Option(min=1, help="Items from which on an index finds titles.")] = 5_000,
    as_json: JsonList = False,
) -> None:
    """The time of one prediction by catalog size: milliseconds alone and in batches, recall, memory.

    The texts' vectors are given, as from the encoder's cache. A million items take some 10 GB of memory.
    """
    rank_bench.run([int(count) for count in items.split(",")], bundles, index_from, as_json=as_json)


@app.command()
def gpu_pack(
    out: Annotated[Path, typer.Option(help="Folder for the pieces; its content is replaced.")] = PACK,
    python: Annotated[str, typer.Option(metavar="VERSION", help="Python's version on the GPU machine.")] = "3.12",
    bundles: Annotated[
        Path | None, typer.Option(help="Pack the bundle in use in this folder.", show_default="exports one")
    ] = None,
    catalog: Annotated[
        Path | None,
        typer.Option(help="Titles to measure on.", show_default="Online Retail if it is there, else simulated"),
    ] = None,
) -> None:
    """Pack the encoder for a GPU machine without a network; bench/gpu/run.sh measures there."""
    gpu_bench.run(gpu_bench.Options(out, python, bundles, catalog))


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    exit_with_one_line(lambda: app(arguments))


if __name__ == "__main__":
    main()
