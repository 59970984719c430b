"""Pairs give what naive versions give, whether they look in a dense table or search."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.candidates.pairs import Pairs

#: Items of the catalog: a dense table of three sessions, and one that is too large.
ITEMS = st.sampled_from([10, 10**9])
VALUES = st.sampled_from([0.0, 0.25, 1.0, 3.0])


def pairs_of(chosen: set[tuple[int, int]], items: int) -> Pairs:
    return Pairs.of(keys([session * items + item for session, item in sorted(chosen)]), 3, items)


def keys(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


PAIR = st.tuples(st.integers(0, 2), st.integers(0, 9))


@given(st.sets(PAIR), ITEMS, st.lists(PAIR))
def test_keys_are_found(chosen: set[tuple[int, int]], items: int, others: list[tuple[int, int]]):
    pairs = pairs_of(chosen, items)
    wanted = [session * items + item for session, item in others]
    found, pair = pairs.find(keys(wanted))
    assert found.tolist() == [index for index, other in enumerate(others) if other in chosen]
    assert pair.tolist() == [sorted(chosen).index(other) for other in others if other in chosen]


@given(st.sets(PAIR), ITEMS, st.dictionaries(PAIR, VALUES))
def test_values_are_looked_up(chosen: set[tuple[int, int]], items: int, known: dict[tuple[int, int], float]):
    key = keys([session * items + item for session, item in known])
    values: Any = np.array(list(known.values()))
    (found,) = pairs_of(chosen, items).values_of(key, [values])
    assert found.tolist() == [known.get(pair, 0) for pair in sorted(chosen)]


@given(st.dictionaries(PAIR, VALUES))
def test_shares_are_of_the_sessions_maximum(value_of: dict[tuple[int, int], float]):
    pairs = pairs_of(set(value_of), 10)
    highest = {session: max(value_of[pair] for pair in value_of if pair[0] == session) for session, _ in value_of}
    expected = [value_of[pair] / (highest[pair[0]] or 1) for pair in sorted(value_of)]
    values: Any = np.array([value_of[pair] for pair in sorted(value_of)])
    assert pairs.share(values).tolist() == expected
    assert pairs.share(np.stack([values, values])).tolist() == [expected, expected]


@given(st.sets(PAIR), ITEMS, st.lists(st.tuples(PAIR, VALUES)))
def test_strongest_entries_are_found(
    chosen: set[tuple[int, int]], items: int, entries: list[tuple[tuple[int, int], float]]
):
    strongest: dict[tuple[int, int], tuple[float, int]] = {}
    for what, (pair, value) in enumerate(entries):
        strongest[pair] = max(strongest.get(pair, (value, what)), (value, what))
    key = keys([session * items + item for (session, item), _ in entries])
    values: Any = np.array([value for _, value in entries], dtype=np.float64)
    found = pairs_of(chosen, items).strongest(key, values, np.arange(len(entries)))
    assert found.tolist() == [strongest[pair][1] if pair in strongest else -1 for pair in sorted(chosen)]


@pytest.mark.parametrize("items", [1000, 10**6])  # a dense table, and searching
def test_many_keys_are_found(items: int):
    rng = np.random.default_rng(6)
    wanted = rng.integers(0, items, 2000)
    distinct = np.unique(wanted)
    pairs = Pairs.of(distinct[::2], 1, items)
    found, pair = pairs.find(wanted)
    assert (pairs.key[pair] == wanted[found]).all()
    assert set(wanted[np.setdiff1d(np.arange(2000), found)]) == set(distinct[1::2])
