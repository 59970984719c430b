"""How close a variant's vectors are to fp32, and whether a text's vector depends on that text alone."""

import numpy as np
import numpy.typing as npt

from udfs.bundle import Parity
from udfs.encoder import Encoder, Vectors

NEIGHBOURS = 10
#: Texts that are encoded one by one as well; the first of those given.
ALONE = 64
#: Decimals in the manifest.
DIGITS = 6


def measure(variant: Encoder, reference: Vectors, texts: list[str]) -> Parity:
    """Parity of a variant on texts whose fp32 vectors, float32 [texts, dimensions], are the reference."""
    vectors = variant.encode(texts)
    alone = np.concatenate([variant.encode([text]) for text in texts[:ALONE]])
    cosine = cosines(vectors, reference)
    return Parity(
        texts=len(texts),
        cosine_mean=round(float(cosine.mean()), DIGITS),
        cosine_p1=round(float(np.percentile(cosine, 1)), DIGITS),
        cosine_min=round(float(cosine.min()), DIGITS),
        top10_overlap=round(neighbour_overlap(vectors, reference), DIGITS),
        batch_invariance=round(float(cosines(alone, vectors[:ALONE]).min()), DIGITS),
    )


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
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        similarity = unit @ unit.T
        np.fill_diagonal(similarity, -2)
        np.put_along_axis(member[place], np.argsort(-similarity, axis=1, kind="stable")[:, :k], True, axis=1)
    return float((member[0] & member[1]).sum() / (k * len(a)))
