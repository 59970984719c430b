"""Ranks candidates with the bundle's LambdaMART trees."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnxruntime as ort

from udfs.bundles.bundle import Bundle
from udfs.bundles.forgotten import ErasureList
from udfs.candidates.content import ContentSimilarity
from udfs.candidates.generator import CandidateGenerator, Candidates
from udfs.candidates.source import sources_except
from udfs.catalog.items import LiveItems
from udfs.contracts.rankings import RankedItem
from udfs.core.arrays import Floats, Ints, Scores, position_in_group, top_k_per_group
from udfs.core.errors import ShopstreamError
from udfs.ranking.options import RankOptions
from udfs.ranking.reasons import Selected, collect_quotes, nearest_signals, pick_evidence, to_ranked_items
from udfs.ranking.rules import DIVERSITY, DIVERSITY_REASON, Cap, select_by_rules
from udfs.sessions.requests import EncodeTexts, RankInputs, RankRequest

#: Diversity chooses from this many times k candidates of a session.
RULES_OVERSAMPLE = 4

#: At most this many of a session's latest signals count. Like SIGNAL_DECAY this is no setting: trees only fit the
#: features that they were trained on, and training uses the same.
SIGNALS = 10

#: Weight of a signal relative to the next newer one.
SIGNAL_DECAY = 0.8


def shortlist_size(k: int) -> int:
    """Return how many of a session's candidates all trees score for k items, the best by the first trees."""
    return max(32, 5 * k // 2)


@dataclass(frozen=True)
class _Scored:
    """n candidates with what each source adds to their scores, by session and then best first."""

    session: Ints  #: int64 [n]
    item: Ints  #: int64 [n]
    weights: Floats  #: float64 [n, sources], whole numbers of 1/SCORE_SCALE

    def at(self, indices: Ints) -> "_Scored":
        return _Scored(self.session[indices], self.item[indices], self.weights[indices])


class LearnedRanker:
    """Ranks a bundle's items for sessions by its trees.

    Two stages: the first trees score every candidate, all trees re-score the survivors.
    The trees' leaves are whole numbers of 1/SCORE_SCALE for each source, and sums stay below 2^24, so that float32 adds
    them exactly: a score is the sum of its reasons, in whatever order (docs/decisions/004-exact-scores.md).
    """

    def __init__(self, bundle: Bundle, items: LiveItems, options: RankOptions) -> None:
        """items: the bundle's as they are now."""
        info = bundle.manifest.ranker
        if info is None:
            raise ShopstreamError(f"bundle {bundle.id} has no learned ranker: train one with `python -m export train`")
        if not (options.exclude_seen or info.recommend_seen):
            raise ShopstreamError(
                f"the ranker of bundle {bundle.id} was not trained to recommend items already seen: set "
                f"rank.exclude_seen to true, or train with --repeats{' from past sessions' if info.prior else ''}"
            )
        self.candidates = 0  #: pairs of session and item scored so far
        self._options = options
        self._items = items
        self.generator = CandidateGenerator(
            bundle,
            items,
            recommend_seen=not options.exclude_seen,
            k=options.k,
            without=sources_except(info.sources),
        )
        limits = ((items.category, options.per_category), (items.brand, options.per_brand))
        self._caps = [Cap(codes, limit) for codes, limit in limits if limit]
        self._sources = (*info.sources, DIVERSITY)
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        self._trees = ort.InferenceSession(str(bundle.ranker), settings, providers=["CPUExecutionProvider"])
        if not self._fits(info.feature_names, info.sources):
            raise ShopstreamError(f"bundle {bundle.id} has a ranker of another version: train it again")
        default_reasons = self.generator.default_reasons | {DIVERSITY: DIVERSITY_REASON}
        self._default_reasons = [default_reasons[name] for name in self._sources]
        self._tie_breaker = self.generator.feature_names.index(ContentSimilarity.feature_names[0])

    def _fits(self, feature_names: Sequence[str], sources: Sequence[str]) -> bool:
        """Return whether the trees take the features that the generator computes, and weigh its sources."""
        generator = self.generator
        if tuple(feature_names) != generator.feature_names or set(sources) != set(generator.source_of.values()):
            return False
        shapes = {value.name: value.shape[1] for value in (*self._trees.get_inputs(), *self._trees.get_outputs())}
        features = len(feature_names)
        return shapes == {"pairs": features, "shortlist": features, "first": 1, "weights": len(sources)}

    def refresh(self) -> None:
        """Rank the items as they are now. To be called after they have changed."""
        self.generator.refresh()

    def erase(self, erased: ErasureList) -> None:
        """Treat these users as unknown from now on."""
        self.generator.erase(erased)

    def rank(self, request: RankRequest, encode: EncodeTexts) -> list[list[RankedItem]]:
        """Return the best items for each session, best first."""
        inputs = RankInputs.of(request, self._items, encode, recent=SIGNALS, decay=SIGNAL_DECAY)
        ranked: list[list[RankedItem]] = []
        for chunk in inputs.chunks(self.generator.max_sessions):
            candidates = self.generator.generate(self.generator.context(chunk))
            self.candidates += len(candidates.item)
            ranked += self._explain(chunk, candidates, self._select(candidates))
        return ranked

    def _select(self, candidates: Candidates) -> Selected:
        """Choose what is recommended. Weights: of each source, and of diversity."""
        options = self._options
        if not len(candidates.item):
            return Selected(candidates.session, candidates.item, np.zeros((0, len(self._sources))))
        every = bool(options.fresh or self._caps)  # caps may leave nothing of the best ones
        scored = self._score(candidates, len(candidates.item)) if every else self._score_shortlist(candidates)
        penalty = np.zeros(len(scored.item))
        if every or options.diversity:
            chosen, less = self._choose(scored, len(candidates.context))
            penalty[chosen] = less
            if options.explore:
                chosen = _with_next_best(scored.session, chosen, options.depth)
            scored, penalty = scored.at(chosen), penalty[chosen]
        return Selected(scored.session, scored.item, np.column_stack((scored.weights, penalty)))

    def _choose(self, scored: _Scored, sessions: int) -> tuple[Ints, Floats]:
        """Return the indices of up to k items of each session by the rules, and each one's diversity penalty."""
        options = self._options
        choose = partial(
            select_by_rules,
            scored.session,
            scored.item,
            scored.weights.sum(axis=1),
            k=options.k,
            diversity=options.diversity,
            vectors=self._items.vectors,
        )
        if not options.fresh:
            return choose(caps=self._caps)
        # Places are kept for new items by limiting the others; where other rules leave too few new ones, by less.
        known = self._items.popularity > 0
        new = np.bincount(scored.session[~known[scored.item]], minlength=sessions)
        limit = options.k - np.minimum(new, min(options.fresh, options.k))
        while True:
            chosen, penalty = choose(caps=[*self._caps, Cap(np.where(known, 0, -1), limit)])
            missing = options.k - np.bincount(scored.session[chosen], minlength=sessions)
            if not (missing * (limit < options.k)).any():
                return chosen, penalty
            limit = np.minimum(limit + missing, options.k)

    def _score_shortlist(self, candidates: Candidates) -> _Scored:
        """Score with all trees what the first ones leave, and return as many as there are to choose from."""
        options = self._options
        depth = options.k * RULES_OVERSAMPLE if options.diversity else options.depth
        by_first_trees = self._run("first", pairs=candidates.features)[:, 0]
        size = max(shortlist_size(options.k), depth)
        return self._score(candidates.at(top_k_per_group(candidates.session, by_first_trees, size)), depth)

    def _score(self, candidates: Candidates, depth: int) -> _Scored:
        """Score candidates with all trees, and return the best `depth` of each session.

        Trees know steps only: of equal scores, the title that is nearer to the latest text comes first.
        """
        weights = self._run("weights", shortlist=candidates.features).astype(np.float64)
        similarity = candidates.features[:, self._tie_breaker]
        order = np.lexsort((candidates.item, -similarity, -weights.sum(axis=1), candidates.session))
        order = order[position_in_group(candidates.session[order]) < depth]
        return _Scored(candidates.session[order], candidates.item[order], weights[order])

    def _run(self, output: str, **features: Scores) -> Scores:
        """Return one output for one of the inputs, float32 [n, outputs]; the other input is left empty."""
        nothing = np.empty((0, len(self.generator.feature_names)), np.float32)
        result: Scores = self._trees.run([output], {"pairs": nothing, "shortlist": nothing} | features)[0]
        return result

    def _explain(self, inputs: RankInputs, candidates: Candidates, selected: Selected) -> list[list[RankedItem]]:
        """Return the ranked items of each session, with their reasons."""
        titles = [self._items.titles[row] for row in candidates.context.item.tolist()]
        quotes = collect_quotes(titles, inputs.signals.text, self._default_reasons)
        evidence = self.generator.evidence(candidates, selected.session, selected.item)
        nearest = nearest_signals(inputs, selected, self._items.vectors)
        evidence[ContentSimilarity.name] = np.where(nearest >= 0, nearest + quotes.items, -1)
        picked = pick_evidence(quotes, self._sources, len(selected.item), evidence)
        return to_ranked_items(selected, len(inputs), self._items.ids, self._sources, quotes, picked)


def _with_next_best(session: Ints, chosen: Ints, depth: int) -> Ints:
    """Return the chosen indices of each session, then its best others, `depth` in all; int64 [n].

    session: int64 [n], of candidates by session and then best first. chosen: by session and then in rank order.
    """
    both = np.concatenate((chosen, np.setdiff1d(np.arange(len(session)), chosen)))
    in_order = both[np.argsort(session[both], kind="stable")]
    return np.asarray(in_order[position_in_group(session[in_order]) < depth])
