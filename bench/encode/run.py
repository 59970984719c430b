"""`python -m bench encode`: our encoder beside peers on the CPU, one process each, of which one runs at a time."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from tokenizers import Tokenizer

from bench.chart import require_drawing
from bench.encode.contenders import NAMES, _ours, _peers
from bench.encode.measure import race
from bench.encode.peers import SETTINGS
from bench.encode.report import Result, draw, show
from bench.encode.text_sets import TextSet, make_text_sets, read_titles
from bench.encode.worker import text_file
from bench.environment import last_line
from export.source import open_source
from udfs.bundle import open_bundle
from udfs.errors import ShopstreamError
from udfs.runtimes import cpu_flags


@dataclass(frozen=True)
class Options:
    """What was asked for: the files, the rounds, the contenders' names (none: all), and whether in a hurry."""

    catalog: Path | None = None
    model: str | None = None
    bundles: Path | None = None
    rounds: int = 5
    only: tuple[str, ...] = ()
    quick: bool = False


def run(options: Options, *, as_json: bool, chart: Path | None) -> None:
    """Measure, and print tables or a JSON list; raises ShopstreamError for what a user can mend."""
    if unknown := sorted(set(options.only) - set(NAMES)):
        raise ShopstreamError(f"--only names {', '.join(unknown)}; the contenders are {', '.join(NAMES)}")
    if chart is not None:
        require_drawing(chart)
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    with TemporaryDirectory(prefix="shopstream-bench-") as folder:
        origin, sets, results = measure(options, Path(folder), notes)
    if chart is not None:
        draw([result.row for result in results], chart)
    if as_json:
        sys.stdout.write(json.dumps([asdict(result.row) for result in results], indent=1) + "\n")
    else:
        width = None if sys.stdout.isatty() else 120
        show(origin, sets, results, Console(highlight=False, soft_wrap=True, width=width))


def measure(options: Options, folder: Path, notes: Console) -> tuple[str, list[TextSet], list[Result]]:
    """Where the titles are from, the text sets, and the results; `folder` takes everything that is written."""
    source = open_source(options.model)
    titles = read_titles(options.catalog)
    notes.print(f"texts: {titles.origin}, {len(titles.calibration)} of them for calibration alone", markup=False)
    bundles = options.bundles or _export(options.model, titles.calibration, folder, notes)
    bundle = open_bundle(bundles)
    tokenizer = Tokenizer.from_file(str(bundle.tokenizer))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    sets = make_text_sets(titles.measured, tokenizer, source.prefix, quick=options.quick)
    for text_set in sets:
        text_file(folder, text_set.name).write_text(json.dumps(text_set.texts))
    contenders = _ours(bundle, bundles, options.only)
    if peers := [name for name in SETTINGS if not options.only or name in options.only]:
        contenders += _peers(peers, source, bundle, titles.calibration, sets, folder, notes, tune=not options.quick)
    return titles.origin, sets, race(contenders, sets, options.rounds, folder, notes)


def _export(model: str | None, titles: Sequence[str], folder: Path, notes: Console) -> Path:
    """A folder with a bundle made on the titles for calibration."""
    notes.print("exporting our variants")
    catalog, bundles = folder / "catalog.jsonl", folder / "bundles"
    items = ({"item_id": f"i{place}", "title": title} for place, title in enumerate(titles))
    catalog.write_text("".join(json.dumps(item) + "\n" for item in items))
    command = [sys.executable, "-m", "export", "bundle", "--catalog", str(catalog), "--out", str(bundles), "--json"]
    command += ["--model", model] if model else []
    command += ["--variants", "fp32,int8,bf16" if cpu_flags() & {"avx512_bf16", "amx_bf16"} else "fp32,int8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ShopstreamError(f"the export failed: {last_line(done.stderr).removeprefix('error: ')}")
    return bundles
