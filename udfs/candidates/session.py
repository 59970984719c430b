"""Items of the session itself as candidates."""

from collections.abc import Sequence

import numpy as np

from udfs.candidates.pairs import Feature, Pairs
from udfs.candidates.source import UNKNOWN_AGE, CandidateSource, SessionContext, SourceInputs
from udfs.core.arrays import Ints, group_starts


class SessionState(CandidateSource[SessionContext]):
    """What the session itself has seen already. It generates these items if seen ones may be recommended."""

    name = "session"
    default_reason = "where this session stands"
    feature_names = ("seen", "seen_age", "session_events", "last_popularity")
    order = 90

    def __init__(self, inputs: SourceInputs) -> None:
        self._popularity = np.log1p(inputs.items.popularity)
        self._recommend_seen = inputs.recommend_seen

    def prepare(self, context: SessionContext) -> SessionContext:
        return context

    def generate(self, context: SessionContext) -> Ints:
        return context.seen if self._recommend_seen else np.empty(0, dtype=np.int64)

    def features(self, context: SessionContext, pairs: Pairs) -> Sequence[Feature]:
        times, age = pairs.values_of(context.seen, (context.seen_times, context.seen_age))
        is_newest = group_starts(context.session)
        last_popularity = np.zeros(len(context))
        last_popularity[context.session[is_newest]] = self._popularity[context.item[is_newest]]
        age = np.where(times > 0, age, UNKNOWN_AGE)
        return times, age, context.length[pairs.session], last_popularity[pairs.session]
