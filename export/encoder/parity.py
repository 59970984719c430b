"""How close a variant's vectors are to fp32, whether each depends on its text alone, and the gate on both."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from udfs.bundle import Parity
from udfs.encoder import Encoder, Vectors
from udfs.errors import ShopstreamError

NEIGHBOURS = 10
#: Texts that are encoded one by one, in mixed batches and with padding as well; the first of those given.
ALONE = 64
MIXED = 17
PADDING = (1, 8, 32, 96)
#: Decimals in the manifest.
DIGITS = 6
#: The least of each figure that a variant must reach to be published.
GATE: Mapping[str, float] = {
    "cosine_mean": 0.99,
    "cosine_p1": 0.98,
    "spearman": 0.98,
    "top10_overlap": 0.9,
    "batch_invariance": 0.99999,
}


def measure(variant: Encoder, reference: Vectors, texts: Sequence[str]) -> Parity:
    """Parity of a variant on texts whose fp32 vectors, float32 [texts, dimensions], are the reference."""
    vectors = variant.encode(texts)
    cosine = cosines(vectors, reference)
    few = texts[:ALONE]
    alone = np.concatenate([variant.encode([text]) for text in few])
    mixed = np.concatenate([variant.encode(few[start : start + MIXED]) for start in range(0, len(few), MIXED)])
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
    """What a variant falls short of, in words; empty when it passes. NaN falls short."""
    short = [
        f"{figure} {getattr(parity, figure)} < {least}"
        for figure, least in gate.items()
        if not getattr(parity, figure) >= least
    ]
    return f"variant {name} is too far from fp32: {', '.join(short)}" if short else ""


def parse_gate(text: str) -> dict[str, float]:
    """GATE with what 'cosine_mean=.995,top10_overlap=.95' says in it; ShopstreamError for anything else."""
    gate = dict(GATE)
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = np.nan
        if name.strip() not in Parity.__struct_fields__[1:] or not 0 <= number <= 1:
            raise ShopstreamError(
                f"--gate {part!r} should look like cosine_mean=0.995; figures: "
                f"{', '.join(Parity.__struct_fields__[1:])}, each from 0 to 1"
            )
        gate[name.strip()] = number
    return gate


def cosines(a: Vectors, b: Vectors) -> npt.NDArray[np.float64]:
    """float64 [n]: cosine of each pair of rows of float32 [n, d]; exactly 1 where the rows are bit-identical."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    cosine = (a64 * b64).sum(axis=1) / (np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1))
    return np.asarray(np.where((a == b).all(axis=1), 1.0, cosine), dtype=np.float64)


def neighbour_overlap(a: Vectors, b: Vectors) -> float:
    """Mean share of a row's ten nearest other rows (by cosine) that a and b, float32 [n, d], agree on."""
    k = min(NEIGHBOURS, len(a) - 1)
    if k == 0:
        return 1.0
    member = np.zeros((2, len(a), len(a)), dtype=bool)
    for place, vectors in enumerate((a, b)):
        similarity = _similarity(vectors)
        np.fill_diagonal(similarity, -2)
        np.put_along_axis(member[place], np.argsort(-similarity, axis=1, kind="stable")[:, :k], True, axis=1)
    return float((member[0] & member[1]).sum() / (k * len(a)))


def _similarity(vectors: Vectors) -> Vectors:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T, dtype=np.float32)


def _spearman(a: Vectors, b: Vectors) -> float:
    """Rank correlation of all pairs' cosines by a and by b, float32 [n, d]; 1 for fewer than three rows."""
    if len(a) < 3:
        return 1.0
    pairs = np.triu_indices(len(a), 1)
    return float(np.corrcoef(rankdata(_similarity(a)[pairs]), rankdata(_similarity(b)[pairs]))[0, 1])


def _padding_invariance(variant: Encoder, texts: Sequence[str], vectors: Vectors) -> float:
    """Lowest cosine between vectors as the encoder makes them and with padding behind, as a batch of mixed lengths has.

    float32 [texts, dimensions].
    """
    tokens = variant.token_ids(texts)
    lowest = 1.0
    for padding in PADDING:
        width = min(max(map(len, tokens)) + padding, variant.info.max_tokens)
        ids = np.zeros((len(tokens), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, one in enumerate(tokens):
            ids[row, : len(one)] = one
            mask[row, : len(one)] = 1
        lowest = min(lowest, float(cosines(variant.run(ids, mask), vectors).min()))
    return lowest
