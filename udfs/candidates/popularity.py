"""Popular items as candidates."""

from collections.abc import Sequence

import numpy as np

from udfs.candidates.pairs import Feature, Pairs
from udfs.candidates.source import RECENT, CandidateSource, SessionContext, SourceInputs
from udfs.core.arrays import Ints

#: Generate at least this many candidates per session.
BY_POPULARITY = 20


class Popularity(CandidateSource[SessionContext]):
    """What others take: all the time, and of late."""

    name = "popularity"
    default_reason = "popular in this shop"
    feature_names = ("popularity", "popularity_recent", "trend")
    order = 40

    def __init__(self, inputs: SourceInputs) -> None:
        popularity, recent = inputs.items.popularity, inputs.recent_popularity
        self._popularity = np.log1p(popularity)
        self._recent = np.log1p(recent)
        self._trend = recent / np.maximum(popularity, 1)
        self._order = inputs.by_recent_popularity
        self._items = inputs.items
        self._count = max(BY_POPULARITY, inputs.k + RECENT)  # enough where the recent items are left out
        self.refresh()

    def refresh(self) -> None:
        self._best = self._order[self._items.in_stock[self._order]][: self._count]

    def prepare(self, context: SessionContext) -> SessionContext:
        return context

    def generate(self, context: SessionContext) -> Ints:
        return context.keys_with(self._best)

    def features(self, _: SessionContext, pairs: Pairs) -> Sequence[Feature]:
        return self._popularity[pairs.item], self._recent[pairs.item], self._trend[pairs.item]
