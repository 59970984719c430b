"""Ranking by what past sessions taught: candidates of several sources, put in order by the bundle's trees."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import onnxruntime as ort

from udfs.bundles.bundle import Bundle
from udfs.candidates.generator import CandidateGenerator, Candidates
from udfs.candidates.source import SessionContext
from udfs.catalog.items import LiveItems
from udfs.contracts.rankings import RankedItem, Reason
from udfs.core.arrays import Floats, Ints, Scores, group_starts, position_in_group, top_k_per_group
from udfs.core.errors import ShopstreamError
from udfs.core.exact import SCORE_SCALE, VECTOR_SCALE, to_grid
from udfs.ranking.options import RankOptions
from udfs.ranking.reasons import MAX_QUOTE_CHARS, SAYINGS
from udfs.sessions.columns import Sessions
from udfs.sessions.signals import Signals, item_rows, signals_of

#: Candidates of a session that rules may choose from, times k.
RULES_OVERSAMPLE = 4


#: At most this many of a session's latest signals count, each with this weight relative to the next newer one. These
#: are no settings: trees only fit the features that they were trained on, and training uses the same two.
SIGNALS = 10
SIGNAL_DECAY = 0.8


def shortlist(k: int) -> int:
    """Candidates of a session that all trees look at, the best by the first of them, for k items."""
    return max(32, 5 * k // 2)


class LearnedRanker:
    """Ranks a bundle's items for sessions by its learned ranker.

    The trees' leaves are whole numbers of 1/MICRO for each source, and sums stay below 2^24, so that float32 adds them
    exactly: a score is the sum of its reasons, whatever the order (docs/decisions/004-exact-scores.md).
    The first trees see all candidates, and all trees those that the first ones leave.
    """

    def __init__(self, bundle: Bundle, items: LiveItems, options: RankOptions) -> None:
        """items: the bundle's as they are now; `refresh` is to be called after they have changed."""
        info = bundle.manifest.ranker
        if info is None:
            raise ShopstreamError(f"bundle {bundle.id} has no learned ranker: train one with `python -m export train`")
        if not (options.exclude_seen or info.recommend_seen):
            raise ShopstreamError(
                f"the ranker of bundle {bundle.id} has not learned to recommend again what a session has met: set "
                "rank.exclude_seen to true, or train with --repeats"
            )
        self._options, self._items = options, items
        self.candidates = 0  #: pairs of session and item scored so far
        groups = {"category": items.category, "brand": items.brand}
        self._groups = {name: codes for name, codes in groups.items() if _limit(options, name)}
        self.finder = finder = CandidateGenerator(bundle, items, repeats=not options.exclude_seen, k=options.k)
        self.refresh = finder.refresh
        self._sources = info.sources
        self._likeness = finder.columns.index("content_last")
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        self._trees = ort.InferenceSession(str(bundle.ranker), settings, providers=["CPUExecutionProvider"])
        shapes = {each.name: each.shape[1] for each in (*self._trees.get_inputs(), *self._trees.get_outputs())}
        columns, sources = len(finder.columns), len(info.sources)
        fits = info.columns == finder.columns and set(info.sources) == set(finder.source_of.values())
        if not fits or shapes != {"pairs": columns, "shortlist": columns, "first": 1, "weights": sources}:
            raise ShopstreamError(f"bundle {bundle.id} has a ranker of another version: train it again")

    def answer(
        self, user_id: Sequence[str], sessions: Sessions, encode: Callable[[Sequence[str]], Scores]
    ) -> list[list[RankedItem]]:
        """The best k items of each session, best first. user_id: [S]; encode: texts to float32 [texts, dimensions]."""
        finder, items = self.finder, self._items
        rows = item_rows(sessions, items.row_of)
        signals = signals_of(sessions, rows, items.titles, SIGNALS, SIGNAL_DECAY)
        grid = to_grid(encode(signals.text))
        users, ranked = list(user_id), list[list[RankedItem]]()
        for first in range(0, len(sessions), finder.most_sessions):
            last = min(first + finder.most_sessions, len(sessions))
            part = slice(*np.searchsorted(signals.session, [first, last]))
            events = slice(*sessions.offsets[[first, last]])
            local = Signals(signals.session[part] - first, signals.weight[part], signals.item[part], signals.text[part])
            query = finder.query(users[first:last], sessions.part(first, last), rows[events], local, grid[part])
            found = finder.find(query)
            self.candidates += len(found.item)
            chosen = self._choose(len(query), found)
            ranked += self._explained(query, local, grid[part], *chosen)
        return ranked

    def _choose(self, count: int, candidates: Candidates) -> tuple[Ints, Ints, Floats]:
        """Session, item and each source's weight (whole numbers, [R, sources + 1]) of what is recommended, in order."""
        options = self._options
        if not len(candidates.item):
            return candidates.session, candidates.item, np.zeros((0, len(self._sources) + 1))
        if not self._groups:  # a cap may leave nothing of the best ones
            fewest = options.k * RULES_OVERSAMPLE if options.diversity else options.k
            first = self._run("first", pairs=candidates.columns)[:, 0]
            candidates = candidates.at(top_k_per_group(candidates.session, first, max(shortlist(options.k), fewest)))
        weights = self._run("weights", shortlist=candidates.columns).astype(np.float64)
        score = weights.sum(axis=1)
        # Trees know steps only: of equal scores the title that is nearer to the latest text comes first.
        order = np.lexsort((candidates.item, -candidates.columns[:, self._likeness], -score, candidates.session))
        if not self._groups:
            order = order[position_in_group(candidates.session[order]) < fewest]
        penalty = np.zeros(len(order))
        if options.diversity or self._groups:
            order, penalty = self._by_rules(count, candidates, score, order)
        return candidates.session[order], candidates.item[order], np.column_stack((weights[order], penalty))

    def _run(self, output: str, **columns: Scores) -> Scores:
        """One output for one of the inputs, float32 [n, columns]; nothing is asked of the other."""
        nothing = np.empty((0, len(self.finder.columns)), np.float32)
        result: Scores = self._trees.run([output], {"pairs": nothing, "shortlist": nothing} | columns)[0]
        return result

    def _by_rules(self, count: int, candidates: Candidates, score: Floats, order: Ints) -> tuple[Ints, Floats]:
        """Maximal marginal relevance (Carbonell and Goldstein 1998) under the caps, one place in the ranking at a time.

        order: int64 [n], the candidates to choose from, by session and then the best first. Gives those chosen, by
        session and place, and what likeness to the items before took from each one's score.
        """
        options, session = self._options, candidates.session[order]
        item, value = candidates.item[order], score[order]
        price = np.zeros(len(order))
        taken = np.zeros(len(order), dtype=bool)
        rounds = []
        caps = [(codes[item], _limit(options, name)) for name, codes in self._groups.items()]
        vectors = self._items.vectors
        counts = [np.zeros((count, codes.max(initial=0) + 1), dtype=np.int64) for codes, _ in caps]
        for _ in range(options.k):
            open_ = ~taken
            for (codes, limit), used in zip(caps, counts, strict=True):
                open_ &= (codes < 0) | (used[session, codes] < limit)
            left = np.flatnonzero(open_)
            if not len(left):
                break
            best = left[np.lexsort((left, price[left] - value[left], session[left]))]
            best = best[group_starts(session[best])]
            taken[best] = True
            rounds.append(best)
            for (codes, _), used in zip(caps, counts, strict=True):
                known = best[codes[best] >= 0]
                used[session[known], codes[known]] += 1
            if options.diversity:
                newest = np.full(count, -1)
                newest[session[best]] = item[best]
                like = np.einsum("nd,nd->n", vectors[item], vectors[newest[session]]) / VECTOR_SCALE**2
                # A session whose ranking is complete has no newest item; its prices matter no more.
                cost = np.rint(np.maximum(like, 0) * (options.diversity * SCORE_SCALE))
                price = np.where(taken, price, np.maximum(price, cost))
        chosen = np.concatenate(rounds) if rounds else np.empty(0, dtype=np.int64)
        nth = np.repeat(np.arange(len(rounds)), [len(each) for each in rounds])
        chosen = chosen[np.lexsort((nth, session[chosen]))]
        return order[chosen], -price[chosen]

    def _explained(
        self, query: SessionContext, signals: Signals, grid: Scores, session: Ints, item: Ints, weights: Floats
    ) -> list[list[RankedItem]]:
        """Ranked items with a reason for each source that weighs in, the heaviest first."""
        names = (*self._sources, "diversity")
        # All that reasons may quote: the titles of the query's items, the signals' texts, what sources say themselves.
        quotes = [self._items.titles[row][:MAX_QUOTE_CHARS] for row in query.item.tolist()]
        quotes += [text[:MAX_QUOTE_CHARS] for text in signals.text]
        because = np.tile(np.arange(len(names)) + len(quotes), (len(item), 1))
        quotes += [SAYINGS[name] for name in names]
        for name, place in self.finder.because(query, session, item).items():
            because[:, names.index(name)] = np.where(place >= 0, place, because[:, names.index(name)])
        bounds = np.searchsorted(signals.session, np.arange(len(query) + 1)).tolist()
        cuts = np.searchsorted(session, np.arange(len(query) + 1)).tolist()
        by_content, weight = because[:, names.index("content")], signals.weight.astype(np.float64)
        for (low, high), (first, last) in zip(pairwise(bounds), pairwise(cuts), strict=True):
            if low < high and first < last:
                product = self._items.vectors[item[first:last]] @ grid[low:high].T
                nearest = np.argmax(product * weight[low:high], axis=1)
                by_content[first:last] = nearest + (len(query.item) + low)

        heaviest = np.argsort(-weights, axis=1, kind="stable")
        row, place = np.nonzero(np.take_along_axis(weights, heaviest, axis=1))
        source = heaviest[row, place]
        said = zip(source.tolist(), weights[row, source].tolist(), because[row, source].tolist(), strict=True)
        reasons = [Reason(names[source], weight / SCORE_SCALE, quotes[quote]) for source, weight, quote in said]
        parts = np.searchsorted(row, np.arange(len(item) + 1)).tolist()
        ids, nothing = self._items.ids, [Reason("popularity", 0.0, SAYINGS["popularity"])]
        places = zip(
            item.tolist(),
            position_in_group(session).tolist(),
            weights.sum(axis=1).tolist(),
            pairwise(parts),
            strict=True,
        )
        ranked = [
            RankedItem(ids[row], nth + 1, score / SCORE_SCALE, reasons[first:last] or nothing)
            for row, nth, score, (first, last) in places
        ]
        return [ranked[first:last] for first, last in pairwise(cuts)]


def _limit(options: RankOptions, group: str) -> int:
    return options.per_category if group == "category" else options.per_brand
