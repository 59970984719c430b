"""From sessions to recommendation records: features, encoding, ranking, and the JSON of each answer."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from threadpoolctl import threadpool_limits

from udfs.bundle import CURRENT, Bundle, current_id, open_bundle
from udfs.contracts import Recommendation
from udfs.encoder import CachedEncoder, Encoder, Stats
from udfs.features import catalogue_of, compute_features, load_modules
from udfs.learned import open_ranker
from udfs.ranking import RankOptions
from udfs.runtimes import EncoderOptions
from udfs.sessions import Sessions

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds between two looks at CURRENT.
CURRENT_CHECK_S = 1.0
#: Seconds until a bundle that failed is tried again: it may have been half copied.
RETRY_S = 10.0


@dataclass(frozen=True)
class RecommendOptions:
    """All that the recommending function needs; plain data, so that it travels to the workers."""

    bundles: Path
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    rank: RankOptions = field(default_factory=RankOptions)
    feature_modules: tuple[str, ...] = ()  #: modules with features of the user's own


class _Model:
    """A bundle in memory, ready to answer."""

    def __init__(self, bundle: Bundle, options: RecommendOptions) -> None:
        self.id = bundle.id
        self.encoder = CachedEncoder(Encoder(bundle, options.encoder), options.encoder.cache)
        self.ranker = open_ranker(bundle, options.rank)
        self.catalogue = catalogue_of(bundle)


class Following(Generic[T]):
    """What is made of the bundle that CURRENT names, and made anew as CURRENT changes.

    A new bundle that cannot be used is logged, and tried again later; the one in use stays.
    """

    def __init__(self, folder: Path, make: Callable[[Bundle], T]) -> None:
        self._folder, self._make = folder, make
        self._use(open_bundle(folder))
        self._next_check = time.monotonic() + CURRENT_CHECK_S
        self._complaint = ""

    def latest(self) -> T:
        """What there is, after a look at CURRENT if one is due."""
        now = time.monotonic()
        if now < self._next_check:
            return self.used
        self._next_check = now + CURRENT_CHECK_S
        try:
            wanted = current_id(self._folder)
            if wanted != self._id:
                self._use(open_bundle(self._folder, wanted))
                log.info("now using bundle %s", wanted)
            self._complaint = ""
        except Exception as error:  # whatever is wrong with a new bundle, the old one goes on
            self._next_check = now + RETRY_S
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.error("%s cannot be followed, staying with bundle %s: %s", self._folder / CURRENT, self._id, error)
        return self.used

    def _use(self, bundle: Bundle) -> None:
        self.used, self._id = self._make(bundle), bundle.id


class Recommender:
    """Answers batches of triggers with the bundle that CURRENT names, and follows CURRENT as it changes."""

    def __init__(self, options: RecommendOptions) -> None:
        load_modules(options.feature_modules)
        if options.encoder.threads:
            threadpool_limits(options.encoder.threads)
        self._model = Following(options.bundles, lambda bundle: _Model(bundle, options))

    @property
    def encoder_stats(self) -> Stats:
        """What the encoder of the bundle in use did."""
        return self._model.used.encoder.stats

    def recommend(
        self, user_id: Sequence[str], event_id: Sequence[str], time_ms: Sequence[int], sessions: Sessions
    ) -> list[str]:
        """JSON of one Recommendation a trigger.

        user_id, event_id, time_ms [S]: of the triggers; sessions: S of them, each up to and with its trigger.
        """
        model = self._model.latest()
        ranked = model.ranker.answer(user_id, sessions, model.encoder.encode)
        features_of = compute_features(sessions, model.catalogue)
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


def recommend_columns(recommender: Recommender, columns: Sequence[Any]) -> list[str]:
    """Recommendations for columns in the order of RECOMMEND_COLUMNS, as the job hands them over."""
    user_id, event_id, time_ms, *rest = columns
    return recommender.recommend(user_id, event_id, time_ms, Sessions.from_arrays(*rest))


#: What the recommending function takes, in order, and the SQL types; arrays are a session's events, oldest first.
RECOMMEND_COLUMNS: dict[str, str] = {
    "user_id": "STRING",
    "event_id": "STRING",
    "event_time": "BIGINT",
    "session_start": "BIGINT",
    "session_end": "BIGINT",
    "session_events": "BIGINT",
    "event_times": "ARRAY<BIGINT>",
    "event_types": "ARRAY<STRING>",
    "item_ids": "ARRAY<STRING>",
    "queries": "ARRAY<STRING>",
    "prices": "ARRAY<DOUBLE>",
    "quantities": "ARRAY<BIGINT>",
    "ratings": "ARRAY<DOUBLE>",
    "dwell_times": "ARRAY<BIGINT>",
    "event_ids": "ARRAY<STRING>",
    "devices": "ARRAY<STRING>",
    "timezones": "ARRAY<STRING>",
    "returnings": "ARRAY<STRING>",
    "locales": "ARRAY<STRING>",
}
