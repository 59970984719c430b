"""Turns a batch of sessions into recommendation records."""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import pyarrow as pa
from msgspec import UNSET
from threadpoolctl import threadpool_limits

from udfs.bundles.bundle import Bundle
from udfs.bundles.forgotten import ErasureList
from udfs.bundles.watcher import BundleStatus, BundleWatcher
from udfs.catalog.items import LiveItems
from udfs.contracts.rankings import RankedItem, Recommendation, answer_id, session_id
from udfs.core.arrays import Bools, Scores
from udfs.encoder.cache import CachedEncoder
from udfs.encoder.encoder import EncoderStats, open_encoder
from udfs.features.compute import compute_features
from udfs.features.registry import load_modules
from udfs.ranking.exploration import explore
from udfs.ranking.model import open_ranker
from udfs.ranking.ranker import RankRequest
from udfs.recommend.options import RecommendOptions
from udfs.sessions.columns import Sessions

log = logging.getLogger(__name__)


class _Model:
    """A bundle in memory, ready to answer."""

    def __init__(self, bundle: Bundle, options: RecommendOptions) -> None:
        self.id = bundle.id
        self.encoder = CachedEncoder(open_encoder(bundle, options.encoder), options.encoder.cache)
        self.items = LiveItems(bundle)
        self.ranker = open_ranker(bundle, self.items, options.rank)
        self._bundle = bundle
        self._rank_options = options.rank
        self._erased: ErasureList | None = None
        self._outgrown = False  # the ranker's arrays are shorter than the items'

    def erase(self, erased: ErasureList) -> None:
        """Treat these users as unknown from now on."""
        self._erased = erased
        self.ranker.erase(erased)

    def apply_changes(self, changes: pa.Table) -> None:
        """Rank items as changed."""
        self._outgrown |= self.items.apply(changes, self.encoder.encode)
        if self._outgrown:
            self.ranker = open_ranker(self._bundle, self.items, self._rank_options)
            if self._erased is not None:
                self.ranker.erase(self._erased)
            self._outgrown = False
        self.ranker.refresh()


@dataclass
class RecommenderStats:
    """Counters since start."""

    batches: int = 0
    triggers: int = 0
    items: int = 0
    cut: int = 0  #: answers that were too large for their topic
    candidates: int = 0  #: pairs of a trigger and an item that were scored
    clock_ahead: int = 0  #: triggers from a clock that is ahead
    id_reused: int = 0  #: triggers whose event_id was another event's before
    rank_us: int = 0  #: microseconds of ranking, without encoding


class Recommender:
    """Answers batches of triggers with the bundle that CURRENT names, and follows CURRENT as it changes."""

    def __init__(self, options: RecommendOptions) -> None:
        load_modules(options.feature_modules)
        self._max_events, self._max_bytes = options.max_events, options.max_bytes
        self._rank_options = options.rank
        self._encode = msgspec.json.Encoder().encode
        if options.encoder.threads:
            threadpool_limits(options.encoder.threads)
        self._model = BundleWatcher(options.bundles, lambda bundle: _Model(bundle, options), erase=_Model.erase)
        self.stats = RecommenderStats()

    @property
    def encoder_stats(self) -> EncoderStats:
        """The counters of the current bundle's encoder."""
        return self._model.used.encoder.stats

    @property
    def bundle_status(self) -> BundleStatus:
        """The bundle in use, and what was applied to it."""
        return self._model.status

    def recommend(
        self,
        user_id: Sequence[str],
        event_id: Sequence[str],
        time_ms: Sequence[int],
        sessions: Sessions,
        is_ahead: Iterable[bool] | None = None,
        content: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Return one JSON `Recommendation` per trigger. Events outside the session's time span are ignored.

        user_id, event_id, time_ms: [S], of the triggers. sessions: S of them, each up to and including its trigger.
        is_ahead: [S], whether a trigger's clock is ahead. content: [S], hashes of triggers whose id was used before.
        """
        ahead = [False] * len(sessions) if is_ahead is None else list(map(bool, is_ahead))
        content = [None] * len(sessions) if content is None else content
        self.stats.clock_ahead += sum(ahead)
        self.stats.id_reused += sum(each is not None for each in content)
        model = self._model.latest()
        sessions = sessions.within_bounds().tail(self._max_events)
        ranked = self._rank(model, RankRequest(list(user_id), sessions))
        features_of = compute_features(sessions, model.items.catalog)
        starts = sessions.start.tolist()
        answer_ids = [
            answer_id("recommend", user, event, hashed)
            for user, event, hashed in zip(user_id, event_id, content, strict=True)
        ]
        shown = [explore(items, answer, self._rank_options) for items, answer in zip(ranked, answer_ids, strict=True)]
        self.stats.items += sum(len(items) for items, _ in shown)
        records = zip(answer_ids, user_id, event_id, time_ms, starts, features_of, shown, ahead, strict=True)
        return [
            self._encoded(
                Recommendation(
                    recommendation_id=answer,
                    user_id=user,
                    session_id=session_id(user, start),
                    trigger_event_id=event,
                    event_time=int(when),
                    model=model.id,
                    session=features,
                    items=items,
                    clock_ahead=True if wrong_clock else UNSET,
                    explored=True if explored else UNSET,
                )
            )
            for answer, user, event, when, start, features, (items, explored), wrong_clock in records
        ]

    def _encoded(self, answer: Recommendation) -> str:
        """Return the answer's JSON. One that is too large loses its last items, then its session's features.

        Its items have no propensity.
        """
        record = self._encode(answer)
        if self._max_bytes is not None and len(record) > self._max_bytes:
            size, items = len(record), len(answer.items)
            for item in answer.items:
                item.propensity = UNSET  # whether an answer is cut depends on its draw
            while len(record) > self._max_bytes and (answer.items or answer.session):
                if answer.items:
                    answer.items = answer.items[: len(answer.items) // 2]
                else:
                    answer.session = {}
                record = self._encode(answer)
            self.stats.cut += 1
            log.warning(
                "an answer of %d bytes is cut to %d: %d of its %d items, and %d features",
                *(size, len(record), len(answer.items), items, len(answer.session)),
            )
        return record.decode()

    def _rank(self, model: _Model, request: RankRequest) -> list[list[RankedItem]]:
        """Return the model's answers, counted and timed."""
        encoding_s = 0.0

        def encode(texts: Sequence[str], queries: Bools) -> Scores:
            nonlocal encoding_s
            started = time.perf_counter()
            vectors = model.encoder.encode(texts, queries)
            encoding_s += time.perf_counter() - started
            return vectors

        candidates_before = model.ranker.candidates
        began = time.perf_counter()
        ranked = model.ranker.rank(request, encode)
        self.stats.rank_us += round((time.perf_counter() - began - encoding_s) * 1e6)
        self.stats.batches += 1
        self.stats.triggers += len(ranked)
        self.stats.candidates += model.ranker.candidates - candidates_before
        return ranked
