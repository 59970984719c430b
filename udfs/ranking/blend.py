"""Ranks by a blend of content, co-visits and popularity, for bundles without a learned ranker."""

from dataclasses import dataclass

import numpy as np

from udfs.bundles.bundle import Bundle
from udfs.bundles.forgotten import ErasureList
from udfs.candidates.content import ContentSimilarity
from udfs.candidates.item_to_item import ItemToItem
from udfs.candidates.pairs import Pairs
from udfs.candidates.popularity import Popularity
from udfs.catalog.items import LiveItems
from udfs.contracts.rankings import RankedItem
from udfs.core.arrays import Floats, Ints, Scores, concat_ranges, segment_sum, top_k_rows
from udfs.core.exact import SCORE_BUDGET, SCORE_SCALE, VECTOR_SCALE, to_grid
from udfs.ranking.options import RankOptions
from udfs.ranking.reasons import Selected, collect_quotes, nearest_signals, pick_evidence, to_ranked_items
from udfs.sessions.requests import EncodeTexts, RankInputs, RankRequest
from udfs.sessions.signals import Signals

#: Its reasons have the names and texts of these sources of candidates.
_SOURCES = (ContentSimilarity, ItemToItem, Popularity)


@dataclass(frozen=True)
class _CoVisitEntries:
    """The co-visit rows of the signals' items, one after the other; M entries."""

    signal: Ints  #: int64 [M]
    key: Ints  #: int64 [M], session × items + item
    weight: Floats  #: float64 [M], the co-visit's by the signal's


class BlendRanker:
    """Ranks a bundle's items for sessions by a blend of content, co-visits and popularity, without training."""

    def __init__(self, bundle: Bundle, items: LiveItems, options: RankOptions) -> None:
        """items: the bundle's as they are now."""
        self.candidates = 0  #: pairs of session and item scored so far
        self._options = options
        self._items = items
        self._co_visits = bundle.co_visits().with_rows(items.capacity)
        popular = np.log1p(items.popularity)
        popular /= max(popular.max(initial=0.0), 1e-12)
        self._popularity = np.rint(popular * (options.popularity * SCORE_SCALE)).astype(np.float32)
        self.refresh()

    def refresh(self) -> None:
        """Rank the items as they are now. To be called after they have changed."""
        self._count = len(self._items)
        self._sold_out = np.flatnonzero(~self._items.in_stock[: self._count])

    def erase(self, erased: ErasureList) -> None:
        """Do nothing: the blend ranks alike for all users."""

    def rank(self, request: RankRequest, encode: EncodeTexts) -> list[list[RankedItem]]:
        """Return the best items for each session, best first; ties go to the earlier item."""
        options = self._options
        inputs = RankInputs.of(request, self._items, encode, recent=options.recent, decay=options.decay)
        ranked: list[list[RankedItem]] = []
        for chunk in inputs.chunks(max(1, SCORE_BUDGET // max(1, self._count))):
            ranked += self._rank(chunk)
        return ranked

    def _rank(self, inputs: RankInputs) -> list[list[RankedItem]]:
        entries = self._co_visit_entries(inputs.signals)
        content = self._content(inputs)
        popularity = self._popularity[: self._count]
        score = content + popularity
        self._add_co_visits(score, inputs.signals, entries)
        score[:, self._sold_out] = -np.inf
        if self._options.exclude_seen:
            seen = inputs.interactions
            score[inputs.request.sessions.session_of[seen], inputs.rows[seen]] = -np.inf
        self.candidates += len(inputs) * (self._count - len(self._sold_out))
        session, item = top_k_rows(score, self._options.depth)
        by_co_visit = score[session, item] - content[session, item] - popularity[item]
        weights = np.column_stack((content[session, item], by_co_visit, popularity[item])).astype(np.float64)
        return self._explain(inputs, entries, Selected(session, item, weights))

    def _content(self, inputs: RankInputs) -> Scores:
        """Return the cosine of each item and each session's weighted mean text, float32 [S, items] in 1/SCORE_SCALE."""
        signals = inputs.signals
        sums = np.zeros((len(inputs), self._items.vectors.shape[1]))
        if len(signals.session):
            present, starts = np.unique(signals.session, return_index=True)
            # Whole numbers below 2^53: exact in any order.
            sums[present] = np.add.reduceat(inputs.vectors * signals.weight[:, None].astype(np.float64), starts, axis=0)
        product: Scores = to_grid(sums) @ self._items.vectors[: self._count].T
        product *= np.float32(self._options.content * SCORE_SCALE / VECTOR_SCALE**2)
        return np.rint(product, out=product)

    def _co_visit_entries(self, signals: Signals) -> _CoVisitEntries:
        co_visits = self._co_visits
        with_item = np.flatnonzero(signals.item >= 0)
        row = signals.item[with_item]
        entry, source = concat_ranges(co_visits.offsets[row], co_visits.offsets[row + 1])
        signal = with_item[source]
        return _CoVisitEntries(
            signal=signal,
            key=signals.session[signal] * self._count + co_visits.columns[entry],
            weight=signals.weight[signal] * co_visits.weights[entry].astype(np.float64),
        )

    def _add_co_visits(self, score: Scores, signals: Signals, entries: _CoVisitEntries) -> None:
        """Add the mean co-visit weight with the session's items, by their weights, to the score [S, items].

        A session's entries follow each other in its own order, so its sums are its own to the bit.
        """
        sums = segment_sum(entries.key, entries.weight, score.size)
        key = np.flatnonzero(sums)
        total = segment_sum(signals.session, np.where(signals.item >= 0, signals.weight, 0), len(score))
        mean = sums[key] / total[key // self._count]
        score.ravel()[key] += np.rint(mean * (self._options.co_visit * SCORE_SCALE)).astype(np.float32)

    def _explain(self, inputs: RankInputs, entries: _CoVisitEntries, selected: Selected) -> list[list[RankedItem]]:
        """Return the ranked items of each session, with their reasons."""
        sources = [source.name for source in _SOURCES]
        quotes = collect_quotes((), inputs.signals.text, [source.default_reason for source in _SOURCES])
        key = selected.session * self._count + selected.item
        order = np.argsort(key)
        pairs = Pairs.of(key[order], len(inputs), self._count)
        co_visited = pairs.strongest(entries.key, entries.weight, entries.signal)[np.argsort(order)]
        evidence = {
            ContentSimilarity.name: nearest_signals(inputs, selected, self._items.vectors),
            ItemToItem.name: co_visited,
        }
        picked = pick_evidence(quotes, sources, len(selected.item), evidence)
        return to_ranked_items(selected, len(inputs), self._items.ids, sources, quotes, picked)
