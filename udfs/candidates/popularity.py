"""Popular items as candidates."""

from collections.abc import Sequence

import numpy as np

from udfs.candidates.source import CandidateSource, Column, Pairs, SessionContext
from udfs.catalog.items import LiveItems
from udfs.core.arrays import Floats, Ints

BY_POPULARITY = 20


class Popularity(CandidateSource):
    """What others take: all the time, and of late."""

    columns = ("popularity", "popularity_recent", "trend")

    def __init__(self, items: LiveItems, recent: Floats, propose: int) -> None:
        popularity = items.popularity
        self._popularity, self._recent = np.log1p(popularity), np.log1p(recent)
        self._trend = recent / np.maximum(popularity, 1)
        self._order = np.lexsort((np.arange(items.capacity), -recent))
        self._live, self._propose = items, propose
        self.refresh()

    def refresh(self) -> None:
        #: int64 [n]: rows in stock, what is taken most of late first
        self.offered = self._order[self._live.in_stock[self._order]]
        self._best = self.offered[: self._propose]

    def load(self, query: SessionContext) -> None:
        self._sessions, self._items = len(query), query.items

    def propose(self) -> Ints:
        keys = np.arange(self._sessions)[:, None] * self._items + self._best
        return np.asarray(keys.ravel())

    def describe(self, pairs: Pairs) -> Sequence[Column]:
        return self._popularity[pairs.item], self._recent[pairs.item], self._trend[pairs.item]
