"""Candidates of the same category or brand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from udfs.candidates.pairs import Feature, Pairs
from udfs.candidates.source import UNKNOWN_AGE, CandidateSource, SessionContext, SourceInputs
from udfs.core.arrays import Floats, Ints, concat_ranges, segment_sum, start_indices, top_k_per_group, unique_inverse

#: Generate this many candidates of each value that a session went for most, or last.
PER_VALUE = 10


@dataclass(frozen=True)
class _Shares:
    """The pairs of a session and an attribute's value that N items of sessions have, and how much each weighs."""

    pairs: Pairs  #: P of them, the value in place of the item
    share: Floats  #: float64 [P], of the session's weights
    pair: npt.NDArray[np.integer[Any]]  #: whole [M], the pair of each item that has a value
    index: Ints  #: int64 [M], which of the N items that is


@dataclass(frozen=True)
class _Affinity:
    """What the sessions of a batch went for, and their shoppers before."""

    context: SessionContext
    here: _Shares
    newest: Ints  #: int64 [P], index of the newest item of each pair in the context
    age: Ints  #: int64 [P], interactions since that one
    before: _Shares


class _AttributeAffinity(CandidateSource[_Affinity]):
    """What others take of late of one attribute's values that the session, and its shopper before, went for.

    Popularity within a value is deliberately not a feature: with it, trees never surface new items.
    """

    name = "category"  # of both attributes
    default_reason = "its category or brand"
    attribute: ClassVar[str]

    def __init__(self, inputs: SourceInputs) -> None:
        self._items, self._order = inputs.items, inputs.by_recent_popularity
        self.refresh()

    def _codes(self) -> Ints:
        """Return each item's value by number, int64 [capacity], -1 for none."""
        codes: Ints = getattr(self._items, self.attribute)
        return codes

    def refresh(self) -> None:
        codes = self._codes()
        self._values = int(codes.max(initial=-1)) + 1
        offered = self._order[self._items.in_stock[self._order]]
        offered = offered[codes[offered] >= 0]
        by_value = np.argsort(codes[offered], kind="stable")
        self._offered = offered[by_value]  # by value, the most popular first
        self._offsets = np.searchsorted(codes[self._offered], np.arange(self._values + 1))

    def prepare(self, context: SessionContext) -> _Affinity:
        earlier = context.earlier
        here = self._shares(context, context.session, context.item, context.weight)
        newest = np.empty(len(here.share), dtype=np.int64)
        newest[here.pair[::-1]] = here.index[::-1]  # the last write wins: the first of a context's items is the newest
        before = self._shares(context, earlier.session, earlier.item, earlier.times)
        return _Affinity(context, here, newest, context.age[newest], before)

    def _shares(self, context: SessionContext, session: Ints, item: Ints, weight: Floats) -> _Shares:
        """Return the values that N items of sessions have, by the items' weights. session, item, weight: [N]."""
        code = self._codes()[item]
        index = np.flatnonzero(code >= 0)
        session, code, weight = session[index], code[index], weight[index]
        size = len(context) * self._values
        key, pair = unique_inverse(session * self._values + code, size)
        pairs = Pairs.of(key, len(context), self._values)
        in_all = segment_sum(session, weight, len(context))
        share = segment_sum(pair, weight, len(key)) / in_all[pairs.session]
        return _Shares(pairs, share, pair, index)

    def generate(self, affinity: _Affinity) -> Ints:
        """Return the best of each session's newest value, and of the one with the largest share."""
        here, pairs = affinity.here, affinity.here.pairs
        newest = here.pair[start_indices(affinity.context.session[here.index])]  # a context's items are newest first
        chosen = np.concatenate((newest, top_k_per_group(pairs.session, here.share, 1)))
        value = pairs.item[chosen]
        begin = self._offsets[value]
        entry, source = concat_ranges(begin, np.minimum(begin + PER_VALUE, self._offsets[value + 1]))
        return np.asarray(pairs.session[chosen[source]] * affinity.context.items + self._offered[entry])

    def features(self, affinity: _Affinity, pairs: Pairs) -> Sequence[Feature]:
        index, key = self._keys(pairs)
        age = np.full(len(pairs.key), UNKNOWN_AGE)
        share = np.zeros(len(pairs.key))
        own_share = np.zeros(len(pairs.key))
        found, pair = affinity.here.pairs.find(key)
        age[index[found]] = affinity.age[pair]
        share[index[found]] = affinity.here.share[pair]
        found, pair = affinity.before.pairs.find(key)
        own_share[index[found]] = affinity.before.share[pair]
        return age, share, own_share

    def evidence(self, affinity: _Affinity, pairs: Pairs) -> Ints:
        """The newest item of the same value."""
        index, key = self._keys(pairs)
        evidence = np.full(len(pairs.key), -1)
        found, pair = affinity.here.pairs.find(key)
        evidence[index[found]] = affinity.newest[pair]
        return evidence

    def _keys(self, pairs: Pairs) -> tuple[Ints, Ints]:
        """Return the indices of the pairs whose item has a value, and the key of session and value of each."""
        code = self._codes()[pairs.item]
        index = np.flatnonzero(code >= 0)
        return index, pairs.session[index] * self._values + code[index]


class CategoryAffinity(_AttributeAffinity):
    """What others take of the session's categories."""

    feature_names = ("category_age", "category_share", "category_own")
    order = 60
    attribute = "category"


class BrandAffinity(_AttributeAffinity):
    """What others take of the session's brands."""

    feature_names = ("brand_age", "brand_share", "brand_own")
    order = 61
    attribute = "brand"
