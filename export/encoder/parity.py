"""Measures how close a variant's vectors are to fp32 and whether each depends on its text alone."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from scipy.stats import rankdata

from export.gate import gate_failures
from udfs.bundles.manifest import Parity
from udfs.encoder.encoder import Encoder, Vectors
from udfs.encoder.similarity import cosines, neighbour_overlap, pairwise_cosines

#: The first texts given, this many, are also encoded one by one, in mixed batches and with padding.
ALONE = 64
MIXED = 17
PADDING = (1, 8, 32, 96)
#: Decimals in the manifest.
DIGITS = 6


def measure_parity(variant: Encoder, reference: Vectors, texts: Sequence[str]) -> Parity:
    """Measure a variant on texts with their prefixes. reference: float32 [texts, dimensions], their fp32 vectors."""
    vectors = variant.encode_given(texts)
    cosine = cosines(vectors, reference)
    few = texts[:ALONE]
    alone = np.concatenate([variant.encode_given([text]) for text in few])
    mixed = np.concatenate([variant.encode_given(few[start : start + MIXED]) for start in range(0, len(few), MIXED)])
    batches = min(float(cosines(other, vectors[: len(few)]).min()) for other in (alone, mixed))
    return Parity(
        texts=len(texts),
        cosine_mean=round(float(cosine.mean()), DIGITS),
        cosine_p1=round(float(np.percentile(cosine, 1)), DIGITS),
        cosine_min=round(float(cosine.min()), DIGITS),
        spearman=round(_spearman(vectors, reference), DIGITS),
        top10_overlap=round(neighbour_overlap(vectors, reference), DIGITS),
        batch_invariance=round(batches, DIGITS),
        padding_invariance=round(_padding_invariance(variant, few, vectors[: len(few)]), DIGITS),
    )


def check_gate(name: str, parity: Parity, gate: Mapping[str, float]) -> str:
    """Return the figures that fail the gate, in words; empty when the variant passes. NaN fails."""
    failures = gate_failures(msgspec.structs.asdict(parity), gate)
    return f"variant {name} is too far from fp32: {', '.join(failures)}" if failures else ""


def _spearman(a: Vectors, b: Vectors) -> float:
    """Return the rank correlation between all pairs' cosines in a and in b, float32 [n, d]; 1 for under three rows."""
    if len(a) < 3:
        return 1.0
    pairs = np.triu_indices(len(a), 1)
    return float(np.corrcoef(rankdata(pairwise_cosines(a)[pairs]), rankdata(pairwise_cosines(b)[pairs]))[0, 1])


def _padding_invariance(variant: Encoder, texts: Sequence[str], vectors: Vectors) -> float:
    """Return the lowest cosine between the texts' vectors, float32 [texts, dimensions], and those with padding added.

    A batch of mixed lengths would pad like this.
    """
    tokens = variant.token_ids(texts)
    lowest = 1.0
    for padding in PADDING:
        width = min(max(map(len, tokens)) + padding, variant.info.max_tokens)
        ids = np.zeros((len(tokens), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        lowest = min(lowest, float(cosines(variant.run(ids, mask), vectors).min()))
    return lowest
