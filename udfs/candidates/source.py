"""What a source of candidates is, and what it is given.

All is computed on flat arrays for many sessions at once. Sums run over one session's own entries in their own order, so
that a pair's features depend on its session alone.
"""

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

import udfs.candidates
from udfs.bundles.bundle import Bundle
from udfs.bundles.contents import PastSessions
from udfs.candidates.pairs import Feature, Pairs
from udfs.catalog.items import LiveItems
from udfs.core.arrays import Floats, Ints, Scores

#: Use at most this many of a session's most recent distinct items.
RECENT = 10

#: Weight of an item relative to that of the same item one interaction later.
DECAY = 0.8

_DECAY_BY_AGE = DECAY ** np.arange(1 << 12)

#: Days since an interaction that never was.
UNKNOWN_DAYS = 999.0

#: Interactions since one that never was.
UNKNOWN_AGE = 999.0


@dataclass(frozen=True)
class EarlierItems:
    """M items that the shoppers of a batch interacted with in sessions before; by session, then item."""

    session: Ints  #: int64 [M], of the batch
    item: Ints  #: int64 [M]
    times: Floats  #: float64 [M], how often
    days: Floats  #: float64 [M], since the last time


@dataclass(frozen=True)
class SessionContext:
    """What sources know of S sessions so far: N recent items, each once per session, newest first."""

    session: Ints  #: int64 [N], sorted
    item: Ints  #: int64 [N], row in the catalog
    age: Ints  #: int64 [N], interactions since
    seen: Ints  #: int64 [M], sorted keys of all pairs of a session and an item that it interacted with
    seen_times: Ints  #: int64 [M], how often
    seen_age: Ints  #: int64 [M], interactions since the last time
    length: Ints  #: int64 [S], interactions
    shopper: Ints  #: int64 [S], index in the bundle's shoppers, -1 for an unknown one
    earlier: EarlierItems  #: from the shoppers' sessions before
    last_text: Scores  #: float32 [S, dimensions], vector of the newest signal's text on the grid; zero without one
    centre: Scores  #: float32 [S, dimensions], of the signals' weighted mean on the grid; zero without one
    items: int  #: rows of the catalog in use

    def __len__(self) -> int:
        return len(self.length)

    @cached_property
    def weight(self) -> Floats:
        """float64 [N]: DECAY to the power of the age."""
        return np.asarray(_DECAY_BY_AGE[np.minimum(self.age, len(_DECAY_BY_AGE) - 1)])

    def pairs(self, key: Ints) -> Pairs:
        """Return the pairs of distinct sorted keys, int64 [n]."""
        return Pairs.of(key, len(self), self.items)

    def keys_with(self, items: Ints) -> Ints:
        """Return the keys of every session with each of these items, int64 [S × items]."""
        return np.asarray((np.arange(len(self))[:, None] * self.items + items).ravel())


@dataclass(frozen=True)
class SourceInputs:
    """What sources are made from. Arrays that several sources need are computed once."""

    bundle: Bundle
    items: LiveItems  #: the bundle's as they are now
    past: PastSessions
    recommend_seen: bool  #: candidates may be items that the session has seen
    k: int  #: items to be recommended

    @cached_property
    def recent_popularity(self) -> Floats:
        """float64 [capacity]: past interactions, the recent ones counting most."""
        return self.past.recent(self.items.capacity)

    @cached_property
    def by_recent_popularity(self) -> Ints:
        """int64 [capacity]: rows of the catalog, the most popular of late first."""
        return np.asarray(np.lexsort((np.arange(self.items.capacity), -self.recent_popularity)))


State = TypeVar("State")


class CandidateSource(ABC, Generic[State]):
    """Generates candidates, and computes ranking features of any pairs.

    A source is declared whole in a module of this package, where `all_sources` finds it. One is made for each bundle.
    For each batch of sessions these are called:

        prepare    once; what it returns is handed to the others
        generate   once: the pairs worth ranking
        features   once: of the pairs that all sources generated together
        evidence   once: of the few pairs that are recommended

    Between batches, after the catalog's items have changed:

        refresh
    """

    #: Name of the reasons that its features lead to. Several sources may share one.
    name: ClassVar[str]

    #: What such a reason says where no item of the session is evidence.
    default_reason: ClassVar[str]

    #: One name per array that `features` returns.
    feature_names: ClassVar[tuple[str, ...]]

    #: Trees know features by their number: sources are numbered by `order`, so a new one comes last.
    order: ClassVar[int]

    def __init__(self, inputs: SourceInputs) -> None:
        """Keep what the source needs of a bundle; by default nothing."""

    @abstractmethod
    def prepare(self, context: SessionContext) -> State:
        """Compute what the other steps share for a batch of sessions."""

    def generate(self, _state: State) -> Ints:
        """Return keys of pairs worth ranking, int64 [n], in any order, repeats allowed."""
        return np.empty(0, dtype=np.int64)

    @abstractmethod
    def features(self, state: State, pairs: Pairs) -> Sequence[Feature]:
        """Return an array [n] per feature name for these n pairs."""

    def evidence(self, _state: State, _pairs: Pairs) -> Ints | None:
        """Return for each pair the index of the context's item that is the best evidence for it, int64 [n], or -1.

        None from a source that never has any.
        """
        return None

    def refresh(self) -> None:
        """Update what depends on the catalog's items."""


def all_sources() -> list[type[CandidateSource[Any]]]:
    """Return the sources of all modules in this package, in the order of their features.

    A class whose name begins with an underscore is no source, but the base of some.
    """
    found: list[type[CandidateSource[Any]]] = []
    for entry in pkgutil.iter_modules(udfs.candidates.__path__, "udfs.candidates."):
        module = import_module(entry.name)
        found += [
            value
            for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, CandidateSource) and value is not CandidateSource
            if value.__module__ == module.__name__ and not name.startswith("_")
        ]
    return sorted(found, key=lambda source: source.order)


def sources_except(names: Collection[str]) -> frozenset[str]:
    """Return the names of all sources but these."""
    return frozenset(source.name for source in all_sources()) - frozenset(names)
