"""Candidates of a session, proposed by several sources, and what each source knows of every one of them.

A source is a class with `propose`, the items it would recommend, and `describe`, its columns for any pairs of session
and item. A pair is one whole number: session × items + item. All is computed on flat arrays for many sessions at once,
and sums run over one session's own entries in their own order, so that a pair's columns depend on its session alone.
"""

import hashlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from udfs.bundle import Bundle, CoVisits, PastSessions
from udfs.index import VectorIndex
from udfs.items import KINDS, LiveItems
from udfs.ranking import GRID, SCORE_BUDGET, Scores, Signals, to_grid
from udfs.sessions import Bools, Floats, Ints, Sessions, added, opens

#: A column of a source, [n].
Column = Floats | Ints | Scores

#: A session's distinct items that speak, the last ones.
RECENT = 10
#: Weight of an item by the events since: in co-visits as in the blend, in similar sessions falling faster.
DECAY, SIMILAR_DECAY = 0.8, math.exp(-1 / 3)
#: Of an item the latest sessions looked through for similar ones; of a session the similar ones used; and how far
#: from the common item their items count, each step SIMILAR_STEP × the one before.
POSTINGS, SIMILAR, SIMILAR_SPAN, SIMILAR_STEP = 500, 200, 15, math.exp(-1 / 3)
_BY_AGE = DECAY ** np.arange(1 << 12)
#: Items that a source proposes for a session.
BY_SIMILAR, BY_ITEMS, BY_LAST, BY_CONTENT, BY_POPULARITY, BY_HISTORY = 80, 30, 20, 25, 20, 30
#: Items that are proposed of a session's newest category and brand, and of its main ones.
BY_KIND = 10
#: Items on each side of the last one, in the order of their ids, and of an id the bytes that this goes by, at most.
LISTED, LISTED_BY = 5, 48
_NUMBER = re.compile("0*([0-9]+)")
DAY_MS = 86_400_000
#: Sessions in one query, at most.
MOST_SESSIONS = 256
#: Sets of whole numbers are marked in an array, not sorted, if that has up to so many places for each of them, or, up
#: to SCORE_BUDGET, for each that is looked for.
DENSE = 24
#: Days or events since what never was.
UNKNOWN = 999.0


@dataclass(frozen=True)
class Query:
    """S sessions so far, for sources.

    session, item, age: N recent items that are in the catalogue, each once a session, newest first; age counts the
    events after it. texts: two grid vectors a session, of the last event with a text and of the weighted mean.
    """

    session: Ints  #: int64 [N], sorted
    item: Ints  #: int64 [N], row in the catalogue
    age: Ints  #: int64 [N]
    seen: Ints  #: int64 [M], pairs of session and item, sorted and each once
    seen_times: Ints  #: int64 [M], how often
    seen_age: Ints  #: int64 [M], events since the last time
    length: Ints  #: int64 [S], events with an item
    shopper: Ints  #: int64 [S], number in the bundle's shoppers, -1 for one who is not among them
    now: Ints  #: int64 [S], epoch ms
    last_text: Scores  #: float32 [S, d], whole numbers; zero without a text
    centre: Scores  #: float32 [S, d]
    items: int  #: rows of the catalogue

    def __len__(self) -> int:
        return len(self.length)

    @cached_property
    def weight(self) -> Floats:
        """float64 [N]: DECAY to the power of the age."""
        return np.asarray(_BY_AGE[np.minimum(self.age, len(_BY_AGE) - 1)])


@dataclass(frozen=True)
class Pairs:
    """n different pairs, sorted by key, session × items + item; size: all that there may be, sessions × items."""

    key: Ints  #: int64 [n]
    session: Ints  #: int64 [n]
    item: Ints  #: int64 [n]
    size: int

    @classmethod
    def of(cls, key: Ints, query: Query) -> "Pairs":
        """Pairs of a query's sessions and items."""
        session, item = np.divmod(key, query.items)
        return cls(key, session, item, len(query) * query.items)

    @cached_property
    def _place(self) -> npt.NDArray[np.int32]:
        place = np.full(self.size, -1, dtype=np.int32)
        place[self.key] = np.arange(len(self.key), dtype=np.int32)
        return place

    @cached_property
    def _sessions(self) -> tuple[Ints, Ints]:
        first = _firsts(self.session)
        return first, np.diff(np.append(first, len(self.session)))

    def places(self, key: Ints) -> tuple[Ints, npt.NDArray[np.int32]]:
        """Which of these keys (int64 [m]) are among the pairs, and the place of each of those."""
        if not len(self.key):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
        if self.size <= max(DENSE * len(self.key), min(DENSE * len(key), SCORE_BUDGET)):
            place = self._place[key]
            hit = np.flatnonzero(place >= 0)
        else:
            place = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1).astype(np.int32)
            hit = np.flatnonzero(self.key[place] == key)
        return hit, place[hit]

    def found(self, known: Ints, columns: Sequence[Column]) -> list[Floats]:
        """Of each pair its value in each column over known keys (each once), 0 if it is not among them."""
        hit, place = self.places(known)
        values = np.zeros((len(columns), len(self.key)))
        for value, column in zip(values, columns, strict=True):
            value[place] = column[hit]
        return list(values)

    def share(self, value: Floats) -> Floats:
        """Values [..., n] over the highest one of their session; 0 where that is 0."""
        if not value.size:
            return value
        highest = np.maximum.reduceat(value, self._sessions[0], axis=-1)
        return np.asarray(value / np.repeat(np.where(highest > 0, highest, 1), self._sessions[1], axis=-1))

    def strongest(self, key: Ints, value: Floats, place: Ints) -> Ints:
        """int64 [n]: of each pair the place of the entry with its key and the highest value, the later on a tie; or -1.

        Values are positive.
        """
        hit, pair = self.places(key)
        value = value[hit]
        highest = np.zeros(len(self.key))
        np.maximum.at(highest, pair, value)
        best = np.flatnonzero(value == highest[pair])
        named = np.full(len(self.key), -1)
        named[pair[best]] = place[hit[best]]  # the last write wins
        return named


class Source(ABC):
    """Proposes candidates and describes pairs."""

    columns: tuple[str, ...]

    @abstractmethod
    def load(self, query: Query) -> None:
        """Look at a batch of sessions; what comes next is about these."""

    @abstractmethod
    def propose(self) -> Ints:
        """int64 [n]: keys of pairs worth ranking."""

    @abstractmethod
    def describe(self, pairs: Pairs) -> Sequence[Column]:
        """One array [n] a column, for these pairs."""

    def because(self, pairs: Pairs) -> Ints:
        """int64 [n]: for each of a few pairs the place in the query's items that speaks most for it, or -1."""
        return np.full(len(pairs.key), -1)


def shopper_hash(user_id: str) -> int:
    """A user id as a signed 64-bit number: what a bundle knows shoppers by."""
    return int.from_bytes(hashlib.sha256(user_id.encode("utf-8", "replace")).digest()[:8], "big", signed=True)


class SimilarSessions(Source):
    """What happened in past sessions with items in common, as nearest neighbours that look at order.

    After Ludewig, Mauro, Latifi and Jannach 2020, "Empirical analysis of session-based recommendation algorithms"
    (VSTAN, without its decay by the age of sessions): a past session is as similar as the weights of the items in
    common, by how long ago the shopper met them, over the root of its length; its items count by their distance from
    the latest common one, and by how rare they are.
    """

    columns = (
        "similar", "similar_share", "similar_plain_share", "similar_own", "similar_after_share",
    )  # fmt: skip

    def __init__(self, past: PastSessions, room: int) -> None:
        self._past = past
        sessions = len(past.offsets) - 1
        lengths = np.diff(past.offsets)
        session = np.repeat(np.arange(sessions), lengths)
        self._place = np.arange(len(past.item)) - np.repeat(past.offsets[:-1], lengths)
        pair = session * room + past.item
        last = np.lexsort((-self._place, pair))
        last = np.sort(last[opens(pair[last])])
        self._root = np.sqrt(np.maximum(np.bincount(session[last], minlength=sessions), 1))
        order = last[np.lexsort((-past.end[session[last]], past.item[last]))]
        order = order[nth_of(past.item[order]) < POSTINGS]
        self._postings, self._posted = session[order], self._place[order]
        self._offsets = np.searchsorted(past.item[order], np.arange(room + 1))
        self._rarity = np.log(max(sessions, 1) / np.maximum(np.bincount(past.item[last], minlength=room), 1))
        self._by_age = SIMILAR_DECAY ** np.arange(1 << 12)
        self._by_distance = SIMILAR_STEP ** np.arange(SIMILAR_SPAN + 1)

    def load(self, query: Query) -> None:
        self._items = query.items
        sessions, past = len(self._past.offsets) - 1, self._past
        entry, source = ragged(self._offsets[query.item], self._offsets[query.item + 1])
        key = query.session[source] * sessions + self._postings[entry]
        bits = _bits(len(key) + 1)
        packed = np.sort(key << bits | np.arange(len(key)))  # of one key the newest common item first
        key, order = packed >> bits, packed & (1 << bits) - 1
        first = _firsts(key)
        weight = self._by_age[np.minimum(query.age, len(self._by_age) - 1)][source]
        similarity = np.add.reduceat(weight[order], first) if len(first) else np.empty(0)
        mine, past_session = np.divmod(key[first], max(sessions, 1))
        similarity /= self._root[past_session]
        common, newest = self._posted[entry][order][first], source[order][first]
        best = best_of(mine, similarity, SIMILAR, later=True)
        mine, past_session, common, similarity = (x[best] for x in (mine, past_session, common, similarity))
        begin, end = past.offsets[past_session], past.offsets[past_session + 1]
        at = begin + common
        event, neighbour = ragged(np.maximum(at - SIMILAR_SPAN, begin), np.minimum(at + SIMILAR_SPAN + 1, end))
        distance = event - at[neighbour]
        other = distance != 0
        event, neighbour, distance = event[other], neighbour[other], distance[other]
        value = similarity[neighbour] * self._by_distance[np.abs(distance)]
        item = past.item[event].astype(np.int64)
        self._entries = mine[neighbour] * self._items + item, value, newest[best][neighbour]
        own = (past.shopper[past_session] == query.shopper[mine]) & (query.shopper[mine] >= 0)
        self._pairs, place = numbered(self._entries[0], len(query) * query.items)
        values = value * self._rarity[item], value, value * own[neighbour], value * (distance > 0)
        self._sums = [added(place, each, len(self._pairs)) for each in values]

    def propose(self) -> Ints:
        return top(self._pairs, self._sums[0], BY_SIMILAR, self._items)

    def describe(self, pairs: Pairs) -> Sequence[Column]:
        rare, plain, own, after = pairs.found(self._pairs, self._sums)
        return rare, pairs.share(rare), pairs.share(plain), own, pairs.share(after)

    def because(self, pairs: Pairs) -> Ints:
        return pairs.strongest(*self._entries)


class ItemToItem(Source):
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

    def load(self, query: Query) -> None:
        self._items, self._size = query.items, len(query) * query.items
        matrices, recent = len(self._offsets), len(query.item)
        begin, end = self._offsets[:, query.item], self._offsets[:, query.item + 1]
        self._cuts = np.cumsum([0, *(end - begin).sum(axis=1)]).tolist()  # of the entries, by matrix
        entry, row = ragged(begin.ravel(), end.ravel())
        matrix, source = np.divmod(row, max(recent, 1))
        weight = self._weights[entry].astype(np.float64)
        nth = nth_of(query.session)[source]
        decay = query.weight[source]
        key = matrix * self._size + query.session[source] * self._items + self._columns[entry]
        self._entries = key, weight * decay, source
        self._pairs, place = numbered(key, matrices * self._size)
        values = weight * decay, weight * (nth == 0), weight * (nth == 1), weight * (nth == 2)
        most = np.zeros(len(self._pairs))
        np.maximum.at(most, place, weight)
        items = added(place, np.ones(len(key)), len(self._pairs))
        self._sums = [*(added(place, each, len(self._pairs)) for each in values), most, items]

    def propose(self) -> Ints:
        by_all, by_last = self._sums[:2]
        proposed = (top(self._pairs, by_all, BY_ITEMS, self._items), top(self._pairs, by_last, BY_LAST, self._items))
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


class ByContent(Source):
    """Items in stock whose titles are near to what the session is about, by BERT vectors on the ranking's grid.

    Of a large catalogue, whose bundle has an index, they are those that the index finds.
    """

    columns = ("content_last", "content", "content_second")

    def __init__(self, items: LiveItems) -> None:
        self._live, self._scale = items, np.float32(1 / GRID**2)

    def load(self, query: Query) -> None:
        self._query = query
        nth = nth_of(query.session)
        second = np.zeros_like(query.centre)
        second[query.session[nth == 1]] = self._live.vectors[query.item[nth == 1]]
        self._texts = np.stack((query.last_text, query.centre, second))
        if self._live.index is None:
            texts = self._texts.reshape(-1, second.shape[1])  # for one product of two matrices
            self._likeness = (texts @ self._live.vectors[: query.items].T).reshape(3, len(query), query.items)

    def propose(self) -> Ints:
        known = np.flatnonzero(self._query.last_text.any(axis=1))
        index, count = self._live.index, min(BY_CONTENT, self._query.items)
        find = self._nearest if index is None else partial(self._nearest_by_index, index)
        return np.concatenate([find(text, known, count) for text in (0, 1)])

    def _nearest(self, text: int, known: Ints, count: int) -> Ints:
        """Keys of the `count` items nearest to one of the texts of each of these sessions, int64 [n]."""
        items, score = self._query.items, self._likeness[text, known]
        score[:, ~self._live.in_stock[:items]] = 0
        # All that reach the count-th best, ties too: which of them, no partition decides.
        least = np.partition(score, items - count, axis=1)[:, items - count, None] if count else score[:, :0]
        row, item = np.nonzero(score >= least)
        return top(known[row] * items + item, score[row, item], count, items)

    def _nearest_by_index(self, index: VectorIndex, text: int, known: Ints, count: int) -> Ints:
        """The same from the index, which is asked for more while sold-out items leave too few."""
        items, wanted = self._query.items, 2 * count
        key = np.empty(0, dtype=np.int64)
        while len(known):
            rows = index.nearest(self._texts[text, known], wanted)
            usable = (rows >= 0) & self._live.in_stock[rows]
            key = np.unique((known[:, None] * items + rows)[usable])
            if wanted >= items or (usable.sum(axis=1) >= count).all() or (rows < 0).any():
                break
            wanted = min(4 * wanted, items)
        session, item = np.divmod(key, items)
        return top(key, self._products(session, item)[:, text], count, items)

    def _products(self, session: Ints, item: Ints) -> Scores:
        """float32 [n, 3]: of each pair (sorted) the item's vector with the session's texts; whole numbers."""
        out = np.empty((len(item), len(self._texts)), dtype=np.float32)
        bounds = np.searchsorted(session, np.arange(len(self._query) + 1))
        for number, (first, last) in enumerate(pairwise(bounds.tolist())):
            out[first:last] = self._live.vectors[item[first:last]] @ self._texts[:, number].T
        return out

    def describe(self, pairs: Pairs) -> Sequence[Column]:
        if self._live.index is None:
            return list(self._likeness[:, pairs.session, pairs.item] * self._scale)
        return list((self._products(pairs.session, pairs.item) * self._scale).T)


class Popular(Source):
    """What others take: all the time, and of late."""

    columns = ("popularity", "popularity_recent", "trend")

    def __init__(self, items: LiveItems, recent: Floats, propose: int) -> None:
        popularity = items.popularity
        self._popularity, self._recent = np.log1p(popularity), np.log1p(recent)
        self._trend = recent / np.maximum(popularity, 1)
        self._order = np.lexsort((np.arange(items.room), -recent))
        self._live, self._propose = items, propose
        self.refresh()

    def refresh(self) -> None:
        #: int64 [n]: rows in stock, what is taken most of late first
        self.offered = self._order[self._live.in_stock[self._order]]
        self._best = self.offered[: self._propose]

    def load(self, query: Query) -> None:
        self._sessions, self._items = len(query), query.items

    def propose(self) -> Ints:
        keys = np.arange(self._sessions)[:, None] * self._items + self._best
        return np.asarray(keys.ravel())

    def describe(self, pairs: Pairs) -> Sequence[Column]:
        return self._popularity[pairs.item], self._recent[pairs.item], self._trend[pairs.item]


class History(Source):
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

    def load(self, query: Query) -> None:
        self._query, self._items = query, query.items
        known = np.flatnonzero(query.shopper >= 0)
        shopper = query.shopper[known]
        entry, source = ragged(self._offsets[shopper], self._offsets[shopper + 1])
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
        return np.asarray(self._mine[order[nth_of(session) < BY_HISTORY]])

    def describe(self, pairs: Pairs) -> Sequence[Column]:
        times, days = pairs.found(self._mine, self._sums)
        return times, np.where(times > 0, days, UNKNOWN), self._known[pairs.session]


class SameKind(Source):
    """What others take of late of the categories and brands that the session, and its shopper before, went for.

    How popular an item is among its like is no column: trees that have it keep new items out.
    Categories and brands are worked on together: a session has the groups 2 × session, of categories, and 2 × session +
    1, of brands. A group and a code are a pair.
    """

    names = ("age", "share", "own")

    def __init__(self, items: LiveItems, popular: Popular, history: History) -> None:
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

    def load(self, query: Query) -> None:
        self._items, self._codes = query.items, self._live.most_of_a_kind
        self._met, self._share, place, at = self._shares(query.session, query.item, query.weight, len(query))
        self._newest = np.full(len(self._share), len(query.item))  # its place in the query
        np.minimum.at(self._newest, place, at)
        self._age = query.age[self._newest]
        self._own, self._own_share, _, _ = self._shares(*self._history.met, len(query))

    def propose(self) -> Ints:
        """The best of each session's newest category and brand, and of those with the largest share."""
        group, code = self._met.session, self._met.item
        chosen = np.union1d(best_of(group, self._share, 1), best_of(group, -self._age, 1))
        chosen = chosen[code[chosen] < self._known]  # others came up in changes that failed half-way
        session, kind = np.divmod(group[chosen], 2)
        number = 2 * code[chosen] + kind
        begin = self._offsets[number]
        entry, source = ragged(begin, np.minimum(begin + BY_KIND, self._offsets[number + 1]))
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
        met, place = numbered(key, size)
        group, code = np.divmod(met, max(self._codes, 1))
        in_all = added(2 * session[at] + kind, weight[at], 2 * sessions)
        share = added(place, weight[at], len(met)) / in_all[group]
        return Pairs(met, group, code, size), np.asarray(share), place.astype(np.int64), at


class Listing(Source):
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

    def load(self, query: Query) -> None:
        if query.items > len(self._order):  # changes that failed half-way
            self.refresh()
        self._query, self._items = query, query.items
        place, nth = self._place[query.item], nth_of(query.session)
        self._last = np.full(len(query), -1)
        self._last[query.session[nth == 0]] = place[nth == 0]
        earlier = np.flatnonzero(nth > 0)
        session = query.session[earlier]
        turns = added(session, np.sign(place[earlier - 1] - place[earlier]).astype(np.float64), len(query))
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


class ByPrice(Source):
    """What an item costs, and how that compares with the items that the session has met; 0 where that is unknown."""

    columns = ("price", "price_against_session")

    def __init__(self, price: Floats) -> None:
        self._price = price

    def load(self, query: Query) -> None:
        price, size = self._price[query.item], len(query)
        known = price > 0
        logs = added(query.session[known], np.log(price[known]), size)
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


class ThisSession(Source):
    """What the session itself has met already."""

    columns = ("seen", "seen_age", "session_events", "last_popularity")

    def __init__(self, popularity: Floats, *, propose: bool) -> None:
        self._popularity, self._propose = np.log1p(popularity), propose

    def load(self, query: Query) -> None:
        self._query = query
        newest = opens(query.session)
        self._last = np.zeros(len(query))
        self._last[query.session[newest]] = self._popularity[query.item[newest]]

    def propose(self) -> Ints:
        return self._query.seen if self._propose else np.empty(0, dtype=np.int64)

    def describe(self, pairs: Pairs) -> Sequence[Column]:
        query, session = self._query, pairs.session
        times, age = pairs.found(query.seen, [query.seen_times, query.seen_age])
        return times, np.where(times > 0, age, UNKNOWN), query.length[session], self._last[session]


@dataclass(frozen=True)
class Candidates:
    """n pairs of session and item, sorted, and float32 [n, columns] COLUMNS of them."""

    session: Ints
    item: Ints
    columns: Scores

    def at(self, places: Ints) -> "Candidates":
        """Those at these places, int64 [m], rising."""
        return Candidates(self.session[places], self.item[places], self.columns[places])


class Finder:
    """All sources of a bundle together: columns names what describes a pair, source_of the reason each belongs to.

    most_sessions: in one query; bounds memory.
    """

    def __init__(self, bundle: Bundle, items: LiveItems, *, repeats: bool, k: int = 10) -> None:
        """items: the bundle's as they are now; k: items that there should be candidates for, whatever was met."""
        past, room = bundle.past_sessions(), items.room
        self.items, self._past, self._shoppers, self._repeats = items, past, past.shoppers, repeats
        self._forgotten = np.zeros(len(past.shoppers), dtype=bool)
        self.most_sessions = max(1, min(MOST_SESSIONS, SCORE_BUDGET // room)) if items.index is None else MOST_SESSIONS
        self._popular = Popular(items, past.recent(room), max(BY_POPULARITY, k + RECENT))
        history = History(past, room)
        self._same_kind = SameKind(items, self._popular, history)
        self._listing = Listing(items)
        matrices = {"co_visit": bundle.co_visits(), "beside": bundle.beside(), "follows": bundle.follows()}
        item_to_item = ItemToItem(matrices, room)
        del matrices  # before the others take their memory
        self._sources: list[tuple[str, Source]] = [
            ("similar_sessions", SimilarSessions(past, room)),
            ("co_visit", item_to_item),
            ("content", ByContent(items)),
            ("popularity", self._popular),
            ("history", history),
            ("category", self._same_kind),
            ("listing", self._listing),
            ("price", ByPrice(items.price)),
            ("session", ThisSession(items.popularity, propose=repeats)),
        ]
        self.columns = tuple(column for _, source in self._sources for column in source.columns)
        self.source_of = {column: name for name, source in self._sources for column in source.columns}

    def refresh(self) -> None:
        """To be called after the items have changed."""
        self._popular.refresh()
        self._same_kind.refresh()
        self._listing.refresh()

    def forget(self, until: Callable[[Ints], Ints]) -> None:
        """Take those for strangers whose sessions end no later than `until` says of their hashes (epoch ms, [n])."""
        last = np.full(len(self._shoppers), np.iinfo(np.int64).min)
        np.maximum.at(last, self._past.shopper, self._past.end)
        self._forgotten = last <= until(self._shoppers)

    def query(self, user_id: Sequence[str], sessions: Sessions, rows: Ints, signals: Signals, grid: Scores) -> Query:
        """What sources look at. rows: int64 [E], rows in the catalogue; grid: the signals' vectors on the grid."""
        met = np.flatnonzero((rows >= 0) & ~sessions.is_type("impression", "search"))
        session, item = sessions.session_of[met], rows[met]
        length = np.bincount(session, minlength=len(sessions))
        age = np.cumsum(length)[session] - 1 - np.arange(len(met))
        pair = session * len(self.items) + item
        seen, last, times = np.unique(pair[::-1], return_index=True, return_counts=True)
        last = len(met) - 1 - last
        newest = last[np.lexsort((age[last], session[last]))]
        recent = newest[nth_of(session[newest]) < RECENT]
        hashed = np.fromiter(map(shopper_hash, user_id), np.int64, len(sessions))
        place = np.minimum(np.searchsorted(self._shoppers, hashed), max(len(self._shoppers) - 1, 0))
        known = np.zeros(len(hashed), dtype=bool)
        if len(self._shoppers):
            known = (self._shoppers[place] == hashed) & ~self._forgotten[place]
        centre = np.zeros((len(sessions), self.items.vectors.shape[1]))
        last_text = np.zeros_like(centre)
        if len(signals.session):
            present, starts = np.unique(signals.session, return_index=True)
            centre[present] = np.add.reduceat(grid * signals.weight[:, None].astype(np.float64), starts, axis=0)
            last_text[present] = grid[np.append(starts[1:], len(grid)) - 1]
        return Query(
            session=session[recent],
            item=item[recent],
            age=age[recent],
            seen=seen,
            seen_times=times,
            seen_age=age[last],
            length=length,
            shopper=np.where(known, place, -1),
            now=sessions.end,
            last_text=last_text.astype(np.float32),
            centre=to_grid(centre),
            items=len(self.items),
        )

    def find(self, query: Query) -> Candidates:
        """The union of what the sources propose, less what is sold out or, without repeats, seen in the session.

        Raises ValueError for more than most_sessions.
        """
        if len(query) > self.most_sessions:
            raise ValueError(f"{len(query)} sessions in one query; {self.most_sessions} are the most")
        for _, source in self._sources:
            source.load(query)
        proposed = np.concatenate([source.propose() for _, source in self._sources])
        key, _ = numbered(proposed, len(query) * query.items)
        key = key[self.items.in_stock[key % query.items]]
        if not self._repeats:
            key = key[~_in_sorted(key, query.seen)]
        pairs = Pairs.of(key, query)
        columns = np.empty((len(self.columns), len(key)), np.float32)
        described = (values for _, source in self._sources for values in source.describe(pairs))
        for column, values in zip(columns, described, strict=True):
            column[:] = values
        return Candidates(pairs.session, pairs.item, np.ascontiguousarray(columns.T))

    def because(self, query: Query, session: Ints, item: Ints) -> dict[str, Ints]:
        """By source, int64 [n]: the place in the query's items that it names for each pair, -1 for none."""
        wanted, back = np.unique(session * query.items + item, return_inverse=True)
        pairs, named = Pairs.of(wanted, query), dict[str, Ints]()
        for name, source in self._sources:
            named[name] = source.because(pairs)
        return {name: place[back] for name, place in named.items()}


def ragged(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """The numbers from begin[i] up to end[i] (left out) for every i, one after the other, and the i of each."""
    lengths = end - begin
    source = np.repeat(np.arange(len(begin)), lengths)
    return np.arange(len(source)) + np.repeat(begin - np.cumsum(lengths) + lengths, lengths), source


def numbered(key: Ints, size: int) -> tuple[Ints, npt.NDArray[np.integer[Any]]]:
    """The different keys, sorted, and the place of each key (int64 [n], from 0 below `size`) among them."""
    if size > DENSE * len(key):
        different, place = np.unique(key, return_inverse=True)
        return different, place
    there = np.zeros(size, dtype=bool)
    there[key] = True
    different = np.flatnonzero(there)
    place = np.empty(size, dtype=np.int32)
    place[different] = np.arange(len(different), dtype=np.int32)
    return different, place[key]


def top(pairs: Ints, score: Column, count: int, items: int) -> Ints:
    """The `count` pairs (sorted) of each session with the highest positive score; ties go to the earlier item."""
    positive = np.flatnonzero(score > 0)
    return np.asarray(pairs[positive[best_of(pairs[positive] // items, score[positive], count)]])


def best_of(group: Ints, score: Column, count: int, *, later: bool = False) -> Ints:
    """int64 [m], rising: the places of the `count` highest scores in float32 of each group (sorted).

    Ties go to the earlier place, or the later one.
    """
    place, bits = np.arange(len(group)), _bits(len(group))
    # The bits of float32, those after the sign turned where it is set, are in the order of the floats; adding 0 makes
    # a positive zero of a negative one.
    of_score = (np.asarray(score, dtype=np.float32) + np.float32(0)).view(np.int32).astype(np.int64)
    falling = (1 << 31) - 1 - (of_score ^ of_score >> 31 & (1 << 31) - 1)
    tie = len(group) - 1 - place if later else place
    if len(group) and (int(group[-1]) + 1) << bits > 1 << 31:
        ordered = np.lexsort((tie, falling, group))
        return np.sort(ordered[nth_of(group[ordered]) < count])
    # Group, score and place in one whole number, which is what NumPy sorts fastest.
    ordered = np.sort((group << 32 | falling) << bits | tie)
    chosen = ordered[nth_of(ordered >> 32 + bits) < count] & (1 << bits) - 1
    return np.sort(len(group) - 1 - chosen if later else chosen)


def _bits(numbers: int) -> int:
    return max(1, (numbers - 1).bit_length())


def nth_of(group: Ints) -> Ints:
    """int64 [n]: from 0, the place of each entry among those of its group (sorted)."""
    opening = opens(group)
    return np.asarray(np.arange(len(group)) - opening.nonzero()[0][np.cumsum(opening) - 1])


def _firsts(key: Ints) -> Ints:
    return opens(key).nonzero()[0]


def _in_sorted(values: Ints, known: Ints) -> Bools:
    if not len(known):
        return np.zeros(len(values), dtype=bool)
    return np.asarray(known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values)
