"""Items of the session itself as candidates."""

from collections.abc import Sequence

import numpy as np

from udfs.candidates.source import UNKNOWN, CandidateSource, Column, Pairs, SessionContext
from udfs.core.arrays import Floats, Ints, group_starts


class SessionState(CandidateSource):
    """What the session itself has met already."""

    columns = ("seen", "seen_age", "session_events", "last_popularity")

    def __init__(self, popularity: Floats, *, propose: bool) -> None:
        self._popularity, self._propose = np.log1p(popularity), propose

    def load(self, query: SessionContext) -> None:
        self._query = query
        newest = group_starts(query.session)
        self._last = np.zeros(len(query))
        self._last[query.session[newest]] = self._popularity[query.item[newest]]

    def propose(self) -> Ints:
        return self._query.seen if self._propose else np.empty(0, dtype=np.int64)

    def describe(self, pairs: Pairs) -> Sequence[Column]:
        query, session = self._query, pairs.session
        times, age = pairs.found(query.seen, [query.seen_times, query.seen_age])
        return times, np.where(times > 0, age, UNKNOWN), query.length[session], self._last[session]
