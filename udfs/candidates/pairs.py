"""Pairs of session and item, and values of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from udfs.core.arrays import DENSE_FACTOR, Floats, Ints, Scores, start_indices
from udfs.core.exact import SCORE_BUDGET

#: Values of n pairs, [n].
Feature = Floats | Ints | Scores


@dataclass(frozen=True)
class Pairs:
    """n distinct pairs of session and item, sorted by key."""

    key: Ints  #: int64 [n], session × items + item
    session: Ints  #: int64 [n]
    item: Ints  #: int64 [n]
    size: int  #: sessions × items: each key is below this

    @classmethod
    def of(cls, key: Ints, sessions: int, items: int) -> "Pairs":
        """Make pairs of distinct sorted keys, int64 [n]."""
        session, item = np.divmod(key, max(items, 1))
        return cls(key, session, item, sessions * items)

    @cached_property
    def _index_of(self) -> npt.NDArray[np.int32]:
        index_of = np.full(self.size, -1, dtype=np.int32)
        index_of[self.key] = np.arange(len(self.key), dtype=np.int32)
        return index_of

    @cached_property
    def _runs(self) -> tuple[Ints, Ints]:
        """Where the pairs of a session start, and how many they are; only of sessions that have any."""
        starts = start_indices(self.session)
        return starts, np.diff(np.append(starts, len(self.session)))

    def find(self, key: Ints) -> tuple[Ints, npt.NDArray[np.int32]]:
        """Return the indices of those keys (int64 [m]) that are among the pairs, and the index of the pair of each.

        It looks in a dense table while that is small compared with the pairs, or with the keys up to SCORE_BUDGET.
        """
        if not len(self.key):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
        if self.size <= max(DENSE_FACTOR * len(self.key), min(DENSE_FACTOR * len(key), SCORE_BUDGET)):
            pair = self._index_of[key]
            found = np.flatnonzero(pair >= 0)
        else:
            pair = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1).astype(np.int32)
            found = np.flatnonzero(self.key[pair] == key)
        return found, pair[found]

    def values_of(self, key: Ints, columns: Sequence[Feature]) -> list[Floats]:
        """Return each pair's value in each column, float64 [n]; 0 for pairs without one.

        key: distinct, int64 [m]. columns: [m] each.
        """
        found, pair = self.find(key)
        values = np.zeros((len(columns), len(self.key)))
        for value, column in zip(values, columns, strict=True):
            value[pair] = column[found]
        return list(values)

    def share(self, values: Floats) -> Floats:
        """Divide each value, float64 [..., n], by its session's maximum; 0 if the maximum is 0."""
        if not values.size:
            return values
        starts, counts = self._runs
        highest = np.maximum.reduceat(values, starts, axis=-1)
        return np.asarray(values / np.repeat(np.where(highest > 0, highest, 1), counts, axis=-1))

    def strongest(self, key: Ints, value: Floats, what: Ints) -> Ints:
        """Return for each pair the `what` of its entry with the highest value, the latest on ties, int64 [n]; or -1.

        key, value, what: [m] of entries, of which a pair may have several. Values are not negative.
        """
        found, pair = self.find(key)
        value = value[found]
        highest = np.zeros(len(self.key))
        np.maximum.at(highest, pair, value)
        best = np.flatnonzero(value == highest[pair])
        strongest = np.full(len(self.key), -1)
        strongest[pair[best]] = what[found[best]]  # the last write wins
        return strongest
