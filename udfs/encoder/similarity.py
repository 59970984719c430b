"""How alike two encoders' vectors of the same texts are."""

import numpy as np
import numpy.typing as npt

from udfs.core.arrays import Scores

#: Nearest texts that are compared.
NEIGHBOURS = 10


def cosines(a: Scores, b: Scores) -> npt.NDArray[np.float64]:
    """Return the cosine of each pair of rows of float32 [n, d], float64 [n]; exactly 1 where rows are bit-identical."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    cosine = (a64 * b64).sum(axis=1) / (np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1))
    return np.asarray(np.where((a == b).all(axis=1), 1.0, cosine), dtype=np.float64)


def neighbour_overlap(a: Scores, b: Scores) -> float:
    """Return the mean share of a row's ten nearest other rows (by cosine) on which a and b, float32 [n, d], agree."""
    k = min(NEIGHBOURS, len(a) - 1)
    if k == 0:
        return 1.0
    member = np.zeros((2, len(a), len(a)), dtype=bool)
    for number, vectors in enumerate((a, b)):
        similarity = pairwise_cosines(vectors)
        np.fill_diagonal(similarity, -2)
        np.put_along_axis(member[number], np.argsort(-similarity, axis=1, kind="stable")[:, :k], True, axis=1)
    return float((member[0] & member[1]).sum() / (k * len(a)))


def pairwise_cosines(vectors: Scores) -> Scores:
    """Return the cosines of all pairs of rows of float32 [n, d], float32 [n, n]."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T, dtype=np.float32)
