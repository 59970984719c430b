"""From sessions to recommendation records: features, encoding, ranking, and the JSON of each answer."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import pyarrow as pa
from threadpoolctl import threadpool_limits

from udfs.bundles.bundle import Bundle
from udfs.bundles.forgotten import ErasureList
from udfs.bundles.watcher import BundleStatus, BundleWatcher
from udfs.catalog.items import LiveItems
from udfs.contracts.rankings import RankedItem, Recommendation
from udfs.core.arrays import Scores
from udfs.encoder.cache import CachedEncoder
from udfs.encoder.encoder import EncoderStats, open_encoder
from udfs.features.compute import compute_features
from udfs.features.registry import load_modules
from udfs.ranking.learned import LearnedRanker
from udfs.ranking.model import open_ranker
from udfs.recommend.options import RecommendOptions
from udfs.sessions.columns import Sessions


class _Model:
    """A bundle in memory, ready to answer."""

    def __init__(self, bundle: Bundle, options: RecommendOptions) -> None:
        self.id = bundle.id
        self.encoder = CachedEncoder(open_encoder(bundle, options.encoder), options.encoder.cache)
        self.items = LiveItems(bundle)
        self.ranker = open_ranker(bundle, self.items, options.rank)
        self._bundle, self._rank = bundle, options.rank
        self._erased: ErasureList | None = None
        self._outgrown = False

    def erase(self, erased: ErasureList) -> None:
        """Treat these users as unknown from now on."""
        self._erased = erased
        if isinstance(self.ranker, LearnedRanker):  # the blend has no user data
            self.ranker.finder.forget(erased.at_of)

    def apply_changes(self, changes: pa.Table) -> None:
        """Rank items as changed."""
        self._outgrown |= self.items.apply(changes, self.encoder.encode)
        if self._outgrown:
            self.ranker = open_ranker(self._bundle, self.items, self._rank)
            if self._erased:
                self.erase(self._erased)
            self._outgrown = False
        self.ranker.refresh()


@dataclass
class RecommenderStats:
    """What a Recommender did since it was made; rank_us: microseconds of its ranker, the encoder's not among them."""

    batches: int = 0
    triggers: int = 0
    items: int = 0
    candidates: int = 0  #: pairs of a trigger and an item that were scored
    rank_us: int = 0


class Recommender:
    """Answers batches of triggers with the bundle that CURRENT names, and follows CURRENT as it changes."""

    def __init__(self, options: RecommendOptions) -> None:
        load_modules(options.feature_modules)
        self._max_events = options.max_events
        if options.encoder.threads:
            threadpool_limits(options.encoder.threads)
        self._model = BundleWatcher(options.bundles, lambda bundle: _Model(bundle, options), erase=_Model.erase)
        self.answered = RecommenderStats()

    @property
    def encoder_stats(self) -> EncoderStats:
        """The counters of the current bundle's encoder."""
        return self._model.used.encoder.stats

    @property
    def bundle_status(self) -> BundleStatus:
        """The bundle in use, and what was applied to it."""
        return self._model.status

    def recommend(
        self, user_id: Sequence[str], event_id: Sequence[str], time_ms: Sequence[int], sessions: Sessions
    ) -> list[str]:
        """JSON of one Recommendation a trigger.

        user_id, event_id, time_ms [S]: of the triggers; sessions: S of them, each up to and with its trigger; what is
        not a session's own is left out.
        """
        model, sessions = self._model.latest(), sessions.own().last(self._max_events)
        ranked = self._rank(model, user_id, sessions)
        features_of = compute_features(sessions, model.items.catalog)
        records = zip(user_id, event_id, time_ms, sessions.start.tolist(), features_of, ranked, strict=True)
        encode = msgspec.json.Encoder().encode
        return [
            encode(
                Recommendation(
                    recommendation_id=f"{user}/{event}",
                    user_id=user,
                    session_id=f"{user}/{start}",
                    trigger_event_id=event,
                    event_time=int(when),
                    model=model.id,
                    session=features,
                    items=items,
                )
            ).decode()
            for user, event, when, start, features, items in records
        ]

    def _rank(self, model: _Model, user_id: Sequence[str], sessions: Sessions) -> list[list[RankedItem]]:
        """The model's answers, counted and timed."""
        candidates, began, encoding = model.ranker.candidates, time.perf_counter(), 0.0

        def encode(texts: Sequence[str]) -> Scores:
            nonlocal encoding
            started = time.perf_counter()
            vectors = model.encoder.encode(texts)
            encoding += time.perf_counter() - started
            return vectors

        ranked = model.ranker.answer(user_id, sessions, encode)
        self.answered.batches += 1
        self.answered.triggers += len(ranked)
        self.answered.items += sum(map(len, ranked))
        self.answered.candidates += model.ranker.candidates - candidates
        self.answered.rank_us += round((time.perf_counter() - began - encoding) * 1e6)
        return ranked
