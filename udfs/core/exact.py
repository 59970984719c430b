"""Exact scores: whole numbers in float32, so that sums do not depend on their order.

- A unit vector is rounded to the grid of multiples of 1/VECTOR_SCALE. The product of two of them is a whole number of
  1/VECTOR_SCALE², and by Cauchy-Schwarz no partial sum exceeds 2^24, so float32 matrix products are exact in any order
  of summation (docs/decisions/004-exact-scores.md).
- A score is a whole number of 1/SCORE_SCALE below 2^24, which float32 holds exactly: the sum of its reasons' weights.
"""

import numpy as np

from udfs.core.arrays import Floats, Scores

#: A little under 2^12, so that rounding a vector's components cannot push its squared norm past 2^24.
VECTOR_SCALE = 4080

SCORE_SCALE = 1_000_000

#: At most this many scores are in memory at once: the sessions of one step times the items.
SCORE_BUDGET = 4_000_000


def to_grid(vectors: Floats | Scores) -> Scores:
    """Return vectors [n, d] of any length as unit vectors on the grid: whole multiples of 1/VECTOR_SCALE.

    float32 [n, d] of whole numbers; a vector of zeros stays one.
    """
    norm = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(np.rint(vectors * (VECTOR_SCALE / np.maximum(norm, 1e-12))), dtype=np.float32)
