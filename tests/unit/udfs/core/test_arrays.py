"""Each array helper gives what a naive version of three lines gives."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.core import arrays
from udfs.core.arrays import (
    bit_width,
    concat_ranges,
    factorize,
    group_ids,
    group_starts,
    isin_sorted,
    position_in_group,
    segment_sum,
    start_indices,
    top_k_per_group,
    top_k_rows,
    top_pairs,
    unique_inverse,
)

#: Scores that tie, differ by a last bit in float32, have both zeros, and are not finite.
SCORES = st.sampled_from([-np.inf, -1e6, -1.0, -1e-7, -0.0, 0.0, 1e-7, 1.0, 1.0000001, 1e6, np.inf])
SMALL = st.integers(0, 6)


def ints(values: Sequence[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@given(st.lists(st.sampled_from([None, "a", "b", "c", ""])), st.booleans())
def test_factorize_numbers_values_as_they_appear(values: list[str | None], by_pandas: bool):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "FEW", -1 if by_pandas else 512)
        codes, distinct = factorize(np.array(values, dtype=object))
    expected = [value for value in dict.fromkeys(values) if value is not None]
    assert distinct.tolist() == expected
    assert codes.tolist() == [-1 if value is None else expected.index(value) for value in values]


@given(st.lists(st.integers(0, 2**40)), st.lists(SMALL))
def test_group_ids_number_groups_as_they_appear(large: list[int], small: list[int]):
    keys = [*small, *large, *small]
    ids, first = group_ids(ints(keys))
    expected = list(dict.fromkeys(keys))
    assert ids.tolist() == [expected.index(key) for key in keys]
    assert first.tolist() == [keys.index(key) for key in expected]


@given(st.lists(SMALL))
def test_runs_start_where_values_change(values: list[int]):
    starts = [index == 0 or values[index] != values[index - 1] for index in range(len(values))]
    assert group_starts(ints(values)).tolist() == starts
    assert start_indices(ints(values)).tolist() == [index for index, start in enumerate(starts) if start]


@given(st.lists(SMALL))
def test_position_counts_within_a_run(values: list[int]):
    group = sorted(values)
    assert position_in_group(ints(group)).tolist() == [index - group.index(of) for index, of in enumerate(group)]


@given(st.lists(st.tuples(SMALL, st.floats(-1e9, 1e9))))
def test_segment_sums_are_plain_sums(entries: list[tuple[int, float]]):
    expected = [0.0] * 8
    for segment, value in entries:
        expected[segment] += value
    segments, values = (np.array([entry[side] for entry in entries]) for side in (0, 1))
    assert segment_sum(segments.astype(np.int64), values, 8).tolist() == expected


@given(st.lists(st.tuples(SMALL, SMALL)))
def test_ranges_follow_each_other(pairs: list[tuple[int, int]]):
    begin = ints([first for first, _ in pairs])
    numbers, source = concat_ranges(begin, begin + ints([length for _, length in pairs]))
    expected = [(first + step, index) for index, (first, length) in enumerate(pairs) for step in range(length)]
    assert list(zip(numbers.tolist(), source.tolist(), strict=True)) == expected


@given(st.lists(st.integers(0, 99)), st.sampled_from([100, 10**9]))  # a dense table, and sorting
def test_unique_keys_and_their_indices(keys: list[int], size: int):
    distinct, inverse = unique_inverse(ints(keys), size)
    assert distinct.tolist() == sorted(set(keys))
    assert inverse.tolist() == [distinct.tolist().index(key) for key in keys]


@given(st.lists(SMALL), st.sets(SMALL))
def test_values_found_among_sorted_ones(values: list[int], known: set[int]):
    assert isin_sorted(ints(values), ints(sorted(known))).tolist() == [value in known for value in values]


@given(
    st.lists(st.lists(SCORES.filter(lambda score: score < np.inf), min_size=5, max_size=5), min_size=1),
    st.integers(0, 7),
)
def test_best_columns_are_a_full_sort_cut_at_k(rows: list[list[float]], k: int):
    row, column = top_k_rows(np.array(rows, dtype=np.float32), k)
    for number, values in enumerate(np.float32(rows)):
        order = sorted(range(5), key=lambda index: (-values[index], index))
        assert column[row == number].tolist() == [index for index in order[:k] if values[index] > -np.inf]


@given(st.lists(st.tuples(SMALL, SCORES)), st.integers(0, 4), st.booleans(), st.sampled_from([1, 10**6, 2**40]))
def test_best_of_each_group_are_a_full_sort_cut_at_k(
    entries: list[tuple[int, float]], k: int, later: bool, factor: int
):
    """factor: small group numbers are packed into whole numbers, large ones are sorted by three keys."""
    group, score = ints([group * factor for group, _ in sorted(entries)]), [score for _, score in sorted(entries)]
    expected: list[int] = []
    for value in np.unique(group):
        inside = np.flatnonzero(group == value).tolist()
        expected += sorted(sorted(inside, key=lambda n: (-np.float32(score[n]), -n if later else n))[:k])
    assert top_k_per_group(group, np.array(score), k, later=later).tolist() == expected


def test_best_of_each_group_in_a_large_array():
    rng = np.random.default_rng(5)
    group = np.sort(rng.integers(0, 700, 5000))
    score = np.rint(rng.normal(size=5000) * 3) * rng.choice([1e-7, 1.0, 1e6], 5000)
    for later in (False, True):
        order = np.lexsort((-np.arange(5000) if later else np.arange(5000), -score.astype(np.float32), group))
        expected = np.sort(order[position_in_group(group[order]) < 4])
        for groups in (group, group * 10**6):
            assert top_k_per_group(groups, score, 4, later=later).tolist() == expected.tolist()


@given(st.dictionaries(st.integers(0, 29), SCORES), st.integers(0, 4))
def test_best_pairs_have_positive_scores(score_of: dict[int, float], k: int):
    pairs = sorted(score_of)
    expected: list[int] = []
    for session in range(3):
        inside = [pair for pair in pairs if pair // 10 == session and score_of[pair] > 0]
        expected += sorted(sorted(inside, key=lambda pair: (-np.float32(score_of[pair]), pair))[:k])
    score: Any = np.array([score_of[pair] for pair in pairs], dtype=np.float64)
    assert top_pairs(ints(pairs), score, k, 10).tolist() == expected


@given(st.integers(1, 2**62))
def test_bit_width_holds_all_numbers_below(count: int):
    assert count - 1 < 1 << bit_width(count)
    assert bit_width(count) == 1 or count - 1 >= 1 << (bit_width(count) - 1)
