"""Candidates of the same category and brand, and prices."""

from collections.abc import Sequence

import numpy as np

from udfs.candidates.history import History
from udfs.candidates.popularity import Popularity
from udfs.candidates.source import UNKNOWN, CandidateSource, Column, Pairs, SessionContext
from udfs.catalog.items import KINDS, LiveItems
from udfs.core.arrays import Floats, Ints, concat_ranges, segment_sum, top_k_per_group, unique_inverse

#: Items that are proposed of a session's newest category and brand, and of its main ones.
BY_KIND = 10


class AttributeAffinity(CandidateSource):
    """What others take of late of the categories and brands that the session, and its shopper before, went for.

    How popular an item is among its like is no column: trees that have it keep new items out.
    Categories and brands are worked on together: a session has the groups 2 × session, of categories, and 2 × session +
    1, of brands. A group and a code are a pair.
    """

    names = ("age", "share", "own")

    def __init__(self, items: LiveItems, popular: Popularity, history: History) -> None:
        """popular and history are refreshed and loaded before this."""
        self.columns = tuple(f"{kind}_{column}" for kind in KINDS for column in self.names)
        self._live, self._popular, self._history = items, popular, history
        self.refresh()

    def refresh(self) -> None:
        offered, self._known = self._popular.offered, self._live.most_of_a_kind
        kinds = self._live.kinds[:, offered]
        kind, at = np.nonzero(kinds >= 0)
        number = 2 * kinds[kind, at] + kind
        by_number = np.argsort(number, kind="stable")
        self._offered = offered[at[by_number]]
        self._offsets = np.searchsorted(number[by_number], np.arange(2 * self._known + 1))

    def load(self, query: SessionContext) -> None:
        self._items, self._codes = query.items, self._live.most_of_a_kind
        self._met, self._share, place, at = self._shares(query.session, query.item, query.weight, len(query))
        self._newest = np.full(len(self._share), len(query.item))  # its place in the query
        np.minimum.at(self._newest, place, at)
        self._age = query.age[self._newest]
        self._own, self._own_share, _, _ = self._shares(*self._history.met, len(query))

    def propose(self) -> Ints:
        """The best of each session's newest category and brand, and of those with the largest share."""
        group, code = self._met.session, self._met.item
        chosen = np.union1d(top_k_per_group(group, self._share, 1), top_k_per_group(group, -self._age, 1))
        chosen = chosen[code[chosen] < self._known]  # others came up in changes that failed half-way
        session, kind = np.divmod(group[chosen], 2)
        number = 2 * code[chosen] + kind
        begin = self._offsets[number]
        entry, source = concat_ranges(begin, np.minimum(begin + BY_KIND, self._offsets[number + 1]))
        return np.asarray(session[source] * self._items + self._offered[entry])

    def describe(self, pairs: Pairs) -> Sequence[Column]:
        columns = np.zeros((2, len(self.names), len(pairs.key)))
        age, share, own = columns.swapaxes(0, 1)
        kind, at, key = self._keys(pairs.session, pairs.item)
        hit, met = self._met.places(key)
        age[:] = UNKNOWN
        age[kind[hit], at[hit]], share[kind[hit], at[hit]] = self._age[met], self._share[met]
        hit, met = self._own.places(key)
        own[kind[hit], at[hit]] = self._own_share[met]
        return list(columns.reshape(len(self.columns), -1))

    def because(self, pairs: Pairs) -> Ints:
        """The newest item of the same category, or else of the same brand."""
        named = np.full((2, len(pairs.key)), -1)
        kind, at, key = self._keys(pairs.session, pairs.item)
        hit, met = self._met.places(key)
        named[kind[hit], at[hit]] = self._newest[met]
        return np.where(named[0] >= 0, named[0], named[1])

    def _keys(self, session: Ints, item: Ints) -> tuple[Ints, Ints, Ints]:
        """Of these items of sessions, each int64 [n], 0 for a category or 1 for a brand, which item, and the pair."""
        kinds = self._live.kinds[:, item]
        kind, at = np.nonzero(kinds >= 0)
        return kind, at, (2 * session[at] + kind) * self._codes + kinds[kind, at]

    def _shares(self, session: Ints, item: Ints, weight: Floats, sessions: int) -> tuple[Pairs, Floats, Ints, Ints]:
        """The pairs that are met, each one's share of its group; of which pair each entry is, and of which item."""
        kind, at, key = self._keys(session, item)
        size = 2 * sessions * self._codes
        met, place = unique_inverse(key, size)
        group, code = np.divmod(met, max(self._codes, 1))
        in_all = segment_sum(2 * session[at] + kind, weight[at], 2 * sessions)
        share = segment_sum(place, weight[at], len(met)) / in_all[group]
        return Pairs(met, group, code, size), np.asarray(share), place.astype(np.int64), at


class PriceAffinity(CandidateSource):
    """What an item costs, and how that compares with the items that the session has met; 0 where that is unknown."""

    columns = ("price", "price_against_session")

    def __init__(self, price: Floats) -> None:
        self._price = price

    def load(self, query: SessionContext) -> None:
        price, size = self._price[query.item], len(query)
        known = price > 0
        logs = segment_sum(query.session[known], np.log(price[known]), size)
        priced = np.bincount(query.session[known], minlength=size)
        self._usual = np.where(priced > 0, logs / np.maximum(priced, 1), np.nan)

    def propose(self) -> Ints:
        return np.empty(0, dtype=np.int64)

    def describe(self, pairs: Pairs) -> Sequence[Column]:
        price = self._price[pairs.item]
        known = price > 0
        log_price = np.log(np.where(known, price, 1))
        against = np.where(known, log_price - self._usual[pairs.session], np.nan)
        return log_price, np.nan_to_num(against)
