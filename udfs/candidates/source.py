"""Candidates of a session, proposed by several sources, and what each source knows of every one of them.

A source is a class with `propose`, the items it would recommend, and `describe`, its columns for any pairs of session
and item. A pair is one whole number: session × items + item. All is computed on flat arrays for many sessions at once,
and sums run over one session's own entries in their own order, so that a pair's columns depend on its session alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from udfs.core.arrays import DENSE_FACTOR, Floats, Ints, Scores, start_indices
from udfs.core.exact import SCORE_BUDGET

#: A column of a source, [n].
Column = Floats | Ints | Scores

#: A session's distinct items that speak, the last ones.
RECENT = 10

#: Weight of an item by the events since: in co-visits as in the blend, in similar sessions falling faster.
DECAY = 0.8

_BY_AGE = DECAY ** np.arange(1 << 12)

#: Days or events since what never was.
UNKNOWN = 999.0


@dataclass(frozen=True)
class SessionContext:
    """S sessions so far, for sources.

    session, item, age: N recent items that are in the catalogue, each once a session, newest first; age counts the
    events after it. texts: two grid vectors a session, of the last event with a text and of the weighted mean.
    """

    session: Ints  #: int64 [N], sorted
    item: Ints  #: int64 [N], row in the catalogue
    age: Ints  #: int64 [N]
    seen: Ints  #: int64 [M], pairs of session and item, sorted and each once
    seen_times: Ints  #: int64 [M], how often
    seen_age: Ints  #: int64 [M], events since the last time
    length: Ints  #: int64 [S], events with an item
    shopper: Ints  #: int64 [S], number in the bundle's shoppers, -1 for one who is not among them
    now: Ints  #: int64 [S], epoch ms
    last_text: Scores  #: float32 [S, d], whole numbers; zero without a text
    centre: Scores  #: float32 [S, d]
    items: int  #: rows of the catalogue

    def __len__(self) -> int:
        return len(self.length)

    @cached_property
    def weight(self) -> Floats:
        """float64 [N]: DECAY to the power of the age."""
        return np.asarray(_BY_AGE[np.minimum(self.age, len(_BY_AGE) - 1)])


@dataclass(frozen=True)
class Pairs:
    """n different pairs, sorted by key, session × items + item; size: all that there may be, sessions × items."""

    key: Ints  #: int64 [n]
    session: Ints  #: int64 [n]
    item: Ints  #: int64 [n]
    size: int

    @classmethod
    def of(cls, key: Ints, query: SessionContext) -> "Pairs":
        """Pairs of a query's sessions and items."""
        session, item = np.divmod(key, query.items)
        return cls(key, session, item, len(query) * query.items)

    @cached_property
    def _place(self) -> npt.NDArray[np.int32]:
        place = np.full(self.size, -1, dtype=np.int32)
        place[self.key] = np.arange(len(self.key), dtype=np.int32)
        return place

    @cached_property
    def _sessions(self) -> tuple[Ints, Ints]:
        first = start_indices(self.session)
        return first, np.diff(np.append(first, len(self.session)))

    def places(self, key: Ints) -> tuple[Ints, npt.NDArray[np.int32]]:
        """Which of these keys (int64 [m]) are among the pairs, and the place of each of those."""
        if not len(self.key):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
        if self.size <= max(DENSE_FACTOR * len(self.key), min(DENSE_FACTOR * len(key), SCORE_BUDGET)):
            place = self._place[key]
            hit = np.flatnonzero(place >= 0)
        else:
            place = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1).astype(np.int32)
            hit = np.flatnonzero(self.key[place] == key)
        return hit, place[hit]

    def found(self, known: Ints, columns: Sequence[Column]) -> list[Floats]:
        """Of each pair its value in each column over known keys (each once), 0 if it is not among them."""
        hit, place = self.places(known)
        values = np.zeros((len(columns), len(self.key)))
        for value, column in zip(values, columns, strict=True):
            value[place] = column[hit]
        return list(values)

    def share(self, value: Floats) -> Floats:
        """Values [..., n] over the highest one of their session; 0 where that is 0."""
        if not value.size:
            return value
        highest = np.maximum.reduceat(value, self._sessions[0], axis=-1)
        return np.asarray(value / np.repeat(np.where(highest > 0, highest, 1), self._sessions[1], axis=-1))

    def strongest(self, key: Ints, value: Floats, place: Ints) -> Ints:
        """int64 [n]: of each pair the place of the entry with its key and the highest value, the later on a tie; or -1.

        Values are positive.
        """
        hit, pair = self.places(key)
        value = value[hit]
        highest = np.zeros(len(self.key))
        np.maximum.at(highest, pair, value)
        best = np.flatnonzero(value == highest[pair])
        named = np.full(len(self.key), -1)
        named[pair[best]] = place[hit[best]]  # the last write wins
        return named


class CandidateSource(ABC):
    """Proposes candidates and describes pairs."""

    columns: tuple[str, ...]

    @abstractmethod
    def load(self, query: SessionContext) -> None:
        """Look at a batch of sessions; what comes next is about these."""

    @abstractmethod
    def propose(self) -> Ints:
        """int64 [n]: keys of pairs worth ranking."""

    @abstractmethod
    def describe(self, pairs: Pairs) -> Sequence[Column]:
        """One array [n] a column, for these pairs."""

    def because(self, pairs: Pairs) -> Ints:
        """int64 [n]: for each of a few pairs the place in the query's items that speaks most for it, or -1."""
        return np.full(len(pairs.key), -1)
