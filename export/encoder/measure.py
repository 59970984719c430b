"""A variant's speed, and the layers that quantising hurts most."""

import time
from collections.abc import Mapping
from pathlib import Path

from export.encoder.parity import cosines
from export.encoder.quantize import Activation, quantize
from export.encoder.source import SourceModel
from udfs.bundle import EncoderInfo
from udfs.encoder import Encoder, Vectors
from udfs.runtimes import Choice, EncoderOptions

#: Texts that fp32 is compared with PyTorch on, that a variant's speed is measured on, and that find the worst layers.
SPEED_TEXTS = 256
LAYER_TEXTS = 32
WORST_LAYERS = 3


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


def _unfused(source: SourceModel, fused: Mapping[str, int]) -> list[str]:
    """A warning for each kind of node that was not fused throughout."""
    wanted = {"gelu": source.layers, "layer_norm": 2 * source.layers + 1, "attention": source.layers}
    return [
        f"{kind} is fused in {fused[kind]} of {count} places: the encoder will be slower"
        for kind, count in wanted.items()
        if kind in fused and fused[kind] != count
    ]
