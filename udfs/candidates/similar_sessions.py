"""Candidates from similar past sessions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from udfs.candidates.pairs import Feature, Pairs
from udfs.candidates.source import CandidateSource, SessionContext, SourceInputs
from udfs.core.arrays import (
    Floats,
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

#: Generate this many candidates per session.
GENERATED = 80

#: Look for similar sessions among this many of the latest ones with an item.
POSTINGS = 500

#: Use this many of the most similar sessions.
NEIGHBOURS = 200

#: Weight of a common item relative to that of the same item one interaction later.
AGE_DECAY = math.exp(-1 / 3)

#: Items of a similar session count up to this many events from the latest common item.
SPAN = 15

#: Weight of an item relative to that of the same item one event nearer to the latest common item.
DISTANCE_DECAY = math.exp(-1 / 3)


@dataclass(frozen=True)
class _Neighbours:
    """N past sessions that are similar to the sessions of a batch, sorted by these."""

    session: Ints  #: int64 [N], of the batch
    past: Ints  #: int64 [N], past session
    similarity: Floats  #: float64 [N]
    common: Ints  #: int64 [N], the past session's event with the latest common item
    newest: Ints  #: int64 [N], index of the newest common item in the context


@dataclass(frozen=True)
class _Votes:
    """What similar sessions say: the M entries of their items, and sums over these for P pairs."""

    items: int  #: rows of the catalog in use
    key: Ints  #: int64 [M], the pair of each entry
    value: Floats  #: float64 [M], similarity by distance
    newest: Ints  #: int64 [M], index of the newest common item in the context
    pairs: Ints  #: int64 [P], sorted keys
    rare: Floats  #: float64 [P], sum of values, by how rare the item is
    plain: Floats  #: float64 [P], sum of values
    own: Floats  #: float64 [P], sum of values, of the shopper's own sessions
    after: Floats  #: float64 [P], sum of values, of items after the common one


class SimilarSessions(CandidateSource[_Votes]):
    """What happened in past sessions with items in common, as nearest neighbours that look at order.

    After Ludewig, Mauro, Latifi and Jannach 2020, "Empirical analysis of session-based recommendation algorithms"
    (VSTAN, without its decay by the age of sessions): the similarity of a past session is the sum of the weights of
    the items in common, by how long ago the shopper interacted with them, over the root of its length; its items count
    by their distance from the latest common one, and by how rare they are.
    """

    name = "similar_sessions"
    default_reason = "taken in similar sessions"
    feature_names = ("similar", "similar_share", "similar_plain_share", "similar_own", "similar_after_share")
    order = 10

    def __init__(self, inputs: SourceInputs) -> None:
        past, capacity = inputs.past, inputs.items.capacity
        self._past = past
        lengths = np.diff(past.offsets)
        self._count = len(lengths)
        session = np.repeat(np.arange(self._count), lengths)
        last = _last_events(session, past.item, capacity)
        self._root_of_length = np.sqrt(np.maximum(np.bincount(session[last], minlength=self._count), 1))
        by_item = last[np.lexsort((-past.end[session[last]], past.item[last]))]
        by_item = by_item[position_in_group(past.item[by_item]) < POSTINGS]
        #: Postings: of each item, the events that are its last ones in the latest sessions with it.
        self._posting_event, self._posting_session = by_item, session[by_item]
        self._posting_offsets = np.searchsorted(past.item[by_item], np.arange(capacity + 1))
        sessions_with = np.bincount(past.item[last], minlength=capacity)
        self._rarity = np.log(max(self._count, 1) / np.maximum(sessions_with, 1))
        self._weight_by_age = AGE_DECAY ** np.arange(1 << 12)
        self._weight_by_distance = DISTANCE_DECAY ** np.arange(SPAN + 1)

    def prepare(self, context: SessionContext) -> _Votes:
        return self._vote(context, self._neighbours(context))

    def _neighbours(self, context: SessionContext) -> _Neighbours:
        posting, recent = concat_ranges(self._posting_offsets[context.item], self._posting_offsets[context.item + 1])
        # Sort by session and past session; of one past session, the newest common item comes first.
        key = context.session[recent] * self._count + self._posting_session[posting]
        width = bit_width(len(key) + 1)
        packed = np.sort((key << width) | np.arange(len(key)))
        key, order = packed >> width, packed & ((1 << width) - 1)
        first = start_indices(key)
        weight = self._weight_by_age[np.minimum(context.age, len(self._weight_by_age) - 1)][recent]
        similarity = np.add.reduceat(weight[order], first) if len(first) else np.empty(0)
        session, past = np.divmod(key[first], max(self._count, 1))
        similarity /= self._root_of_length[past]
        best = top_k_per_group(session, similarity, NEIGHBOURS, later=True)
        newest = order[first[best]]
        return _Neighbours(
            session=session[best],
            past=past[best],
            similarity=similarity[best],
            common=self._posting_event[posting[newest]],
            newest=recent[newest],
        )

    def _vote(self, context: SessionContext, neighbours: _Neighbours) -> _Votes:
        past, common = self._past, neighbours.common
        begin = np.maximum(common - SPAN, past.offsets[neighbours.past])
        end = np.minimum(common + SPAN + 1, past.offsets[neighbours.past + 1])
        event, voter = concat_ranges(begin, end)
        distance = event - common[voter]
        other = distance != 0
        event, voter, distance = event[other], voter[other], distance[other]
        item = past.item[event].astype(np.int64)
        key = neighbours.session[voter] * context.items + item
        value = neighbours.similarity[voter] * self._weight_by_distance[np.abs(distance)]
        shopper = context.shopper[neighbours.session]
        is_own = (past.shopper[neighbours.past] == shopper) & (shopper >= 0)
        pairs, pair = unique_inverse(key, len(context) * context.items)
        return _Votes(
            items=context.items,
            key=key,
            value=value,
            newest=neighbours.newest[voter],
            pairs=pairs,
            rare=segment_sum(pair, value * self._rarity[item], len(pairs)),
            plain=segment_sum(pair, value, len(pairs)),
            own=segment_sum(pair, value * is_own[voter], len(pairs)),
            after=segment_sum(pair, value * (distance > 0), len(pairs)),
        )

    def generate(self, votes: _Votes) -> Ints:
        return top_pairs(votes.pairs, votes.rare, GENERATED, votes.items)

    def features(self, votes: _Votes, pairs: Pairs) -> Sequence[Feature]:
        rare, plain, own, after = pairs.values_of(votes.pairs, (votes.rare, votes.plain, votes.own, votes.after))
        return rare, pairs.share(rare), pairs.share(plain), own, pairs.share(after)

    def evidence(self, votes: _Votes, pairs: Pairs) -> Ints:
        return pairs.strongest(votes.key, votes.value, votes.newest)


def _last_events(session: Ints, item: npt.NDArray[np.integer[Any]], capacity: int) -> Ints:
    """Return the events, ascending, that are the last ones of their item in their session. session: sorted."""
    pair = session * capacity + item
    newest_first = np.lexsort((-np.arange(len(pair)), pair))
    return np.sort(newest_first[group_starts(pair[newest_first])])
