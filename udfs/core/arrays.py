"""Array operations on groups, ranges and keys that NumPy has no single call for."""

from typing import Any

import numpy as np
import numpy.typing as npt

#: `factorize` uses a dictionary for at most this many values: pandas takes longer to start.
FEW = 512

#: Use a dense table instead of sorting while it needs at most this many slots per key.
DENSE_FACTOR = 24

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float32]
Texts = npt.NDArray[np.object_]


def factorize(values: npt.NDArray[Any]) -> tuple[Ints, npt.NDArray[Any]]:
    """Return a code per value, int64 [n], and the distinct values in order of first appearance.

    Values are texts, None or whole numbers [n]. Codes count from 0; None has code -1 and is no distinct value.
    """
    if len(values) <= FEW:
        code_of: dict[Any, int] = {}
        codes = [-1 if value is None else code_of.setdefault(value, len(code_of)) for value in values.tolist()]
        return np.array(codes, dtype=np.int64), np.fromiter(code_of, values.dtype, len(code_of))
    import pandas as pd  # here: importing it takes 0.4 s, which most commands do not need

    pandas_codes, distinct = pd.factorize(values)
    return pandas_codes, distinct


def group_ids(keys: Ints) -> tuple[Ints, Ints]:
    """Return the group of each key, int64 [n], and the index of each group's first key, ascending int64 [groups].

    Equal keys form a group; groups are numbered from 0 in order of first appearance. Keys [n] are not negative, and
    below 2^63 / 2n: each is packed with its index into one number, and sorting these takes half the time of hashing.
    """
    width = bit_width(len(keys))
    packed = np.sort((keys << width) | np.arange(len(keys)))
    order = packed & ((1 << width) - 1)
    starts = group_starts(packed >> width)
    is_first = np.zeros(len(keys), dtype=bool)
    is_first[order[starts]] = True
    id_of_sorted_group = (np.cumsum(is_first) - 1)[order[starts]]
    ids = np.empty(len(keys), dtype=np.int64)
    ids[order] = id_of_sorted_group[np.cumsum(starts) - 1]
    return ids, np.flatnonzero(is_first)


def group_starts(values: npt.NDArray[Any]) -> Bools:
    """Return where a run of equal values begins, bool [n]; values are numbers [n]."""
    starts = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=starts[1:])
    return starts


def start_indices(values: npt.NDArray[Any]) -> Ints:
    """Return the index at which each run of equal values begins, int64 [runs]; values are numbers [n]."""
    return group_starts(values).nonzero()[0]


def position_in_group(group: Ints) -> Ints:
    """Return each entry's position within its run of equal values, int64 [n], from 0."""
    starts = group_starts(group)
    return np.asarray(np.arange(len(group)) - starts.nonzero()[0][np.cumsum(starts) - 1])


def segment_sum(segment: npt.NDArray[np.integer[Any]], values: npt.NDArray[Any], size: int) -> Floats:
    """Return the sum of the values [n] of each segment, float64 [size].

    segment: whole [n], in any order. Values are added one after the other, so a segment's sum is its own to the bit.
    """
    return np.asarray(np.bincount(segment, values, minlength=size), dtype=np.float64)


def concat_ranges(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Return the ranges [begin, end) one after the other, and for each number the index of its range, int64 [n]."""
    lengths = end - begin
    source = np.repeat(np.arange(len(begin)), lengths)
    return np.arange(len(source)) + np.repeat(begin - np.cumsum(lengths) + lengths, lengths), source


def unique_inverse(keys: Ints, size: int) -> tuple[Ints, npt.NDArray[np.integer[Any]]]:
    """Return the distinct keys, sorted, and the index of each key among them.

    keys: int64 [n], from 0 and below `size`.
    """
    if size > DENSE_FACTOR * len(keys):
        distinct, inverse = np.unique(keys, return_inverse=True)
        return distinct, inverse
    present = np.zeros(size, dtype=bool)
    present[keys] = True
    distinct = np.flatnonzero(present)
    index_of = np.empty(size, dtype=np.int32)
    index_of[distinct] = np.arange(len(distinct), dtype=np.int32)
    return distinct, index_of[keys]


def isin_sorted(values: Ints, known: Ints) -> Bools:
    """Return which values, int64 [n], are among `known`, sorted int64 [m]."""
    if not len(known):
        return np.zeros(len(values), dtype=bool)
    return np.asarray(known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values)


def top_k_rows(score: Scores, k: int) -> tuple[Ints, Ints]:
    """Return row and column of the k highest scores of each row of float32 [rows, columns].

    A score of -inf is left out, all others are finite. Sorted by row, then highest first, then leftmost first.
    """
    columns = score.shape[1]
    k = min(k, columns)
    if k == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    threshold = np.partition(score, columns - k, axis=1)[:, columns - k]
    row, column = np.nonzero((score >= threshold[:, None]) & np.isfinite(score))  # more than k where scores tie
    order = np.lexsort((column, -score[row, column], row))
    row, column = row[order], column[order]
    kept = position_in_group(row) < k
    return row[kept], column[kept]


def top_k_per_group(group: Ints, score: npt.NDArray[Any], k: int, *, later: bool = False) -> Ints:
    """Return the indices of the k highest scores of each group, ascending int64 [m].

    group: sorted, int64 [n], not negative. score: [n], compared as float32. Ties go to the earlier entry, or with
    `later` to the later one.
    """
    index = np.arange(len(group))
    tie = len(group) - 1 - index if later else index
    descending, width = _descending_key(score), bit_width(len(group))
    if len(group) and (int(group[-1]) + 1) << width > 1 << 31:
        order = np.lexsort((tie, descending, group))
        return np.sort(order[position_in_group(group[order]) < k])
    # Group, score and tie in one whole number of at most 63 bits, which is what NumPy sorts fastest.
    packed = np.sort((((group << 32) | descending) << width) | tie)
    kept = packed[position_in_group(packed >> (32 + width)) < k] & ((1 << width) - 1)
    return np.sort(len(group) - 1 - kept if later else kept)


def top_pairs(pairs: Ints, score: npt.NDArray[Any], k: int, items: int) -> Ints:
    """Return the k pairs of each session with the highest positive score; ties go to the earlier item.

    A pair is session × items + item. pairs: sorted, int64 [n]; score: [n].
    """
    positive = np.flatnonzero(score > 0)
    return np.asarray(pairs[positive[top_k_per_group(pairs[positive] // items, score[positive], k)]])


def _descending_key(score: npt.NDArray[Any]) -> Ints:
    """Return whole numbers of 32 bits, int64 [n], whose order is the descending order of the scores as float32.

    The bits of positive floats, read as whole numbers, are in the floats' order; those of negative floats are in the
    reverse order, which flipping all bits but the sign undoes. Adding 0 makes -0.0 the same as 0.0.
    """
    all_but_sign = (1 << 31) - 1
    bits = (np.asarray(score, dtype=np.float32) + np.float32(0)).view(np.int32).astype(np.int64)
    ascending = bits ^ ((bits >> 31) & all_but_sign)
    return np.asarray(all_but_sign - ascending)


def bit_width(count: int) -> int:
    """Return how many bits hold each of the numbers from 0 below `count`; at least 1."""
    return max(1, (count - 1).bit_length())
