"""The positions in sessions at which the next item is predicted, and a contender's predictions there."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from bench.quality.contenders import Contender
from bench.quality.metrics import CHUNK, LONGEST
from export.history.interactions import Interactions
from udfs.core.arrays import Floats, Ints, concat_ranges, position_in_group

#: Predictions made one at a time for the latency, after some to warm up.
LATENCY_PREDICTIONS = 1000
WARM_UP_PREDICTIONS = 20


@dataclass(frozen=True)
class Positions:
    """P positions in sessions whose next item is predicted, ordered by session, then by length of the prefix."""

    sessions: Interactions
    session: Ints  #: int64 [P], the session of each position
    length: Ints  #: int64 [P], events before each position, 1 or more

    @classmethod
    def every(cls, sessions: Interactions) -> "Positions":
        """Every position of every session; a session of one event has none."""
        counts = np.diff(sessions.offsets) - 1
        session = np.repeat(np.arange(len(sessions)), counts)
        return cls(sessions, session, position_in_group(session) + 1)

    def __len__(self) -> int:
        return len(self.session)

    @property
    def target(self) -> Ints:
        """int64 [P]: the items to predict."""
        return self.sessions.item.take(self.sessions.offsets[self.session] + self.length)

    def take(self, indices: Ints | slice) -> "Positions":
        """The positions at these indices."""
        return Positions(self.sessions, self.session[indices], self.length[indices])

    def sample(self, count: int, seed: int) -> "Positions":
        """At most `count` (0: all) positions, from whole sessions drawn at random; of one session if none fits."""
        if not count or len(self) <= count:
            return self
        sessions, sizes = np.unique(self.session, return_counts=True)
        drawn = np.random.default_rng(seed).permutation(len(sessions))
        fitting = max(1, int(np.searchsorted(np.cumsum(sizes[drawn]), count, side="right")))
        return self.take(np.isin(self.session, sessions[drawn[:fitting]]).nonzero()[0])

    def prefixes(self) -> Interactions:
        """The events before each position, as P sessions in the same order."""
        offsets = np.concatenate(([0], np.cumsum(self.length)))
        first = self.sessions.offsets[self.session]
        events, _ = concat_ranges(first, first + self.length)
        columns = {name: getattr(self.sessions, name)[events] for name in ("item", "time", "type_code")}
        return replace(self.sessions, offsets=offsets, user=self.sessions.user[self.session], **columns)

    def chunks(self, size: int) -> Iterator["Positions"]:
        """The positions, `size` at a time."""
        for first in range(0, len(self), size):
            yield self.take(slice(first, first + size))


def predictions(contender: Contender, positions: Positions, *, repeats: bool) -> Ints:
    """Return int64 [P, 20]: the contender's lists. Raise ValueError for another shape or an item named twice."""
    parts = [contender.predict(part.prefixes(), LONGEST, repeats=repeats) for part in positions.chunks(CHUNK)]
    lists = np.concatenate(parts)
    ordered = np.sort(lists, axis=1)
    if lists.shape != (len(positions), LONGEST) or ((np.diff(ordered) == 0) & (ordered[:, 1:] >= 0)).any():
        raise ValueError(f"{contender.name} must name {LONGEST} different items for each prefix, or -1")
    return lists


def latency(contender: Contender, positions: Positions, count: int, seed: int, *, repeats: bool) -> Floats:
    """Return float64 [count]: milliseconds of predictions one at a time on one core, after some to warm up."""
    drawn = np.random.default_rng(seed).integers(len(positions), size=WARM_UP_PREDICTIONS + count)
    prefixes = [positions.take(drawn[[index]]).prefixes() for index in range(len(drawn))]
    times = []
    with threadpool_limits(1):  # as in a job's worker
        for prefix in prefixes:
            started = time.perf_counter()
            contender.predict(prefix, LONGEST, repeats=repeats)
            times.append(time.perf_counter() - started)
    return np.multiply(1000.0, times[WARM_UP_PREDICTIONS:])
