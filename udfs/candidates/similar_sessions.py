"""Candidates from similar past sessions."""

import math
from collections.abc import Sequence

import numpy as np

from udfs.bundles.contents import PastSessions
from udfs.candidates.source import CandidateSource, Column, Pairs, SessionContext
from udfs.core.arrays import (
    Ints,
    bit_width,
    concat_ranges,
    group_starts,
    position_in_group,
    segment_sum,
    start_indices,
    top_k_per_group,
    top_pairs,
    unique_inverse,
)

SIMILAR_DECAY = math.exp(-1 / 3)

#: Of an item the latest sessions looked through for similar ones; of a session the similar ones used; and how far
#: from the common item their items count, each step SIMILAR_STEP × the one before.
POSTINGS = 500

SIMILAR = 200

SIMILAR_SPAN = 15

SIMILAR_STEP = math.exp(-1 / 3)

#: Items that a source proposes for a session.
BY_SIMILAR = 80


class SimilarSessions(CandidateSource):
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
        last = np.sort(last[group_starts(pair[last])])
        self._root = np.sqrt(np.maximum(np.bincount(session[last], minlength=sessions), 1))
        order = last[np.lexsort((-past.end[session[last]], past.item[last]))]
        order = order[position_in_group(past.item[order]) < POSTINGS]
        self._postings, self._posted = session[order], self._place[order]
        self._offsets = np.searchsorted(past.item[order], np.arange(room + 1))
        self._rarity = np.log(max(sessions, 1) / np.maximum(np.bincount(past.item[last], minlength=room), 1))
        self._by_age = SIMILAR_DECAY ** np.arange(1 << 12)
        self._by_distance = SIMILAR_STEP ** np.arange(SIMILAR_SPAN + 1)

    def load(self, query: SessionContext) -> None:
        self._items = query.items
        sessions, past = len(self._past.offsets) - 1, self._past
        entry, source = concat_ranges(self._offsets[query.item], self._offsets[query.item + 1])
        key = query.session[source] * sessions + self._postings[entry]
        width = bit_width(len(key) + 1)
        packed = np.sort(key << width | np.arange(len(key)))  # of one key the newest common item first
        key, order = packed >> width, packed & (1 << width) - 1
        first = start_indices(key)
        weight = self._by_age[np.minimum(query.age, len(self._by_age) - 1)][source]
        similarity = np.add.reduceat(weight[order], first) if len(first) else np.empty(0)
        mine, past_session = np.divmod(key[first], max(sessions, 1))
        similarity /= self._root[past_session]
        common, newest = self._posted[entry][order][first], source[order][first]
        best = top_k_per_group(mine, similarity, SIMILAR, later=True)
        mine, past_session, common, similarity = (x[best] for x in (mine, past_session, common, similarity))
        begin, end = past.offsets[past_session], past.offsets[past_session + 1]
        at = begin + common
        event, neighbour = concat_ranges(np.maximum(at - SIMILAR_SPAN, begin), np.minimum(at + SIMILAR_SPAN + 1, end))
        distance = event - at[neighbour]
        other = distance != 0
        event, neighbour, distance = event[other], neighbour[other], distance[other]
        value = similarity[neighbour] * self._by_distance[np.abs(distance)]
        item = past.item[event].astype(np.int64)
        self._entries = mine[neighbour] * self._items + item, value, newest[best][neighbour]
        own = (past.shopper[past_session] == query.shopper[mine]) & (query.shopper[mine] >= 0)
        self._pairs, place = unique_inverse(self._entries[0], len(query) * query.items)
        values = value * self._rarity[item], value, value * own[neighbour], value * (distance > 0)
        self._sums = [segment_sum(place, each, len(self._pairs)) for each in values]

    def propose(self) -> Ints:
        return top_pairs(self._pairs, self._sums[0], BY_SIMILAR, self._items)

    def describe(self, pairs: Pairs) -> Sequence[Column]:
        rare, plain, own, after = pairs.found(self._pairs, self._sums)
        return rare, pairs.share(rare), pairs.share(plain), own, pairs.share(after)

    def because(self, pairs: Pairs) -> Ints:
        return pairs.strongest(*self._entries)
