"""`python -m bench encode`: our encoder beside peers on the CPU, one process each, of which one runs at a time."""

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from bench.chart import draw, require_drawing
from bench.environment import ROOT, peers_python, peers_versions
from bench.peers_encode import BATCHES, SETTINGS, Vectors
from bench.text_sets import TextSet, calibration_texts, make_text_sets, read_titles
from export.encoder.parity import NEIGHBOURS, cosines, neighbour_overlap
from export.encoder.source import SourceModel, open_source
from udfs.bundles.bundle import Bundle, open_bundle
from udfs.core.errors import ShopstreamError
from udfs.encoder.selection import cpu_flags

REFERENCE = "sentence-transformers"
CACHE = 50_000
#: Our contenders: variant, provider, cache.
OURS: Mapping[str, tuple[str, str, int]] = {
    "ours-int8": ("int8", "openvino", 0),
    "ours-bf16": ("bf16", "openvino", 0),
    "ours-fp32": ("fp32", "openvino", 0),
    "ours-int8-onnxruntime": ("int8", "cpu", 0),
    "ours-int8-cached": ("int8", "openvino", CACHE),
}
NAMES = (*OURS, *SETTINGS)
PEER_PACKAGES = ("sentence-transformers", "torch", "onnxruntime", "openvino", "nncf", "fastembed", "ctranslate2")
#: Instructions that decide how fast int8 and bf16 are.
FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
#: Texts that are encoded one by one as well, and how close these vectors have to be to the others.
ALONE, SAME_COSINE = 64, 0.99999
#: Texts of a set that a worker warms up on, and that a peer's settings are tried on.
WARM_TEXTS = 512
#: Seconds between two runs, in which the threads of the first go to sleep (OpenMP's spin for up to 0.2 s).
PAUSE_S = 0.5
#: Share of a core above which a waiting worker is reported.
IDLE_SHARE = 0.02
#: Without network or telemetry, and tokenizers with every core.
WORKER_ENV = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "true",
}


@dataclass(frozen=True)
class Options:
    """What was asked for: the files, the rounds, the contenders' names (none: all), and whether in a hurry."""

    catalog: Path | None = None
    model: str | None = None
    bundles: Path | None = None
    rounds: int = 5
    only: tuple[str, ...] = ()
    quick: bool = False


@dataclass(frozen=True)
class Row:
    """One contender on one text set, as the JSON has it.

    texts_per_s is the median of the rounds, the ratio the median of each round's. Cosines and the overlap of the ten
    nearest neighbours are to Sentence Transformers' fp32 vectors, null without these, as is the ratio.
    batch_invariant: a text alone gets the vector that it gets among the others, and the same ten neighbours.
    memory_mb: peak of the contender's process, all text sets together.
    """

    name: str
    text_set: str
    texts_per_s: float
    ratio_to_sentence_transformers: float | None
    cosine_mean: float | None
    cosine_p01: float | None
    top10_overlap: float | None
    batch_invariant: bool
    memory_mb: float


@dataclass(frozen=True)
class Result:
    """A row, the seconds of each round behind it, and the settings that the contender ran with."""

    row: Row
    seconds: list[float]
    setting: str

    @property
    def ours(self) -> bool:
        """Whether this is one of our contenders."""
        return self.row.name.startswith("ours")


@dataclass
class Contender:
    """What a worker is started with, and by text set the batch size it runs with (ours chooses for itself)."""

    name: str
    command: list[str]
    config: dict[str, Any]
    batches: dict[str, int] = field(default_factory=dict)

    def takes(self, text_set: TextSet) -> bool:
        """A cache is for the stream alone."""
        return not self.config.get("cache") or text_set.chunk > 0

    def setting(self, text_set: TextSet) -> str:
        """The settings on a text set, for people."""
        if text_set.name not in self.batches:
            return ""
        parts = [
            f"{key} {value}" for key, value in {**self.config["setting"], "batch": self.batches[text_set.name]}.items()
        ]
        return ", ".join(parts)


# --- the command ------------------------------------------------------------------------------------------------------


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


def text_file(folder: Path, name: str) -> Path:
    """Where the texts of a set are, as JSON."""
    return folder / f"{name}.json"


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
        raise ShopstreamError(f"the export failed: {_last_line(done.stderr).removeprefix('error: ')}")
    return bundles


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


# --- the contenders ---------------------------------------------------------------------------------------------------


def _threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ours(bundle: Bundle, bundles: Path, only: Sequence[str]) -> list[Contender]:
    """Our contenders: those asked for, by default each that the bundle has the variant for."""
    return [
        Contender(
            name,
            [sys.executable, "-m", "bench.ours_encode"],
            {
                "bundles": str(bundles.resolve()),
                "variant": variant,
                "provider": provider,
                "cache": cache,
                "threads": _threads(),
            },
        )
        for name, (variant, provider, cache) in OURS.items()
        if (name in only if only else variant in bundle.manifest.encoder.variants)
    ]


def _peers(
    names: Sequence[str],
    source: SourceModel,
    bundle: Bundle,
    calibration: Sequence[str],
    sets: Sequence[TextSet],
    folder: Path,
    notes: Console,
    *,
    tune: bool,
) -> list[Contender]:
    """The peers, each with its model made and at its best settings; one that fails is reported and left out."""
    python = peers_python("encode", "some 6 GB with PyTorch", notes)
    text_file(folder, "calibration").write_text(json.dumps(calibration_texts(calibration)))
    common = {
        "model": str(source.folder.resolve()),
        "prepared": str(folder / "peers"),
        "tokenizer": str(bundle.tokenizer.resolve()),
        "calibration": str(text_file(folder, "calibration")),
        "pad": json.loads((source.folder / "config.json").read_text()).get("pad_token_id", 0),
        "max_tokens": source.max_tokens,
        "pooling": source.pooling,
        "normalize": source.normalize,
        "prefix": source.prefix,
        "dimensions": source.hidden,
        "threads": _threads(),
    }
    (folder / "peers").mkdir()
    contenders = []
    for name in names:
        notes.print(f"{name}: making its model" + (" and trying its settings" if tune else ""), markup=False)
        config = {**common, "name": name, "setting": SETTINGS[name][0]}
        peer = Contender(name, [str(python), "-I", str(ROOT / "bench" / "peers_encode.py")], config)
        try:
            with Worker(peer, folder, "prepare"):
                pass
            contenders.append(_tuned(peer, sets, folder) if tune else peer)
        except ShopstreamError as error:
            notes.print(f"warning: left out: {error}", markup=False)
    return contenders


def _tuned(peer: Contender, sets: Sequence[TextSet], folder: Path) -> Contender:
    """The peer with its fastest batch size for each text set, and the setting whose speeds have the highest product."""
    best, best_score = peer, -math.inf
    for setting in SETTINGS[peer.name]:
        trial = replace(peer, config={**peer.config, "setting": setting}, batches={})
        score = 0.0
        with Worker(trial, folder) as worker:
            for text_set in sets:
                seconds = {
                    batch: min(worker.encode(text_set, batch=batch, limit=WARM_TEXTS) for _ in range(2))
                    for batch in BATCHES
                }
                trial.batches[text_set.name] = min(seconds, key=lambda batch: seconds[batch])
                score -= math.log(min(seconds.values()))
        if score > best_score:
            best, best_score = trial, score
    return best


class Worker:
    """A contender's process. It answers one request after the other and sleeps between them.

    memory_mb is its peak so far. Raises ShopstreamError with the last line of its log when it ends before it should.
    """

    def __init__(self, contender: Contender, folder: Path, do: str = "serve") -> None:
        self.contender, self._folder = contender, folder
        self.memory_mb = self._idle_cpu_s = self._idle_s = 0.0
        self._log = folder / f"{contender.name}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*contender.command, do],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | WORKER_ENV,
                text=True,
            )
        self._in, self._out = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        try:
            self._ask(contender.config)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def idle_share(self) -> float:
        """CPU time while it waited, as a share of a core."""
        return self._idle_cpu_s / max(self._idle_s, 1e-9)

    def encode(
        self, text_set: TextSet, *, limit: int | None = None, batch: int | None = None, save: Path | None = None
    ) -> float:
        """Encode a text set once, or its first `limit` texts; seconds. `save` takes the vectors."""
        answer = self._ask(
            {
                "texts": str(text_file(self._folder, text_set.name)),
                "limit": limit,
                "chunk": text_set.chunk,
                "batch": batch or self.contender.batches.get(text_set.name, BATCHES[0]),
                "save": str(save) if save else None,
            }
        )
        self.memory_mb = answer["memory_mb"]
        self._idle_cpu_s += answer["idle_cpu_s"]
        self._idle_s += answer["idle_s"]
        return answer["seconds"]

    def _ask(self, message: Mapping[str, Any]) -> dict[str, float]:
        try:
            self._in.write(json.dumps(message) + "\n")
            self._in.flush()
            return dict(json.loads(self._out.readline()))
        except (BrokenPipeError, json.JSONDecodeError):
            raise ShopstreamError(f"{self.contender.name} failed: {_last_line(self._log.read_text())}") from None


# --- the race ---------------------------------------------------------------------------------------------------------


def race(
    contenders: Sequence[Contender], sets: Sequence[TextSet], rounds: int, folder: Path, notes: Console
) -> list[Result]:
    """Every contender on every text set: all of them loaded, one running at a time."""
    if not contenders:
        raise ShopstreamError("no contender is left to measure")
    with ExitStack() as stack:
        workers = []
        for contender in contenders:
            notes.print(f"{contender.name}: loading and warming up", markup=False)
            workers.append(stack.enter_context(Worker(contender, folder)))
            for text_set in filter(contender.takes, sets):
                workers[-1].encode(text_set, limit=WARM_TEXTS)
        results = [result for text_set in sets for result in _race_on(text_set, workers, rounds, folder, notes)]
        for worker in workers:
            if worker.idle_share > IDLE_SHARE:
                notes.print(
                    f"warning: {worker.contender.name} took {worker.idle_share:.0%} of a core from the others "
                    "while it waited",
                    markup=False,
                )
    return results


def _race_on(
    text_set: TextSet, workers: Sequence[Worker], rounds: int, folder: Path, notes: Console
) -> Iterator[Result]:
    """Rounds over one text set, each in the order opposite to the last; then what the vectors are worth."""
    takers = {worker.contender.name: worker for worker in workers if worker.contender.takes(text_set)}
    saved = {name: folder / f"{name}.npy" for name in takers}
    seconds: dict[str, list[float]] = {name: [] for name in takers}
    for number in range(rounds):
        notes.print(f"{text_set.name}: round {number + 1} of {rounds}", markup=False)
        for name in takers if number % 2 == 0 else reversed(takers):
            time.sleep(PAUSE_S)
            seconds[name].append(takers[name].encode(text_set, save=saved[name]))
    distinct = np.sort(np.unique(text_set.texts, return_index=True)[1])
    alone = TextSet(f"{text_set.name}-alone", "", [text_set.texts[place] for place in distinct[:ALONE]], chunk=1)
    text_file(folder, alone.name).write_text(json.dumps(alone.texts))
    reference: Vectors | None = np.load(saved[REFERENCE])[distinct] if REFERENCE in takers else None
    for name, worker in takers.items():
        vectors = np.load(saved[name])[distinct]
        worker.encode(alone, save=saved[name])
        cosine_mean, cosine_p01, overlap = fidelity(vectors, reference)
        row = Row(
            name=name,
            text_set=text_set.name,
            texts_per_s=round(len(text_set.texts) / statistics.median(seconds[name]), 1),
            ratio_to_sentence_transformers=median_ratio(seconds.get(REFERENCE), seconds[name]),
            cosine_mean=cosine_mean,
            cosine_p01=cosine_p01,
            top10_overlap=overlap,
            batch_invariant=is_invariant(np.load(saved[name]), vectors),
            memory_mb=round(worker.memory_mb, 1),
        )
        yield Result(row, seconds[name], worker.contender.setting(text_set))


def median_ratio(base: Sequence[float] | None, seconds: Sequence[float]) -> float | None:
    """Median over the rounds of how many times as fast as `base` a contender was; None without a base."""
    if base is None:
        return None
    return round(statistics.median(b / s for b, s in zip(base, seconds, strict=True)), 3)


def fidelity(vectors: Vectors, reference: Vectors | None) -> tuple[float | None, float | None, float | None]:
    """Mean and 1st percentile of the cosines, and the overlap of the ten nearest, of float32 [texts, dimensions]."""
    if reference is None:
        return None, None, None
    cosine = cosines(vectors, reference)
    figures = (cosine.mean(), np.percentile(cosine, 1), neighbour_overlap(vectors, reference))
    mean, p01, overlap = (round(float(figure), 6) for figure in figures)
    return mean, p01, overlap


def is_invariant(alone: Vectors, vectors: Vectors) -> bool:
    """Whether the first of the vectors, float32 [texts, dimensions], are those of the texts encoded alone.

    Their cosines are SAME_COSINE or more, and both have the same ten nearest among the others, in the same order.
    """
    among = vectors[: len(alone)]
    if cosines(alone, among).min() < SAME_COSINE:
        return False
    return np.array_equal(_nearest(alone, vectors), _nearest(among, vectors))


def _nearest(some: Vectors, vectors: Vectors) -> npt.NDArray[np.int64]:
    """The ten nearest of the vectors to each of `some`, which stand for the first of them: int64 [some, 10]."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = some.astype(np.float64) @ unit.T.astype(np.float64)
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(vectors) - 1)]


# --- what people read -------------------------------------------------------------------------------------------------


def show(origin: str, sets: Sequence[TextSet], results: Sequence[Result], console: Console) -> None:
    """A table for each text set, the fastest first, then the texts, the machine, the versions and who won."""
    for text_set in sets:
        of_set = [result for result in results if result.row.text_set == text_set.name]
        of_set.sort(key=lambda result: -result.row.texts_per_s)
        console.print(_table(text_set, of_set))
        settings = [f"{result.row.name}: {result.setting}" for result in of_set if result.setting]
        if settings:
            console.print(f"  tried and kept: {'; '.join(settings)}\n", markup=False)
    console.print(f"texts: {origin}; × s-t, cosine and top-10: against {REFERENCE}, fp32", markup=False)
    console.print(f"machine: {machine()}", markup=False)
    console.print(f"versions: {_versions(results)}", markup=False)
    if line := victory(sets, results):
        console.print(line, markup=False)


def _table(text_set: TextSet, results: Sequence[Result]) -> Table:
    table = Table("", title=f"{text_set.name}: {text_set.about}", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("texts/s", "min – max", "× s-t", "cosine", "1st pct", "top-10", "alone", "MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        row = result.row
        speeds = [len(text_set.texts) / seconds for seconds in result.seconds]
        table.add_row(
            row.name,
            f"{row.texts_per_s:,.0f}",
            f"{min(speeds):,.0f} – {max(speeds):,.0f}",
            _figure(row.ratio_to_sentence_transformers, 2),
            _figure(row.cosine_mean, 4),
            _figure(row.cosine_p01, 4),
            _figure(row.top10_overlap, 3),
            "same" if row.batch_invariant else "differs",
            f"{row.memory_mb:,.0f}",
            style="bold" if result.ours else None,
        )
    return table


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def victory(sets: Sequence[TextSet], results: Sequence[Result]) -> str:
    """Of each text set, how many times as fast as the fastest peer our fastest is; empty without both."""
    parts = []
    for text_set in sets:
        ranked = sorted(results, key=lambda result: -result.row.texts_per_s)
        of_set = [result for result in ranked if result.row.text_set == text_set.name]
        ours = next((result for result in of_set if result.ours), None)
        peer = next((result for result in of_set if not result.ours), None)
        if ours and peer:
            times = median_ratio(peer.seconds, ours.seconds)
            parts.append(f"{text_set.name} {times:.2f} × ({ours.row.name} to {peer.row.name})")
    return f"ours to the fastest peer: {', '.join(parts)}" if parts else ""


def machine() -> str:
    """The processor, how many of its cores this process may use, and which of its instructions matter here."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return ", ".join([model, f"{_threads()} cores", *(flag for flag in FLAGS if flag in cpu_flags())])


def _versions(results: Sequence[Result]) -> str:
    """Of our runtimes here, and of the peers in their environment."""
    ours = [(name, import_module(name).__version__) for name in ("onnxruntime", "openvino") if find_spec(name)]
    line = "ours: " + ", ".join(f"{name} {number.split('-')[0]}" for name, number in ours)
    if all(result.ours for result in results):
        return line
    peers = peers_versions("encode", *PEER_PACKAGES)
    return f"{line}; peers: {', '.join(f'{name} {number}' for name, number in peers.items())}"
