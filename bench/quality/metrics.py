"""Metrics of next-item prediction.

At each position p of a test session, items 1 … p are given and item p + 1 is predicted. With that item's rank in the
list, counted from 1:

    HR@k    1 if it is among the first k, else 0
    MRR@k   1 ÷ rank if it is among the first k, else 0
    nDCG@k  1 ÷ log2(rank + 1) if it is among the first k, else 0

averaged over positions (Ludewig, Mauro, Latifi & Jannach 2020, "Empirical analysis of session-based recommendation
algorithms"). Items that are not in training count like all others.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp

from bench.quality.data import Split
from export.ranker.quality import MRR, NDCG, HitRate
from udfs.core.arrays import Floats, Ints, factorize

#: Lengths of the lists.
CUTS = (5, 10, 20)
LONGEST = max(CUTS)
_METRICS = [metric(cut) for metric in (HitRate, MRR, NDCG) for cut in CUTS]
METRICS = tuple(metric.name for metric in _METRICS)
#: Prefixes, or lists, that are worked on at a time; bounds memory.
CHUNK = 512
RESAMPLES = 1000
#: Numbers drawn at a time for the resamples; bounds memory.
DRAWS = 1 << 22


def ranks(lists: Ints, target: Ints) -> Ints:
    """int64 [P]: the rank of each target in its list of int64 [P, k], counted from 1; 0 if it is not there."""
    hit = lists == target[:, None]
    rank: Ints = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0)
    return rank


def gains(rank: Ints) -> Floats:
    """float64 [P, METRICS]: the value of each rank (0: none) under each metric."""
    return np.stack([metric(rank) for metric in _METRICS], axis=1)


def intervals(gain: Floats, session: Ints, seed: int) -> Floats:
    """float64 [2, METRICS]: 2.5th and 97.5th percentile of the means of gain, float64 [P, METRICS].

    Sessions, int64 [P], are drawn with replacement.
    """
    _, group, sizes = np.unique(session, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(group, column) for column in gain.T], axis=1)
    rng = np.random.default_rng(seed)
    rows = max(1, DRAWS // len(sizes))
    means = []
    for first in range(0, RESAMPLES, rows):
        drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), min(rows, RESAMPLES - first))
        means.append((drawn @ sums) / (drawn @ sizes)[:, None])
    return np.asarray(np.percentile(np.concatenate(means), (2.5, 97.5), axis=0))


def novelty(lists: Ints, counts: Ints) -> float | None:
    """Mean self-information, in bits, of the recommended items; counts: int64 [items], training events per item."""
    named = lists[lists >= 0]
    bits = -np.log2((counts + 1) / (counts.sum() + len(counts)))
    return float(bits[named].mean()) if len(named) else None


def diversity(lists: Ints, traits: Any) -> float | None:
    """Mean of 1 − cosine over the pairs of each list, then over the lists of two items or more.

    traits: CSR [items, traits] of non-negative weights; an item without any has cosine 0 with all others.
    """
    length = np.sqrt(np.asarray(traits.multiply(traits).sum(axis=1)).ravel())
    unit = sp.diags_array(1 / np.where(length > 0, length, 1)) @ traits
    named = lists >= 0
    cosine_sum = np.empty(len(lists))
    for first in range(0, len(lists), CHUNK):
        rows = slice(first, first + CHUNK)
        offsets = np.concatenate(([0], np.cumsum(named[rows].sum(axis=1))))
        item = lists[rows][named[rows]]
        vector_sum = sp.csr_array((np.ones(len(item)), item, offsets), shape=(len(offsets) - 1, len(length))) @ unit
        # |Σ unit vectors|² is the sum of all cosines, including each item's with itself.
        cosine_sum[rows] = np.asarray(vector_sum.multiply(vector_sum).sum(axis=1)).ravel()
    size = named.sum(axis=1)
    own = np.where(named, (length > 0)[np.where(named, lists, 0)], False).sum(axis=1)
    pairs = size * (size - 1)
    distance = 1 - (cosine_sum - own)[pairs > 0] / pairs[pairs > 0]
    return float(distance.mean()) if len(distance) else None


def traits_of(split: Split) -> tuple[str, Any]:
    """The items' traits for `diversity`: their name for people, and CSR [items, traits].

    Categories if the catalog has any, else the training sessions that an item occurs in.
    """
    train = split.train
    size = len(train.items)
    if split.catalog is not None and split.catalog["category"].null_count < len(split.catalog):
        category = dict(zip(split.catalog["item_id"].to_pylist(), split.catalog["category"].to_pylist(), strict=True))
        code, names = factorize(np.array([category.get(item) for item in train.items], dtype=object))
        known = np.flatnonzero(code >= 0)
        return "category", sp.csr_array((np.ones(len(known)), (known, code[known])), shape=(size, len(names)))
    pairs = np.unique(train.session * size + train.item)
    return "training sessions", sp.csr_array((np.ones(len(pairs)), (pairs % size, pairs // size)), (size, len(train)))
