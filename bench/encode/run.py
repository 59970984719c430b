"""`python -m bench encode`: our encoder and its peers on the CPU, one process each, one of them running at a time."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from tokenizers import Tokenizer

from bench.chart import require_drawing
from bench.encode.contenders import NAMES, our_contenders, peer_contenders
from bench.encode.measure import race
from bench.encode.peers import SETTINGS
from bench.encode.report import Result, draw, show
from bench.encode.text_sets import TextSet, make_text_sets, read_titles
from bench.encode.worker import text_file
from bench.environment import run_export
from bench.output import print_json, progress_console, require_known, table_console
from export.encoder.source import open_source
from udfs.bundles.bundle import open_bundle
from udfs.encoder.selection import cpu_flags


@dataclass(frozen=True)
class Options:
    """The options of the command; `only` empty: all contenders."""

    catalog: Path | None = None
    model: str | None = None
    bundles: Path | None = None
    rounds: int = 5
    only: tuple[str, ...] = ()
    quick: bool = False


def run(options: Options, *, as_json: bool, chart: Path | None) -> None:
    """Measure, and print tables or a JSON list; raise ShopstreamError for what a user can fix."""
    require_known(options.only, NAMES)
    if chart is not None:
        require_drawing(chart)
    with TemporaryDirectory(prefix="shopstream-bench-") as folder:
        origin, text_sets, results = measure(options, Path(folder), progress_console())
    if chart is not None:
        draw([result.row for result in results], chart)
    if as_json:
        print_json([asdict(result.row) for result in results])
    else:
        show(origin, text_sets, results, table_console(120))


def measure(options: Options, folder: Path, progress: Console) -> tuple[str, list[TextSet], list[Result]]:
    """Return the origin of the titles, the text sets and the results; all files go to `folder`."""
    source = open_source(options.model)
    titles = read_titles(options.catalog)
    progress.print(f"texts: {titles.origin}; {len(titles.calibration)} of them for calibration only", markup=False)
    bundles = options.bundles or _export(options.model, titles.calibration, folder, progress)
    bundle = open_bundle(bundles)
    tokenizer = Tokenizer.from_file(str(bundle.tokenizer))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    text_sets = make_text_sets(titles.measured, tokenizer, source.prefix, quick=options.quick)
    for text_set in text_sets:
        text_file(folder, text_set.name).write_text(json.dumps(text_set.texts))
    contenders = our_contenders(bundle, bundles, options.only)
    if peers := [name for name in SETTINGS if not options.only or name in options.only]:
        contenders += peer_contenders(
            peers, source, bundle, titles.calibration, text_sets, folder, progress, tune=not options.quick
        )
    return titles.origin, text_sets, race(contenders, text_sets, options.rounds, folder, progress)


def _export(model: str | None, titles: Sequence[str], folder: Path, progress: Console) -> Path:
    """Export a bundle that is calibrated on these titles; return the folder of bundles."""
    progress.print("exporting our variants")
    catalog = folder / "catalog.jsonl"
    bundles = folder / "bundles"
    items = ({"item_id": f"i{number}", "title": title} for number, title in enumerate(titles))
    catalog.write_text("".join(json.dumps(item) + "\n" for item in items))
    variants = "fp32,int8,bf16" if cpu_flags() & {"avx512_bf16", "amx_bf16"} else "fp32,int8"
    arguments = ["--catalog", str(catalog), "--out", str(bundles), "--variants", variants]
    run_export("bundle", *arguments, *(["--model", model] if model else []))
    return bundles
