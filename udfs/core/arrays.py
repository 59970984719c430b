"""Array operations on groups, ranges and keys that NumPy has no single call for."""

from typing import Any

import numpy as np
import numpy.typing as npt

#: Up to so many values a dictionary numbers them in less time than pandas needs to begin.
FEW = 512

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float32]
Texts = npt.NDArray[np.object_]


def factorize(values: npt.NDArray[Any]) -> tuple[Ints, npt.NDArray[Any]]:
    """Values [n] as numbers, int64 [n] from 0 on as they appear, -1 for None; and the different values.

    Values are texts, None, or whole numbers.
    """
    if len(values) <= FEW:
        number: dict[Any, int] = {}
        plain = values.tolist()
        codes = [-1 if value is None else number.setdefault(value, len(number)) for value in plain]
        return np.array(codes, dtype=np.int64), np.fromiter(number, values.dtype, len(number))
    import pandas as pd  # here: importing it takes 0.4 s, which most commands do not need

    numbers, different = pd.factorize(values)
    return numbers, different


def group_ids(keys: Ints) -> tuple[Ints, Ints]:
    """Numbers for n keys, int64 [n] from 0 on as they appear; and where each is met first, rising int64.

    Keys are not negative, and below 2^63 / 2n. Sorting them, each with its place, takes half the time of hashing.
    """
    width = bit_width(len(keys))
    ordered = np.sort(keys << width | np.arange(len(keys)))
    place = ordered & ((1 << width) - 1)
    opening = group_starts(ordered >> width)
    is_first = np.zeros(len(keys), dtype=bool)
    is_first[place[opening]] = True
    numbers = np.empty(len(keys), dtype=np.int64)
    number = (np.cumsum(is_first) - 1)[place[opening]]
    numbers[place] = number[np.cumsum(opening) - 1]
    return numbers, np.flatnonzero(is_first)


def group_starts(values: npt.NDArray[Any]) -> Bools:
    """bool [n]: values (number [n]) that are other than the one before; the first one is."""
    other = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=other[1:])
    return other


def segment_sum(to: npt.NDArray[np.integer[Any]], values: npt.NDArray[Any], size: int) -> Floats:
    """float64 [size]: the sum of the values [n] that go to each place (whole [n]), one added after the other."""
    return np.asarray(np.bincount(to, values, minlength=size), dtype=np.float64)


def top_k_rows(score: Scores, k: int) -> tuple[Ints, Ints]:
    """The k highest finite scores of each row of float32 [rows, columns]: row and column of each.

    Sorted by row, then highest first, then leftmost first.
    """
    columns = score.shape[1]
    k = min(k, columns)
    if k == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    threshold = np.partition(score, columns - k, axis=1)[:, columns - k]
    row, column = np.nonzero((score >= threshold[:, None]) & np.isfinite(score))
    order = np.lexsort((column, -score[row, column], row))
    row, column = row[order], column[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    return row[rank < k], column[rank < k]


#: Sets of whole numbers are marked in an array, not sorted, if that has up to so many places for each of them, or, up
#: to SCORE_BUDGET, for each that is looked for.
DENSE_FACTOR = 24


def concat_ranges(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """The numbers from begin[i] up to end[i] (left out) for every i, one after the other, and the i of each."""
    lengths = end - begin
    source = np.repeat(np.arange(len(begin)), lengths)
    return np.arange(len(source)) + np.repeat(begin - np.cumsum(lengths) + lengths, lengths), source


def unique_inverse(key: Ints, size: int) -> tuple[Ints, npt.NDArray[np.integer[Any]]]:
    """The different keys, sorted, and the place of each key (int64 [n], from 0 below `size`) among them."""
    if size > DENSE_FACTOR * len(key):
        different, place = np.unique(key, return_inverse=True)
        return different, place
    there = np.zeros(size, dtype=bool)
    there[key] = True
    different = np.flatnonzero(there)
    place = np.empty(size, dtype=np.int32)
    place[different] = np.arange(len(different), dtype=np.int32)
    return different, place[key]


def top_pairs(pairs: Ints, score: npt.NDArray[Any], count: int, items: int) -> Ints:
    """The `count` pairs (sorted) of each session with the highest positive score; ties go to the earlier item."""
    positive = np.flatnonzero(score > 0)
    return np.asarray(pairs[positive[top_k_per_group(pairs[positive] // items, score[positive], count)]])


def top_k_per_group(group: Ints, score: npt.NDArray[Any], count: int, *, later: bool = False) -> Ints:
    """int64 [m], rising: the places of the `count` highest scores in float32 of each group (sorted).

    Ties go to the earlier place, or the later one.
    """
    place, width = np.arange(len(group)), bit_width(len(group))
    # The bits of float32, those after the sign turned where it is set, are in the order of the floats; adding 0 makes
    # a positive zero of a negative one.
    of_score = (np.asarray(score, dtype=np.float32) + np.float32(0)).view(np.int32).astype(np.int64)
    falling = (1 << 31) - 1 - (of_score ^ of_score >> 31 & (1 << 31) - 1)
    tie = len(group) - 1 - place if later else place
    if len(group) and (int(group[-1]) + 1) << width > 1 << 31:
        ordered = np.lexsort((tie, falling, group))
        return np.sort(ordered[position_in_group(group[ordered]) < count])
    # Group, score and place in one whole number, which is what NumPy sorts fastest.
    ordered = np.sort((group << 32 | falling) << width | tie)
    chosen = ordered[position_in_group(ordered >> 32 + width) < count] & (1 << width) - 1
    return np.sort(len(group) - 1 - chosen if later else chosen)


def bit_width(numbers: int) -> int:
    """Bits that hold the numbers from 0 below `numbers`; at least 1."""
    return max(1, (numbers - 1).bit_length())


def position_in_group(group: Ints) -> Ints:
    """int64 [n]: from 0, the place of each entry among those of its group (sorted)."""
    opening = group_starts(group)
    return np.asarray(np.arange(len(group)) - opening.nonzero()[0][np.cumsum(opening) - 1])


def start_indices(key: Ints) -> Ints:
    """int64 [groups]: the index of each group's first entry. key: sorted, int64 [n]."""
    return group_starts(key).nonzero()[0]


def isin_sorted(values: Ints, known: Ints) -> Bools:
    """bool [n]: which values (int64 [n]) are among `known` (int64 [m], sorted)."""
    if not len(known):
        return np.zeros(len(values), dtype=bool)
    return np.asarray(known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values)
