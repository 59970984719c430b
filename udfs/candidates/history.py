"""Candidates from a shopper's earlier sessions."""

from collections.abc import Sequence

import numpy as np

from udfs.bundles.contents import PastSessions
from udfs.candidates.source import UNKNOWN, CandidateSource, Column, Pairs, SessionContext
from udfs.core.arrays import Ints, concat_ranges, position_in_group
from udfs.core.clock import DAY_MS

BY_HISTORY = 30


class History(CandidateSource):
    """What the shopper met in sessions before this one."""

    columns = ("history", "history_days", "history_items")

    def __init__(self, past: PastSessions, items: int) -> None:
        lengths = np.diff(past.offsets)
        shopper = np.repeat(past.shopper, lengths).astype(np.int64)
        known = shopper >= 0
        pair = shopper[known] * items + past.item[known]
        pairs, place = np.unique(pair, return_inverse=True)
        self._times = np.bincount(place, minlength=len(pairs)).astype(np.float64)
        self._last = np.zeros(len(pairs), dtype=np.int64)
        np.maximum.at(self._last, place, np.repeat(past.end, lengths)[known])
        self._item = pairs % items
        self._offsets = np.searchsorted(pairs, np.arange(len(past.shoppers) + 1) * items)

    def load(self, query: SessionContext) -> None:
        self._query, self._items = query, query.items
        known = np.flatnonzero(query.shopper >= 0)
        shopper = query.shopper[known]
        entry, source = concat_ranges(self._offsets[shopper], self._offsets[shopper + 1])
        self._mine = known[source] * query.items + self._item[entry]
        days = np.maximum(query.now[known][source] - self._last[entry], 0) / DAY_MS
        self._sums: list[Column] = [self._times[entry], days]
        #: session int64 [m], item int64 [m] and how often float64 [m]: what the shoppers met before
        self.met = known[source], self._item[entry], self._times[entry]
        self._known = np.zeros(len(query))
        self._known[known] = self._offsets[shopper + 1] - self._offsets[shopper]

    def propose(self) -> Ints:
        order = np.lexsort((self._mine, self._sums[1], -self._sums[0], self._mine // self._items))
        session = self._mine[order] // self._items
        return np.asarray(self._mine[order[position_in_group(session) < BY_HISTORY]])

    def describe(self, pairs: Pairs) -> Sequence[Column]:
        times, days = pairs.found(self._mine, self._sums)
        return times, np.where(times > 0, days, UNKNOWN), self._known[pairs.session]
