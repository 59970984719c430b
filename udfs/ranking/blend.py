"""Candidates scored by content, co-visits and popularity, the best k chosen, each with its reasons."""

from collections.abc import Callable, Sequence

import numpy as np

from udfs.bundles.bundle import Bundle
from udfs.catalog.items import LiveItems
from udfs.contracts.clickstream import INTERACTIONS
from udfs.contracts.rankings import RankedItem, Reason
from udfs.core.arrays import Floats, Ints, Scores, top_k_rows
from udfs.core.exact import SCORE_BUDGET, SCORE_SCALE, VECTOR_SCALE, to_grid
from udfs.ranking.options import RankOptions
from udfs.ranking.reasons import MAX_QUOTE_CHARS
from udfs.sessions.columns import Sessions
from udfs.sessions.signals import Signals, item_rows, signals_of


class BlendRanker:
    """Ranks a bundle's items for sessions by a blend of content, co-visits and popularity, which learned nothing."""

    def __init__(self, bundle: Bundle, items: "LiveItems", options: RankOptions) -> None:
        """items: the bundle's as they are now; `refresh` is to be called after they have changed."""
        self._options, self._items = options, items
        self.candidates = 0  #: pairs of session and item scored so far
        self._co_visits = bundle.co_visits().with_rows(items.capacity)
        popular = np.log1p(items.popularity)
        popular /= max(popular.max(initial=0.0), 1e-12)
        self._popular = np.rint(popular * (options.popularity * SCORE_SCALE)).astype(np.float32)
        self.refresh()

    def refresh(self) -> None:
        """Rank the items as they are now."""
        self._count = len(self._items)
        self._popularity = self._popular[: self._count]
        self._sold_out = np.flatnonzero(~self._items.in_stock[: self._count])

    def answer(
        self,
        user_id: Sequence[str],  # noqa: ARG002  # it ranks for all alike
        sessions: Sessions,
        encode: Callable[[Sequence[str]], Scores],
    ) -> list[list[RankedItem]]:
        """The best k items of each session, best first. user_id: [S]; encode: texts to float32 [texts, dimensions]."""
        rows = item_rows(sessions, self._items.row_of)
        signals = signals_of(sessions, rows, self._items.titles, self._options.recent, self._options.decay)
        seen = np.flatnonzero((rows >= 0) & sessions.is_type(*INTERACTIONS))
        return self.rank(len(sessions), signals, encode(signals.text), (sessions.session_of[seen], rows[seen]))

    def rank(self, count: int, signals: Signals, vectors: Scores, seen: tuple[Ints, Ints]) -> list[list[RankedItem]]:
        """The best k items of each of `count` sessions, best first; ties go to the earlier item.

        vectors: float32 [N, d], of the signals' texts. seen: session and item row, int64 [M] each, not to be
        recommended again if the options say so.
        """
        step = max(1, SCORE_BUDGET // max(1, self._count))
        grid = to_grid(vectors)
        ranked: list[list[RankedItem]] = []
        for first in range(0, count, step):
            last = min(first + step, count)
            part = slice(*np.searchsorted(signals.session, [first, last]))
            local = Signals(signals.session[part] - first, signals.weight[part], signals.item[part], signals.text[part])
            inside = (seen[0] >= first) & (seen[0] < last)
            ranked += self._rank(last - first, local, grid[part], (seen[0][inside] - first, seen[1][inside]))
        return ranked

    def _rank(self, count: int, signals: Signals, grid: Scores, seen: tuple[Ints, Ints]) -> list[list[RankedItem]]:
        options = self._options
        content = self._content(count, signals, grid)
        entries = self._co_visit_entries(signals)
        place, co_visit = self._co_visit(count, signals, entries)
        score = content + self._popularity
        score.ravel()[place] += co_visit
        score[:, self._sold_out] = -np.inf
        if options.exclude_seen:
            score[seen] = -np.inf
        self.candidates += count * (self._count - len(self._sold_out))
        session, item = top_k_rows(score, options.k)
        by_visit = score[session, item] - content[session, item] - self._popularity[item]
        because = self._strongest_co_visit(signals, entries, session, item)
        bounds = np.searchsorted(signals.session, np.arange(count + 1))
        ranked: list[list[RankedItem]] = [[] for _ in range(count)]
        parts = zip(
            session.tolist(),
            item.tolist(),
            content[session, item].tolist(),
            by_visit.tolist(),
            self._popularity[item].tolist(),
            because.tolist(),
            self._strongest_content(signals, grid, bounds, session, item).tolist(),
            strict=True,
        )
        for row, column, by_content, by_co_visit, by_popularity, visited, text in parts:
            reasons = []
            if by_content:
                reasons.append(Reason("content", by_content / SCORE_SCALE, signals.text[text][:MAX_QUOTE_CHARS]))
            if by_co_visit:
                reasons.append(Reason("co_visit", by_co_visit / SCORE_SCALE, signals.text[visited][:MAX_QUOTE_CHARS]))
            if by_popularity or not reasons:
                reasons.append(Reason("popularity", by_popularity / SCORE_SCALE, "popular in this shop"))
            reasons.sort(key=lambda reason: -reason.weight)
            total = (by_content + by_co_visit + by_popularity) / SCORE_SCALE
            ranked[row].append(RankedItem(self._items.ids[column], len(ranked[row]) + 1, total, reasons))
        return ranked

    def _content(self, count: int, signals: Signals, grid: Scores) -> Scores:
        """float32 [count, items], in 1/MICRO: cosine of item and session, the weighted mean of its texts."""
        sessions = np.zeros((count, self._items.vectors.shape[1]))
        if len(signals.session):
            present, starts = np.unique(signals.session, return_index=True)
            # Whole numbers below 2^53: exact in any order.
            sessions[present] = np.add.reduceat(grid * signals.weight[:, None].astype(np.float64), starts, axis=0)
        product: Scores = to_grid(sessions) @ self._items.vectors[: self._count].T
        product *= np.float32(self._options.content * SCORE_SCALE / VECTOR_SCALE**2)
        return np.rint(product, out=product)

    def _co_visit_entries(self, signals: Signals) -> tuple[Ints, Ints, Floats]:
        """The co-visit rows of the signals' items, one after the other: signal, item and weight of each entry."""
        co_visits = self._co_visits
        source = np.flatnonzero(signals.item >= 0)
        first = co_visits.offsets[signals.item[source]]
        lengths = co_visits.offsets[signals.item[source] + 1] - first
        signal = np.repeat(source, lengths)
        place = np.arange(len(signal)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + np.repeat(first, lengths)
        weight = signals.weight[signal] * co_visits.weights[place].astype(np.float64)
        return signal, co_visits.columns[place].astype(np.int64), weight

    def _co_visit(self, count: int, signals: Signals, entries: tuple[Ints, Ints, Floats]) -> tuple[Ints, Scores]:
        """Where in a flat [count, items] co-visits add to the score, each place once, and how much, in 1/MICRO.

        It is the mean co-visit weight with the session's items, by their weights. bincount adds one entry after the
        other, and a session's entries follow each other in its own order: its sums are its own.
        """
        signal, item, weight = entries
        size = self._count
        place = signals.session[signal] * size + item
        summed = np.bincount(place, weight, minlength=count * size)
        place = np.flatnonzero(summed)
        total = np.bincount(signals.session, np.where(signals.item >= 0, signals.weight, 0), minlength=count)
        mean = summed[place] / total[place // size]
        return place, np.rint(mean * (self._options.co_visit * SCORE_SCALE)).astype(np.float32)

    def _strongest_co_visit(
        self, signals: Signals, entries: tuple[Ints, Ints, Floats], session: Ints, item: Ints
    ) -> Ints:
        """int64 [R]: of each ranked item the signal whose item is co-visited most with it, the newest on a tie."""
        signal, column, weight = entries
        size = max(1, self._count)
        keys = signals.session[signal] * size + column
        wanted, back = np.unique(session * size + item, return_inverse=True)
        place = np.searchsorted(wanted, keys)
        hit = np.flatnonzero(wanted[np.minimum(place, len(wanted) - 1)] == keys) if len(wanted) else np.empty(0, int)
        order = hit[np.lexsort((signal[hit], weight[hit]))]
        strongest = np.zeros(len(wanted), dtype=np.int64)
        strongest[place[order]] = signal[order]  # the last write wins: the heaviest
        return strongest[back]

    def _strongest_content(self, signals: Signals, grid: Scores, bounds: Ints, session: Ints, item: Ints) -> Ints:
        """int64 [R]: of each ranked item the signal whose text is nearest to it by weight."""
        strongest = np.zeros(len(item), dtype=np.int64)
        cuts = np.searchsorted(session, np.arange(len(bounds)))
        for row in range(len(bounds) - 1):
            low, high = bounds[row], bounds[row + 1]
            if low < high:
                place = slice(cuts[row], cuts[row + 1])
                product = self._items.vectors[item[place]] @ grid[low:high].T
                strongest[place] = low + np.argmax(product * signals.weight[low:high].astype(np.float64), axis=1)
        return strongest
