"""Candidates from a shopper's earlier sessions."""

from collections.abc import Callable, Sequence

import numpy as np

from udfs.bundles.contents import PastSessions
from udfs.candidates.pairs import Feature, Pairs
from udfs.candidates.source import UNKNOWN_DAYS, CandidateSource, EarlierItems, SessionContext
from udfs.core.arrays import Ints, concat_ranges, position_in_group
from udfs.core.clock import DAY_MS
from udfs.core.hashing import shopper_hash

#: Generate at most this many candidates per session.
BY_HISTORY = 30


class ShopperHistory:
    """What the bundle knows of U shoppers, by the hashes of their ids."""

    def __init__(self, past: PastSessions, capacity: int) -> None:
        """capacity: rows of items, also of those to come."""
        self._past, self._shoppers = past, past.shoppers
        self._erased = np.zeros(len(past.shoppers), dtype=bool)
        lengths = np.diff(past.offsets)
        shopper = np.repeat(past.shopper, lengths).astype(np.int64)
        known = shopper >= 0
        pairs, pair = np.unique(shopper[known] * capacity + past.item[known], return_inverse=True)
        self._times = np.bincount(pair, minlength=len(pairs)).astype(np.float64)
        self._last_ms = np.zeros(len(pairs), dtype=np.int64)
        np.maximum.at(self._last_ms, pair, np.repeat(past.end, lengths)[known])
        self._item = pairs % capacity
        self._offsets = np.searchsorted(pairs, np.arange(len(past.shoppers) + 1) * capacity)

    def erase(self, until: Callable[[Ints], Ints]) -> None:
        """Treat a shopper as unknown if all of the shopper's sessions end at or before `until(hash)`, epoch ms [n]."""
        last_end = np.full(len(self._shoppers), np.iinfo(np.int64).min)
        np.maximum.at(last_end, self._past.shopper, self._past.end)
        self._erased = last_end <= until(self._shoppers)

    def find(self, user_id: Sequence[str]) -> Ints:
        """Return the index of each user among the shoppers, int64 [S]; -1 for unknown ones."""
        hashes = np.fromiter(map(shopper_hash, user_id), np.int64, len(user_id))
        if not len(self._shoppers):
            return np.full(len(hashes), -1)
        index = np.minimum(np.searchsorted(self._shoppers, hashes), len(self._shoppers) - 1)
        return np.where((self._shoppers[index] == hashes) & ~self._erased[index], index, -1)

    def items_of(self, shopper: Ints, now: Ints) -> EarlierItems:
        """Return what the shoppers of sessions, int64 [S], interacted with before. now: int64 [S], epoch ms."""
        known = np.flatnonzero(shopper >= 0)
        entry, source = concat_ranges(self._offsets[shopper[known]], self._offsets[shopper[known] + 1])
        session = known[source]
        days = np.maximum(now[session] - self._last_ms[entry], 0) / DAY_MS
        return EarlierItems(session, self._item[entry], self._times[entry], days)


class History(CandidateSource[SessionContext]):
    """What the shopper interacted with in sessions before this one."""

    name = "history"
    default_reason = "from sessions before this one"
    feature_names = ("history", "history_days", "history_items")
    order = 50

    def prepare(self, context: SessionContext) -> SessionContext:
        return context

    def generate(self, context: SessionContext) -> Ints:
        """Return the items with the most interactions; ties go to the latest, then to the earlier row."""
        earlier = context.earlier
        order = np.lexsort((earlier.days, -earlier.times, earlier.session))
        best = order[position_in_group(earlier.session[order]) < BY_HISTORY]
        return np.asarray(earlier.session[best] * context.items + earlier.item[best])

    def features(self, context: SessionContext, pairs: Pairs) -> Sequence[Feature]:
        earlier = context.earlier
        key = earlier.session * context.items + earlier.item
        times, days = pairs.values_of(key, (earlier.times, earlier.days))
        items = np.bincount(earlier.session, minlength=len(context))
        return times, np.where(times > 0, days, UNKNOWN_DAYS), items[pairs.session]
