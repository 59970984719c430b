"""The steps from a model, a catalogue and past sessions to a published bundle."""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from rich.console import Console

from export.co_visits import Visits, count_visits
from export.interactions import Interactions, interactions
from export.learn import Learned, learn, let_threads_sleep, write_past
from export.parity import GATE, check_gate, cosines, measure
from export.publish import draft_folder, publish
from export.quantize import Activation, calibrate, quantize
from export.source import SourceModel, open_source
from udfs.bundles.bundle import INDEX, Bundle
from udfs.bundles.forgotten import ErasureList
from udfs.bundles.manifest import EncoderInfo, Variant
from udfs.catalog.files import CATALOG, read_catalog
from udfs.catalog.index import build_index
from udfs.core.errors import ShopstreamError
from udfs.encoder.cache import CachedEncoder
from udfs.encoder.encoder import Encoder, Vectors
from udfs.encoder.options import EncoderOptions, Provider
from udfs.encoder.selection import Choice, choose
from udfs.events.files import EVENTS, read_events
from udfs.events.formats import column_names
from udfs.lake.history import past_events
from udfs.privacy.filtering import without_erased
from udfs.privacy.keys_file import read_keys

log = logging.getLogger(__name__)

#: The providers that each variant is for; the first that works where the export runs measures it.
VARIANTS: dict[str, tuple[Provider, ...]] = {
    "fp32": ("cpu", "openvino", "cuda", "tensorrt"),
    "int8": ("cpu", "openvino"),
    "bf16": ("openvino",),
    "fp16": ("cuda",),
    "tensorrt-int8": ("tensorrt",),
}
DEFAULT_VARIANTS = ("fp32", "int8", "fp16")
HELD_BACK = 500
#: Texts whose vectors are kept while a ranker learns.
CACHED_TEXTS = 1_000_000
#: Texts that fp32 is compared with PyTorch on, that a variant's speed is measured on, and that find the worst layers.
TORCH_TEXTS, SPEED_TEXTS, LAYER_TEXTS = 16, 256, 32
WORST_LAYERS = 3
#: Texts that calibrate beside the shop's own: of words of the vocabulary, and of so many of the shop's joined.
VOCABULARY_TEXTS, JOINED_TEXTS, JOINED = 256, 32, 24


@dataclass(frozen=True)
class ExportOptions:
    """What `python -m export bundle` was asked for. mapping: {contract field: column} for both files."""

    catalog: Path
    out: Path
    model: str | None = None
    sessions: Path | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    calibration: Path | None = None
    calibration_texts: int = 1024
    gate: Mapping[str, float] = field(default_factory=lambda: GATE)
    variants: tuple[str, ...] = DEFAULT_VARIANTS
    session_gap_minutes: float = 30
    set_current: bool = True
    learn: bool = False  #: a ranker, from the sessions
    repeats: bool = False  #: that may recommend again what a session has met
    index_from: int = 5_000  #: items from which the ranker finds titles by an index
    keys_file: Path | None = None  #: of the pseudonyms by which the job knows shoppers


@dataclass(frozen=True)
class Exported:
    """A published bundle and what its making showed.

    layers: of the model; fused: GELUs, layer norms and (in fp16) attentions that became one node each. seconds: of each
    step. texts_per_second: of each variant where it was measured, on short batches of 64, every core. torch_cosine: the
    lowest between fp32 and PyTorch.
    """

    bundle: Bundle
    layers: int
    fused: dict[str, int]
    torch_cosine: float
    texts_per_second: dict[str, float]
    seconds: dict[str, float]
    warnings: list[str]
    learned: Learned | None = None


class Steps:
    """Tells people which step runs, then how long it took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[Callable[[float], None]]:
        """Run one step, which may call what it is given with the share done."""
        start = time.perf_counter()
        with self._console.status(f"{name} …") as status:
            yield lambda share: status.update(f"{name} … {share:.0%}")
        self.seconds[name] = round(time.perf_counter() - start, 2)
        self._console.print(f"{name:<40} {self.seconds[name]:5.1f} s", markup=False)


def export_bundle(options: ExportOptions, console: Console) -> Exported:
    """Make and publish a bundle; `console` gets the progress.

    Raises ShopstreamError for an input that is missing or does not fit; nothing is left in `options.out` then.
    """
    if unknown := set(options.variants) - set(VARIANTS):
        raise ShopstreamError(
            f"unknown variant {', '.join(sorted(unknown))} (--variants); choose from {', '.join(VARIANTS)}"
        )
    if "fp32" not in options.variants:
        raise ShopstreamError("--variants has to name fp32: the item vectors are made with it")
    notes: list[str] = []
    step = Steps(console)
    with step("read catalogue and sessions"):
        source = open_source(options.model)
        items, dropped = _items(options)
        if dropped:
            notes.append(f"{dropped} rows of {options.catalog} have no title and were left out")
        visits = _visits(options, items)
        texts = items["title"].to_pylist() + visits.queries
        calibration, held_back = _texts(texts, options.calibration_texts, options.calibration)
    # transformers imports these where it finds them, for text generation and object detection only; 1.3 of 6.4 seconds,
    # 5 of 18 before Python has written its byte code.
    let_threads_sleep()
    with step("load PyTorch and Optimum"), _hidden("sklearn", "scipy"):
        from export import to_onnx
    with draft_folder(options.out) as draft, _quiet():
        (draft / "encoder").mkdir()
        tokenizer, files = draft / "tokenizer.json", {name: draft / f"encoder/{name}.onnx" for name in VARIANTS}
        with step("export to ONNX and fuse"):
            model = to_onnx.load_torch(source)
            to_onnx.write_tokenizer(source, tokenizer)
            with to_onnx.exported(model) as plain:
                fused = to_onnx.write_fp32(source, plain, files["fp32"])
                if "fp16" in options.variants:
                    fused |= to_onnx.write_fp16(source, plain, files["fp16"])
            if "bf16" in options.variants:
                to_onnx.write_bf16(files["fp32"], files["bf16"])
        notes += _unfused(source, fused)
        with step("compare with PyTorch"):
            sample = [source.prefix + text for text in held_back[:TORCH_TEXTS]]
            torch_cosine = to_onnx.verify_against_torch(source, model, files["fp32"], tokenizer, sample)
            del model
        if quantised := [name for name in options.variants if name.endswith("int8")]:
            with step(f"quantise to int8 on {len(calibration)} texts"):
                seen = _calibrate(source, draft, calibration, more=0 if options.calibration else VOCABULARY_TEXTS)
                for name in quantised:
                    quantize(files["fp32"], files[name], seen, symmetric=name == "tensorrt-int8")
        with step("measure parity and speed"):
            info = _encoder_info(source)
            encoders = {name: _encoder(draft, name, info) for name in options.variants}
            reference = encoders["fp32"].encode(held_back)
            for name, encoder in encoders.items():
                parity = measure(encoder, reference, held_back)
                info.variants[name] = Variant(f"encoder/{name}.onnx", name, VARIANTS[name], encoder.provider, parity)
            speeds = {name: _speed(encoder, held_back) for name, encoder in encoders.items()}
        for name in options.variants:
            if short := check_gate(name, info.variants[name].parity, options.gate):
                if name in quantised:
                    with step(f"find the layers that {name} hurts most"):
                        worst = _worst_layers(draft, info, name, seen, reference, held_back)
                    short += f"; the layers that it hurts most: {worst}"
                raise ShopstreamError(
                    f"{short}. Nothing was published: calibrate on texts like your own (--calibration), leave the "
                    "variant out (--variants), or lower the gate (--gate)"
                )
        with step(f"encode {len(items)} titles and write"):
            vectors = encoders["fp32"].encode(items["title"].to_pylist())
            if not options.learn:
                _write(draft, items, visits, vectors)
        learned = None
        if options.learn:
            with step("learn a ranker") as show:
                log = _interactions(options, items)
                # What a job would run here.
                job = choose(info.variants, EncoderOptions())
                cached = CachedEncoder(_encoder(draft, job.variant, info), CACHED_TEXTS)
                with TemporaryDirectory() as folder:
                    learned = learn(log, items, vectors, cached.encode, Path(folder), show, repeats=options.repeats)
                write_past(draft, log, items, vectors)
                (draft / "ranker.onnx").write_bytes(learned.model)
            if len(items) >= options.index_from:
                with step(f"index {len(items)} vectors"):
                    build_index(vectors, draft / INDEX)
        with step("publish"):
            ranker = learned.info if learned else None
            counts = (len(items), visits.sessions)
            bundle = publish(draft, options.out, source.name, info, counts, ranker, current=options.set_current)
    return Exported(bundle, source.layers, fused, torch_cosine, speeds, step.seconds, notes, learned)


def _unfused(source: SourceModel, fused: Mapping[str, int]) -> list[str]:
    """A warning for each kind of node that was not fused throughout."""
    wanted = {"gelu": source.layers, "layer_norm": 2 * source.layers + 1, "attention": source.layers}
    return [
        f"{kind} is fused in {fused[kind]} of {count} places: the encoder will be slower"
        for kind, count in wanted.items()
        if kind in fused and fused[kind] != count
    ]


@contextmanager
def _hidden(*packages: str) -> Iterator[None]:
    """Make packages look as if they were not installed, for what is imported meanwhile."""
    there = {name: sys.modules.get(name) for name in packages}
    sys.modules.update(dict.fromkeys(packages, cast(ModuleType, None)))  # what importlib takes as "not there"
    try:
        yield
    finally:
        for name, module in there.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


@contextmanager
def _quiet() -> Iterator[None]:
    """Optimum's, transformers' and PyTorch's warnings about their own insides stay off the screen."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _items(options: ExportOptions) -> tuple[pa.Table, int]:
    """The catalogue sorted by item_id, and how many rows had no title."""
    table, dropped = read_catalog(options.catalog, mapping=_mapping(options, options.catalog, CATALOG))
    if not len(table):
        raise ShopstreamError(f"{options.catalog}: no row has a title; a catalogue needs items with titles")
    return table.select(["item_id", "title", "category", "brand", "price", "in_stock"]).sort_by("item_id"), dropped


def _visits(options: ExportOptions, items: pa.Table) -> Visits:
    batches: Iterator[pa.RecordBatch] = iter(())
    if options.sessions is not None:
        batches = _events(options, options.sessions)
    return count_visits(batches, items["item_id"].combine_chunks(), round(options.session_gap_minutes * 60_000))


def _interactions(options: ExportOptions, items: pa.Table) -> Interactions:
    if options.sessions is None:
        raise ShopstreamError("a ranker learns from past sessions: name a file or the lake with --sessions")
    batches = _events(options, options.sessions)
    ids, gap_ms = items["item_id"].to_pylist(), round(options.session_gap_minutes * 60_000)
    return interactions(batches, gap_ms, ids).of_items(len(ids))


def _events(options: ExportOptions, source: Path) -> Iterator[pa.RecordBatch]:
    """Past events, by the names that shoppers have in the job, of those who are not to be forgotten.

    source: a file, or the lake's folder, whose shoppers have these names already but for those from before the keys.
    """
    keys = read_keys(options.keys_file) if options.keys_file else None
    events = past_events(source) if source.is_dir() else read_events(source, mapping=_mapping(options, source, EVENTS))
    return without_erased(events, keys, ErasureList.read(options.out))


def _mapping(options: ExportOptions, path: Path, schema: pa.Schema) -> dict[str, str]:
    """The part of --map that fits a file: one mapping serves the catalogue and the sessions."""
    if not options.mapping:
        return {}
    for name in options.mapping:
        if name not in CATALOG.names + EVENTS.names:
            raise ShopstreamError(f"--map {name}=…: there is no field {name!r} in a catalogue or in events")
    columns = column_names(path)
    return {name: column for name, column in options.mapping.items() if name in schema.names and column in columns}


def _texts(texts: list[str], wanted: int, file: Path | None) -> tuple[list[str], list[str]]:
    """Texts to calibrate on and others to measure on, by a shuffle that is the same every time.

    At most half of the distinct texts calibrate; a single text has to serve for both. Of a calibration file, with a
    text a line, so many are drawn, and none of its texts measures.
    """
    distinct = _shuffled(texts)
    if file is not None:
        calibration = _lines(file, wanted)
        known = set(calibration)
        others = [text for text in distinct if text.strip() not in known]
        if not others:
            raise ShopstreamError(f"--calibration {file} holds every text of the shop; leave some to measure on")
        return calibration, others[:HELD_BACK]
    count = min(wanted, (len(distinct) + 1) // 2)
    calibration, rest = distinct[:count], distinct[count:][:HELD_BACK]
    return calibration, rest or calibration


def _shuffled(texts: Iterable[str]) -> list[str]:
    """The distinct texts, in an order that is the same every time."""
    distinct = np.array(sorted(set(texts)), dtype=object)
    np.random.default_rng(0).shuffle(distinct)
    return distinct.tolist()  # type: ignore[no-any-return]


def _lines(file: Path, wanted: int) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ShopstreamError(f"--calibration {file} cannot be read: {error}") from error
    if not any(lines):
        raise ShopstreamError(f"--calibration {file} has no text; it should have one a line")
    return _shuffled(filter(None, lines))[:wanted]


def _calibrate(source: SourceModel, draft: Path, texts: list[str], more: int) -> dict[str, Activation]:
    """Calibrate on these texts; with `more`, also on some of them joined and on so many made of the model's vocabulary.

    So that few and short texts do as well for others.
    """
    from export.batches import exact_length_batches, vocabulary_texts

    tokenizer = draft / "tokenizer.json"
    if more:
        joined = [", ".join(texts[start : start + JOINED]) for start in range(0, JOINED_TEXTS * JOINED, JOINED)]
        texts = texts + [text for text in joined if text] + vocabulary_texts(tokenizer, more)
    texts = [source.prefix + text for text in texts]
    return calibrate(draft / "encoder" / "fp32.onnx", list(exact_length_batches(tokenizer, texts, source.max_tokens)))


def _worst_layers(
    draft: Path, info: EncoderInfo, variant: str, seen: dict[str, Activation], reference: Vectors, texts: list[str]
) -> str:
    """The products that cost the most mean cosine when each is quantised alone, with that cosine."""
    texts, reference = texts[:LAYER_TEXTS], reference[:LAYER_TEXTS]
    cosine = {}
    for place, activation in enumerate(seen):
        alone = draft / f"alone-{place}.onnx"
        quantize(draft / "encoder/fp32.onnx", alone, seen, symmetric=variant == "tensorrt-int8", only=[activation])
        choice = Choice(variant, "cpu", "one layer")
        encoder = Encoder.from_files(alone, draft / "tokenizer.json", info, choice, "int8", EncoderOptions())
        cosine[activation] = float(cosines(encoder.encode(texts), reference).mean())
        alone.unlink()
    worst = sorted(cosine, key=cosine.__getitem__)[:WORST_LAYERS]
    return ", ".join(f"the one that takes {name} ({cosine[name]:.4f})" for name in worst)


def _encoder(draft: Path, variant: str, info: EncoderInfo) -> Encoder:
    """A variant on the first of its providers that works here, at worst on ONNX Runtime's CPU provider."""
    file, tokenizer, options = draft / f"encoder/{variant}.onnx", draft / "tokenizer.json", EncoderOptions()
    providers: tuple[Provider, ...] = (*VARIANTS[variant], "cpu")
    for provider in providers:
        try:
            choice = Choice(variant, provider, "the export measures it")
            return Encoder.from_files(file, tokenizer, info, choice, variant, options)
        except ShopstreamError as error:
            if provider == "cpu":
                raise
            log.debug("%s: %s", variant, error)
    raise AssertionError("cpu is the last provider")


def _encoder_info(source: SourceModel) -> EncoderInfo:
    """The manifest's encoder part; its variants are added as they are measured."""
    return EncoderInfo(
        max_tokens=source.max_tokens,
        pooling=source.pooling,
        normalize=source.normalize,
        prefix=source.prefix,
        dimensions=source.hidden,
        variants={},
    )


def _speed(encoder: Encoder, texts: list[str]) -> float:
    """Texts per second in batches of 64, the best of three runs."""
    texts = (texts * (SPEED_TEXTS // len(texts) + 1))[:SPEED_TEXTS]
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for first in range(0, SPEED_TEXTS, 64):
            encoder.encode(texts[first : first + 64])
        best = min(best, time.perf_counter() - start)
    return round(SPEED_TEXTS / best, 1)


def _write(draft: Path, items: pa.Table, visits: Visits, vectors: Vectors) -> None:
    pq.write_table(items.append_column("popularity", pa.array(visits.popularity)), draft / "items.parquet")
    np.save(draft / "item_vectors.npy", vectors)
    sp.save_npz(draft / "co_visits.npz", visits.co_visits)
