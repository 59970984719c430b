"""The contenders of `python -m bench encode`: our variants, and the peers, each with its model made and tuned."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.encode.peers import BATCHES, SETTINGS
from bench.encode.text_sets import TextSet, calibration_texts
from bench.encode.worker import WARM_UP_TEXTS, Contender, Worker, text_file
from bench.environment import ROOT, cores, peers_python
from export.encoder.source import SourceModel
from udfs.bundles.bundle import Bundle
from udfs.core.errors import ShopstreamError

#: The contender that all others are compared with.
REFERENCE = "sentence-transformers"
#: Vectors that `ours-int8-cached` keeps.
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


def our_contenders(bundle: Bundle, bundles: Path, only: Sequence[str]) -> list[Contender]:
    """Our contenders that were asked for; by default, all whose variant the bundle has."""
    return [
        Contender(
            name,
            [sys.executable, "-m", "bench.encode.ours"],
            {
                "bundles": str(bundles.resolve()),
                "variant": variant,
                "provider": provider,
                "cache": cache,
                "threads": cores(),
            },
        )
        for name, (variant, provider, cache) in OURS.items()
        if (name in only if only else variant in bundle.manifest.encoder.variants)
    ]


def peer_contenders(
    names: Sequence[str],
    source: SourceModel,
    bundle: Bundle,
    calibration: Sequence[str],
    text_sets: Sequence[TextSet],
    folder: Path,
    progress: Console,
    *,
    tune: bool,
) -> list[Contender]:
    """The peers with their models made and, if `tune`, at their best settings; one that fails is reported and left out.

    calibration: titles that may be used to quantize.
    """
    python = peers_python("encode", "some 6 GB with PyTorch", progress)
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
        "threads": cores(),
    }
    (folder / "peers").mkdir()
    contenders = []
    for name in names:
        progress.print(f"{name}: making its model" + (" and trying its settings" if tune else ""), markup=False)
        config = {**common, "name": name, "setting": SETTINGS[name][0]}
        peer = Contender(name, [str(python), "-I", str(ROOT / "bench" / "encode" / "peers.py")], config)
        try:
            with Worker(peer, folder, "prepare"):
                pass
            contenders.append(_tuned(peer, text_sets, folder) if tune else peer)
        except ShopstreamError as error:
            progress.print(f"warning: left out: {error}", markup=False)
    return contenders


def _tuned(peer: Contender, text_sets: Sequence[TextSet], folder: Path) -> Contender:
    """The peer at the setting with the highest product of speeds, with its fastest batch size per text set."""
    best = peer
    best_score = -math.inf
    for setting in SETTINGS[peer.name]:
        trial = replace(peer, config={**peer.config, "setting": setting}, batches={})
        score = 0.0
        with Worker(trial, folder) as worker:
            for text_set in text_sets:
                seconds = {
                    batch: min(worker.encode(text_set, batch=batch, limit=WARM_UP_TEXTS) for _ in range(2))
                    for batch in BATCHES
                }
                trial.batches[text_set.name] = min(seconds, key=lambda batch: seconds[batch])
                score -= math.log(min(seconds.values()))
        if score > best_score:
            best = trial
            best_score = score
    return best
