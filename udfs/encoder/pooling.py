"""Turns a text's hidden states into its vector.

Each pooling takes hidden states, float32 [texts, tokens, dimensions], and a mask, int64 [texts, tokens], 0 where a
token is padding. It returns [texts, dimensions], float32 or float64.
"""

from collections.abc import Callable

import numpy as np

from udfs.core.arrays import Floats, Ints, Scores

#: Vectors on their way to float32.
Pooled = Scores | Floats


def pool_first(hidden: Scores, mask: Ints) -> Scores:  # noqa: ARG001
    """Take the state of the first token, CLS."""
    return hidden[:, 0].copy()


def pool_max(hidden: Scores, mask: Ints) -> Scores:
    """Take the maximum over the tokens."""
    if not mask.all():
        hidden = np.where(mask[:, :, None], hidden, -np.inf)
    return np.asarray(hidden.max(axis=1))


def pool_mean(hidden: Scores, mask: Ints) -> Pooled:
    """Take the mean over the tokens."""
    if mask.all():
        return np.asarray(hidden.mean(axis=1))
    return np.asarray((hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True))


#: By the name that the manifest's encoder part has.
POOLINGS: dict[str, Callable[[Scores, Ints], Pooled]] = {"cls": pool_first, "max": pool_max, "mean": pool_mean}


def normalize(vectors: Pooled) -> Pooled:
    """Scale vectors [n, dimensions] to unit length; zero stays zero."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
