"""Neighbours in the order of item ids as candidates."""

import re
from collections.abc import Sequence

import numpy as np

from udfs.candidates.source import CandidateSource, Column, Pairs, SessionContext
from udfs.catalog.items import LiveItems
from udfs.core.arrays import Ints, position_in_group, segment_sum

#: Items on each side of the last one, in the order of their ids, and of an id the bytes that this goes by, at most.
LISTED = 5

LISTED_BY = 48

_NUMBER = re.compile("0*([0-9]+)")


class IdNeighbours(CandidateSource):
    """What stands near what was met when the items in stock are in the order of their ids.

    Shops give ids one after the other, so neighbours often are of one family or came in together. Numbers in ids count
    as numbers: i9 comes before i10. An item that is sold out stands where the next one in stock does.
    """

    columns = ("listed_step", "listed_near", "listed_direction")

    def __init__(self, items: LiveItems) -> None:
        self._live = items
        self._keys = np.empty(0, dtype=f"S{LISTED_BY}")
        self._order = np.empty(0, dtype=np.int64)  # all items
        self.refresh()

    def refresh(self) -> None:
        known = len(self._order)
        fresh = np.array([_listed_by(item) for item in self._live.ids[known:]], dtype=self._keys.dtype)
        by_key = np.argsort(fresh, kind="stable")
        at = np.searchsorted(self._keys, fresh[by_key], side="right")
        self._keys = np.insert(self._keys, at, fresh[by_key])
        self._order = np.insert(self._order, at, known + by_key)
        offered = self._live.in_stock[self._order]
        self._offered = self._order[offered]
        self._place = np.empty(len(self._order), dtype=np.int64)
        self._place[self._order] = np.cumsum(offered) - offered

    def load(self, query: SessionContext) -> None:
        if query.items > len(self._order):  # changes that failed half-way
            self.refresh()
        self._query, self._items = query, query.items
        place, nth = self._place[query.item], position_in_group(query.session)
        self._last = np.full(len(query), -1)
        self._last[query.session[nth == 0]] = place[nth == 0]
        earlier = np.flatnonzero(nth > 0)
        session = query.session[earlier]
        turns = segment_sum(session, np.sign(place[earlier - 1] - place[earlier]).astype(np.float64), len(query))
        self._direction = turns / np.maximum(np.bincount(session, minlength=len(query)), 1)
        key = query.session * self._items + place
        self._by_place = np.argsort(key, kind="stable")
        self._met = key[self._by_place]

    def propose(self) -> Ints:
        session = np.flatnonzero(self._last >= 0)
        place = self._last[session, None] + np.arange(-LISTED, LISTED + 1)
        row, column = np.nonzero((place >= 0) & (place < len(self._offered)))
        return np.asarray(session[row] * self._items + self._offered[place[row, column]])

    def describe(self, pairs: Pairs) -> Sequence[Column]:
        last = self._last[pairs.session]
        step = np.where(last >= 0, self._place[pairs.item] - last, 0)
        steps, _ = self._nearest(pairs)
        return step, np.where(steps < 0, 0.0, 1 / (1 + np.maximum(steps, 0))), self._direction[pairs.session]

    def because(self, pairs: Pairs) -> Ints:
        steps, place = self._nearest(pairs)
        return np.where(steps <= LISTED, place, -1)

    def _nearest(self, pairs: Pairs) -> tuple[Ints, Ints]:
        """int64 [n] each: steps to the nearest item that was met, and its place in the query; -1 without one."""
        if not len(self._met):
            nothing = np.full(len(pairs.key), -1)
            return nothing, nothing
        key = pairs.session * self._items + self._place[pairs.item]
        at = np.searchsorted(self._met, key)
        sides = np.stack((np.maximum(at - 1, 0), np.minimum(at, len(self._met) - 1)))
        far = np.abs(self._met[sides] - key)
        far[self._query.session[self._by_place[sides]] != pairs.session] = self._items
        side = np.argmin(far, axis=0), np.arange(len(key))
        none = far[side] == self._items
        return np.where(none, -1, far[side]), np.where(none, -1, self._by_place[sides[side]])


def _listed_by(item_id: str) -> bytes:
    """What ids are ordered by: a number goes by how many digits it has, then by these."""
    return _NUMBER.sub(lambda found: f"{len(found[1]):02}{found[1]}", item_id).encode("utf-8", "replace")[:LISTED_BY]
