"""The steps from a model, a catalogue and past sessions to a published bundle."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from rich.console import Console

from export.bundle.options import Exported, ExportOptions
from export.bundle.progress import Steps, _hidden, _quiet
from export.bundle.publish import draft_folder, publish
from export.encoder.calibration import VOCABULARY_TEXTS, _calibrate, _texts
from export.encoder.measure import _speed, _unfused, _worst_layers
from export.encoder.parity import check_gate, measure
from export.encoder.quantize import quantize
from export.encoder.source import open_source
from export.encoder.variants import VARIANTS, _encoder, _encoder_info
from export.history.co_visits import Visits
from export.history.files import write_past
from export.history.reading import _interactions, _items, _visits
from export.ranker.train import learn, let_threads_sleep
from udfs.bundle import INDEX, Variant
from udfs.encoder import CachedEncoder, Vectors
from udfs.errors import ShopstreamError
from udfs.index import build_index
from udfs.runtimes import EncoderOptions, choose

#: Texts whose vectors are kept while a ranker learns.
CACHED_TEXTS = 1_000_000
#: Texts that fp32 is compared with PyTorch on.
TORCH_TEXTS = 16


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
        from export.encoder import to_onnx
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


def _write(draft: Path, items: pa.Table, visits: Visits, vectors: Vectors) -> None:
    pq.write_table(items.append_column("popularity", pa.array(visits.popularity)), draft / "items.parquet")
    np.save(draft / "item_vectors.npy", vectors)
    sp.save_npz(draft / "co_visits.npz", visits.co_visits)
