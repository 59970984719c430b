"""`python -m bench quality`: next-item prediction in sessions, beside the published baselines.

At each position p of a test session the items 1 … p are given and item p + 1 is asked for. With that item's rank in the
list, from 1 on:

    HR@k    1 if it is among the first k, else 0
    MRR@k   1 ÷ rank if it is among the first k, else 0
    nDCG@k  1 ÷ log2(rank + 1) if it is among the first k, else 0

averaged over positions (Ludewig, Mauro, Latifi & Jannach 2020, "Empirical analysis of session-based recommendation
algorithms"). Items that are not in training count as all others do.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp

from bench.quality.data import Split
from udfs.sessions import Floats, Ints, coded

#: Lengths of the lists.
CUTS = (5, 10, 20)
LONGEST = max(CUTS)
METRICS = tuple(f"{metric}_{cut}" for metric in ("hr", "mrr", "ndcg") for cut in CUTS)
#: Prefixes that a contender gets at once.
CHUNK = 512
RESAMPLES = 1000
#: Numbers drawn at once for the resamples; bounds memory.
DRAWS = 1 << 22


def ranks(lists: Ints, target: Ints) -> Ints:
    """int64 [P]: from 1 on, the rank of each target in its list, int64 [P, k]; 0 where it is not there."""
    hit = lists == target[:, None]
    rank: Ints = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0)
    return rank


def gains(rank: Ints) -> Floats:
    """float64 [P, METRICS]: what each rank (0: none) counts for."""
    found = np.maximum(rank, 1).astype(np.float64)
    worth = {"hr": np.ones(len(rank)), "mrr": 1 / found, "ndcg": 1 / np.log2(found + 1)}
    columns = [np.where((rank > 0) & (rank <= cut), worth[metric], 0) for metric in worth for cut in CUTS]
    return np.stack(columns, axis=1)


def intervals(gained: Floats, session: Ints, seed: int) -> Floats:
    """float64 [2, METRICS]: 2.5th and 97.5th percentile of the means, sessions (int64 [P]) drawn with replacement."""
    _, group, sizes = np.unique(session, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(group, column) for column in gained.T], axis=1)
    rng, rows = np.random.default_rng(seed), max(1, DRAWS // len(sizes))
    means = []
    for first in range(0, RESAMPLES, rows):
        drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), min(rows, RESAMPLES - first))
        means.append((drawn @ sums) / (drawn @ sizes)[:, None])
    return np.asarray(np.percentile(np.concatenate(means), (2.5, 97.5), axis=0))


def novelty(lists: Ints, counts: Ints) -> float | None:
    """Bits: the mean self-information of the recommended items by their training events, int64 [items]."""
    named = lists[lists >= 0]
    bits = -np.log2((counts + 1) / (counts.sum() + len(counts)))
    return float(bits[named].mean()) if len(named) else None


def diversity(lists: Ints, traits: Any) -> float | None:
    """Mean 1 − cosine over the pairs of each list, then over lists of two items or more.

    traits: CSR [items, traits] of non-negative weights; items without any are unlike all others.
    """
    length = np.sqrt(np.asarray(traits.multiply(traits).sum(axis=1)).ravel())
    unit = sp.diags_array(1 / np.where(length > 0, length, 1)) @ traits
    named = lists >= 0
    alike = np.empty(len(lists))
    for first in range(0, len(lists), CHUNK):
        some = slice(first, first + CHUNK)
        offsets = np.concatenate(([0], np.cumsum(named[some].sum(axis=1))))
        item = lists[some][named[some]]
        together = sp.csr_array((np.ones(len(item)), item, offsets), shape=(len(offsets) - 1, len(length))) @ unit
        # |Σ unit vectors|² is the sum of all cosines, each item's with itself included.
        alike[some] = np.asarray(together.multiply(together).sum(axis=1)).ravel()
    size, own = named.sum(axis=1), np.where(named, (length > 0)[np.where(named, lists, 0)], False).sum(axis=1)
    pairs = size * (size - 1)
    distance = 1 - (alike - own)[pairs > 0] / pairs[pairs > 0]
    return float(distance.mean()) if len(distance) else None


def traits_of(split: Split) -> tuple[str, Any]:
    """What `diversity` goes by, in words and as CSR [items, traits]."""
    train, size = split.train, len(split.train.items)
    if split.catalog is not None and split.catalog["category"].null_count < len(split.catalog):
        category = dict(zip(split.catalog["item_id"].to_pylist(), split.catalog["category"].to_pylist(), strict=True))
        code, names = coded(np.array([category.get(item) for item in train.items], dtype=object))
        known = np.flatnonzero(code >= 0)
        return "category", sp.csr_array((np.ones(len(known)), (known, code[known])), shape=(size, len(names)))
    pairs = np.unique(train.session * size + train.item)
    return "training sessions", sp.csr_array((np.ones(len(pairs)), (pairs % size, pairs // size)), (size, len(train)))
