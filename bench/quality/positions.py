"""Positions in sessions at which the next item is asked for."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from bench.quality.contenders import Contender
from bench.quality.metrics import CHUNK, LONGEST
from export.interactions import Interactions
from udfs.sessions import Floats, Ints

#: Prefixes that a contender gets one by one for the latency, after some to warm up.
ALONE, WARM = 1000, 20


@dataclass(frozen=True)
class Positions:
    """P places in sessions where the next item is asked for, by session, then by length of the prefix."""

    of: Interactions
    session: Ints  #: int64 [P], the session of each
    length: Ints  #: int64 [P], events that are given, from 1 on

    @classmethod
    def every(cls, of: Interactions) -> "Positions":
        """Every position of every session; a session of one event has none."""
        asked = np.diff(of.offsets) - 1
        session = np.repeat(np.arange(len(of)), asked)
        return cls(of, session, np.arange(len(session)) - np.repeat(np.cumsum(asked) - asked, asked) + 1)

    def __len__(self) -> int:
        return len(self.session)

    @property
    def target(self) -> Ints:
        """int64 [P]: the items that are asked for."""
        return self.of.item.take(self.of.offsets[self.session] + self.length)

    def at(self, places: Ints | slice) -> "Positions":
        """Some of them."""
        return Positions(self.of, self.session[places], self.length[places])

    def sample(self, count: int, seed: int) -> "Positions":
        """At most `count` (0: all) positions: those of sessions drawn whole, or of one session where none fits."""
        if not count or len(self) <= count:
            return self
        sessions, sizes = np.unique(self.session, return_counts=True)
        drawn = np.random.default_rng(seed).permutation(len(sessions))
        fit = max(1, int(np.searchsorted(np.cumsum(sizes[drawn]), count, side="right")))
        return self.at(np.isin(self.session, sessions[drawn[:fit]]).nonzero()[0])

    def prefixes(self) -> Interactions:
        """What is given at each, as sessions in their order here."""
        offsets = np.concatenate(([0], np.cumsum(self.length)))
        events = np.arange(offsets[-1]) + np.repeat(self.of.offsets[self.session] - offsets[:-1], self.length)
        columns = {name: getattr(self.of, name)[events] for name in ("item", "time", "type_code")}
        return replace(self.of, offsets=offsets, user=self.of.user[self.session], **columns)

    def chunks(self, size: int) -> Iterator["Positions"]:
        """The same, `size` at a time."""
        for first in range(0, len(self), size):
            yield self.at(slice(first, first + size))


def predictions(contender: Contender, positions: Positions, *, repeats: bool) -> Ints:
    """int64 [P, 20]: the contender's lists. Raises ValueError for other shapes and for an item named twice."""
    parts = [contender.predict(part.prefixes(), LONGEST, repeats=repeats) for part in positions.chunks(CHUNK)]
    lists = np.concatenate(parts)
    ordered = np.sort(lists, axis=1)
    if lists.shape != (len(positions), LONGEST) or ((np.diff(ordered) == 0) & (ordered[:, 1:] >= 0)).any():
        raise ValueError(f"{contender.name} must name {LONGEST} different items for each prefix, or -1")
    return lists


def latency(contender: Contender, positions: Positions, count: int, seed: int, *, repeats: bool) -> Floats:
    """float64 [count]: milliseconds of predictions made one at a time on one core, after some to warm up."""
    drawn = np.random.default_rng(seed).integers(len(positions), size=WARM + count)
    prefixes = [positions.at(drawn[[place]]).prefixes() for place in range(len(drawn))]
    times = []
    with threadpool_limits(1):  # as in a job's worker
        for prefix in prefixes:
            start = time.perf_counter()
            contender.predict(prefix, LONGEST, repeats=repeats)
            times.append(time.perf_counter() - start)
    return np.multiply(1000.0, times[WARM:])
