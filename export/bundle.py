"""The steps from a model, a catalogue and past sessions to a published bundle."""

import logging
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from rich.console import Console

from export.co_visits import Visits, count_visits
from export.parity import measure
from export.publish import draft_folder, publish
from export.source import SourceModel, open_source
from udfs.bundle import Bundle, EncoderInfo, Variant
from udfs.datasets import CATALOG, EVENTS, column_names, read_catalog, read_events
from udfs.encoder import Encoder, EncoderOptions, Vectors
from udfs.errors import ShopstreamError

VARIANTS = ("fp32", "int8")
HELD_BACK = 500
#: Texts that fp32 is compared with PyTorch on, and that a variant's speed is measured on.
TORCH_TEXTS, SPEED_TEXTS = 16, 256
#: Mean cosine of int8 to fp32 below which the summary warns.
LOW_PARITY = 0.98


@dataclass(frozen=True)
class ExportOptions:
    """What `python -m export bundle` was asked for. mapping: {contract field: column} for both files."""

    catalog: Path
    out: Path
    model: str | None = None
    sessions: Path | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    calibration_texts: int = 256
    variants: tuple[str, ...] = VARIANTS
    session_gap_minutes: float = 30
    set_current: bool = True


@dataclass(frozen=True)
class Exported:
    """A published bundle and what its making showed.

    fused_attention: attention layers fused, of `layers`. seconds: of each step. texts_per_second: of each variant, on
    short batches of 64, every core. torch_cosine: the lowest between fp32 and PyTorch.
    """

    bundle: Bundle
    layers: int
    fused_attention: int
    torch_cosine: float
    texts_per_second: dict[str, float]
    seconds: dict[str, float]
    warnings: list[str]


class Steps:
    """Tells people which step runs, then how long it took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Run one step."""
        start = time.perf_counter()
        with self._console.status(f"{name} …"):
            yield
        self.seconds[name] = round(time.perf_counter() - start, 2)
        self._console.print(f"{name:<40} {self.seconds[name]:5.1f} s", markup=False)


def export_bundle(options: ExportOptions, console: Console) -> Exported:
    """Make and publish a bundle; `console` gets the progress.

    Raises ShopstreamError for an input that is missing or does not fit; nothing is left in `options.out` then.
    """
    if unknown := set(options.variants) - set(VARIANTS):
        raise ShopstreamError(f"unknown variant {', '.join(sorted(unknown))} (--variants); choose from fp32 and int8")
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
        calibration, held_back = _texts(items["title"].to_pylist() + visits.queries, options.calibration_texts)
    # transformers imports these where it finds them, for text generation and object detection only; 1.3 of 6.4 seconds,
    # 5 of 18 before Python has written its byte code.
    with step("load PyTorch and Optimum"), _hidden("sklearn", "scipy"):
        from export import to_onnx
    with draft_folder(options.out) as draft, _quiet():
        (draft / "encoder").mkdir()
        tokenizer, fp32 = draft / "tokenizer.json", draft / "encoder" / "fp32.onnx"
        with step("export to ONNX and fuse"):
            model = to_onnx.load_torch(source)
            to_onnx.write_tokenizer(source, tokenizer)
            fused = to_onnx.export_fused(source, model, fp32)
        with step("compare with PyTorch"):
            sample = [source.prefix + text for text in held_back[:TORCH_TEXTS]]
            torch_cosine = to_onnx.verify_against_torch(source, model, fp32, tokenizer, sample)
            del model
        if fused != source.layers:
            notes.append(f"attention is fused in {fused} of {source.layers} layers: the encoder will be slower")
        if "int8" in options.variants:
            with step(f"quantise to int8 on {len(calibration)} texts"):
                _quantize(source, draft, calibration)
        with step("measure parity and speed"):
            info = _encoder_info(source, options.variants)
            encoders = {name: _encoder(draft, name, info) for name in options.variants}
            reference = encoders["fp32"].encode(held_back)
            for name, encoder in encoders.items():
                parity = measure(encoder, reference, held_back)
                info.variants[name] = Variant(f"encoder/{name}.onnx", name, parity)
            speeds = {name: _speed(encoder, held_back) for name, encoder in encoders.items()}
        if (parity := info.variants[info.default_variant].parity).cosine_mean < LOW_PARITY:
            notes.append(f"int8 is far from fp32 (mean cosine {parity.cosine_mean:.3f}); consider --variants fp32")
        with step(f"encode {len(items)} titles and write"):
            vectors = encoders["fp32"].encode(items["title"].to_pylist())
            _write(draft, items, visits, vectors)
            bundle = publish(
                draft, options.out, source.name, info, len(items), visits.sessions, current=options.set_current
            )
    return Exported(bundle, source.layers, fused, torch_cosine, speeds, step.seconds, notes)


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
        batches = read_events(options.sessions, mapping=_mapping(options, options.sessions, EVENTS))
    return count_visits(batches, items["item_id"].combine_chunks(), round(options.session_gap_minutes * 60_000))


def _mapping(options: ExportOptions, path: Path, schema: pa.Schema) -> dict[str, str]:
    """The part of --map that fits a file: one mapping serves the catalogue and the sessions."""
    if not options.mapping:
        return {}
    for name in options.mapping:
        if name not in CATALOG.names + EVENTS.names:
            raise ShopstreamError(f"--map {name}=…: there is no field {name!r} in a catalogue or in events")
    columns = column_names(path)
    return {name: column for name, column in options.mapping.items() if name in schema.names and column in columns}


def _texts(texts: list[str], wanted: int) -> tuple[list[str], list[str]]:
    """Texts to calibrate on and others to measure on, by a shuffle that is the same every time.

    At most half of the distinct texts calibrate; a single text has to serve for both.
    """
    distinct = np.array(sorted(set(texts)), dtype=object)
    np.random.default_rng(0).shuffle(distinct)
    count = min(wanted, (len(distinct) + 1) // 2)
    calibration, rest = distinct[:count].tolist(), distinct[count:][:HELD_BACK].tolist()
    return calibration, rest or calibration


def _quantize(source: SourceModel, draft: Path, texts: list[str]) -> None:
    from export.batches import exact_length_batches
    from export.quantize import quantize

    feeds = exact_length_batches(draft / "tokenizer.json", [source.prefix + text for text in texts], source.max_tokens)
    quantize(draft / "encoder" / "fp32.onnx", draft / "encoder" / "int8.onnx", feeds)


def _encoder(draft: Path, variant: str, info: EncoderInfo) -> Encoder:
    options = EncoderOptions(provider="cpu")
    return Encoder.from_files(draft / "encoder" / f"{variant}.onnx", draft / "tokenizer.json", info, options)


def _encoder_info(source: SourceModel, names: tuple[str, ...]) -> EncoderInfo:
    """The manifest's encoder part; its variants are added as they are measured."""
    return EncoderInfo(
        max_tokens=source.max_tokens,
        pooling=source.pooling,
        normalize=source.normalize,
        prefix=source.prefix,
        dimensions=source.hidden,
        variants={},
        default_variant="int8" if "int8" in names else "fp32",
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
