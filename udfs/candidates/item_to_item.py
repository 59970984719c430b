"""Candidates from sparse item-to-item matrices."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from udfs.bundles.contents import CoVisits
from udfs.candidates.source import CandidateSource, Column, Pairs, SessionContext
from udfs.core.arrays import Ints, concat_ranges, position_in_group, segment_sum, top_pairs, unique_inverse

BY_ITEMS = 30

BY_LAST = 20


class ItemToItem(CandidateSource):
    """What goes together with the session's items: sparse matrices of items, their rows of the recent ones.

    All matrices are worked on together: a pair of matrix m is m × (sessions × items) + its key.
    """

    names = ("", "_share", "_last", "_last_share", "_second", "_third", "_most", "_items")
    _of_sums = (0, 2, 4, 5, 6, 7)  #: the names that are not shares

    def __init__(self, matrices: Mapping[str, CoVisits], room: int) -> None:
        """matrices: by the name that their columns begin with; they are copied."""
        self.columns = tuple(f"{name}{column}" for name in matrices for column in self.names)
        rows = [matrix.with_rows(room).offsets for matrix in matrices.values()]
        before = np.cumsum([0, *(len(matrix.columns) for matrix in matrices.values())])
        self._offsets = np.array(rows) + before[:-1, None]
        self._columns = np.concatenate([matrix.columns for matrix in matrices.values()])
        self._weights = np.concatenate([matrix.weights for matrix in matrices.values()])

    def load(self, query: SessionContext) -> None:
        self._items, self._size = query.items, len(query) * query.items
        matrices, recent = len(self._offsets), len(query.item)
        begin, end = self._offsets[:, query.item], self._offsets[:, query.item + 1]
        self._cuts = np.cumsum([0, *(end - begin).sum(axis=1)]).tolist()  # of the entries, by matrix
        entry, row = concat_ranges(begin.ravel(), end.ravel())
        matrix, source = np.divmod(row, max(recent, 1))
        weight = self._weights[entry].astype(np.float64)
        nth = position_in_group(query.session)[source]
        decay = query.weight[source]
        key = matrix * self._size + query.session[source] * self._items + self._columns[entry]
        self._entries = key, weight * decay, source
        self._pairs, place = unique_inverse(key, matrices * self._size)
        values = weight * decay, weight * (nth == 0), weight * (nth == 1), weight * (nth == 2)
        most = np.zeros(len(self._pairs))
        np.maximum.at(most, place, weight)
        items = segment_sum(place, np.ones(len(key)), len(self._pairs))
        self._sums = [*(segment_sum(place, each, len(self._pairs)) for each in values), most, items]

    def propose(self) -> Ints:
        by_all, by_last = self._sums[:2]
        proposed = (
            top_pairs(self._pairs, by_all, BY_ITEMS, self._items),
            top_pairs(self._pairs, by_last, BY_LAST, self._items),
        )
        return np.concatenate(proposed) % max(self._size, 1)

    def describe(self, pairs: Pairs) -> Sequence[Column]:
        bounds = np.searchsorted(self._pairs, np.arange(len(self._offsets) + 1) * self._size)
        matrix = np.repeat(np.arange(len(self._offsets)), np.diff(bounds))
        hit, place = pairs.places(self._pairs - matrix * self._size)
        names, n = len(self.names), len(pairs.key)
        columns = np.zeros((len(self._offsets), names, n))
        first, flat = matrix[hit] * (names * n) + place, columns.ravel()
        for nth, each in zip(self._of_sums, self._sums, strict=True):
            flat[first + nth * n] = each[hit]
        columns[:, 1:4:2] = pairs.share(columns[:, 0:4:2])
        return list(columns.reshape(len(self.columns), n))

    def because(self, pairs: Pairs) -> Ints:
        """The first of the matrices that names an item is believed."""
        key, value, place = self._entries
        named = np.full(len(pairs.key), -1)
        for matrix, (first, last) in enumerate(pairwise(self._cuts)):
            by_matrix = pairs.strongest(key[first:last] - matrix * self._size, value[first:last], place[first:last])
            named = np.where(named < 0, by_matrix, named)
        return named
