"""Measures a variant's speed, and finds nodes that were not fused and layers that quantising hurts most."""

import time
from collections.abc import Mapping
from pathlib import Path

from export.encoder.quantize import Activation, write_int8
from export.encoder.source import SourceModel
from udfs.bundles.manifest import EncoderInfo
from udfs.encoder.encoder import Encoder, EncoderFiles, Vectors
from udfs.encoder.options import EncoderOptions
from udfs.encoder.selection import Choice
from udfs.encoder.similarity import cosines

#: Texts on which a variant's speed is measured.
SPEED_TEXTS = 256
#: Texts on which the worst layers are found, and how many layers are named.
LAYER_TEXTS = 32
WORST_LAYERS = 3


def worst_layers(
    fp32: Path,
    tokenizer: Path,
    info: EncoderInfo,
    variant: str,
    activations: dict[str, Activation],
    reference: Vectors,
    texts: list[str],
) -> str:
    """Name the products that cost the most mean cosine when quantised alone, with that cosine.

    texts: with their prefixes. reference: float32 [texts, dimensions], their fp32 vectors.
    """
    texts, reference = texts[:LAYER_TEXTS], reference[:LAYER_TEXTS]
    cosine = {}
    for number, activation in enumerate(activations):
        alone = fp32.with_name(f"alone-{number}.onnx")
        write_int8(fp32, alone, activations, symmetric=variant == "tensorrt-int8", only=[activation])
        choice = Choice(variant, "cpu", "one layer")
        encoder = Encoder(EncoderFiles(alone, tokenizer, info, "int8", str(alone)), choice, EncoderOptions())
        cosine[activation] = float(cosines(encoder.encode_given(texts), reference).mean())
        alone.unlink()
    worst = sorted(cosine, key=cosine.__getitem__)[:WORST_LAYERS]
    return ", ".join(f"the one that takes {name} ({cosine[name]:.4f})" for name in worst)


def speed(encoder: Encoder, texts: list[str]) -> float:
    """Measure texts per second in batches of 64, the best of three runs. The texts have their prefixes."""
    texts = (texts * (SPEED_TEXTS // len(texts) + 1))[:SPEED_TEXTS]
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for first in range(0, SPEED_TEXTS, 64):
            encoder.encode_given(texts[first : first + 64])
        best = min(best, time.perf_counter() - start)
    return round(SPEED_TEXTS / best, 1)


def unfused(source: SourceModel, fused: Mapping[str, int]) -> list[str]:
    """Return a warning for each kind of node that was not fused throughout."""
    wanted = {"gelu": source.layers, "layer_norm": 2 * source.layers + 1, "attention": source.layers}
    return [
        f"{kind} is fused in {fused[kind]} of {count} places: the encoder will be slower"
        for kind, count in wanted.items()
        if kind in fused and fused[kind] != count
    ]
