"""Baselines that score items by similar past sessions: S-KNN, V-SKNN, STAN and VSTAN.

See bench.quality.baselines for the papers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp

from bench.quality.baselines import BY_STEPS, Baseline
from export.history.interactions import Interactions
from udfs.core.arrays import Bools, Floats, Ints, concat_ranges
from udfs.core.clock import DAY_MS

#: The lowest weight, so that sessions that share an item remain candidates.
LOWEST_WEIGHT = 1e-12
#: Weight of the item at a position, 1 … `length`.
BY_POSITION: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "same": lambda position, _: np.ones_like(position),
    "linear": lambda position, length: np.maximum(1 - 0.1 * (length - position), 0),
    "div": lambda position, length: position / length,
    "quadratic": lambda position, length: (position / length) ** 2,
    "log": lambda position, length: 1 / np.log10(length - position + 1.7),
}


@dataclass
class Neighbours(Baseline):
    """Neighbours: the `k` most similar of the `sample` most recent sessions that share an item with the prefix.

    score(item) = Σ over neighbours with it, similarity × recency × proximity of the item × boost of the item

    remind=False: items of the prefix get no score.
    """

    k: int = 100
    sample: int = 1000
    remind: bool = True

    def _learn(self, train: Interactions, size: int) -> None:
        train = train.longer_than(1)  # a single item has nothing that follows it
        codes = train.session * size + train.item
        last = _last_occurrences(codes)
        session, item = train.session[last], train.item[last]
        order = np.argsort(train.end, kind="stable")  # sessions are numbered by time, the latest highest
        number = np.empty(len(train), dtype=np.int64)
        number[order] = np.arange(len(train))
        rows = np.argsort(number[session], kind="stable")
        self._items = item[rows]
        self._positions = (np.flatnonzero(last) - train.offsets[session])[rows] + 1
        self._sizes = np.bincount(number[session], minlength=len(train))
        self._offsets = np.concatenate(([0], np.cumsum(self._sizes)))
        self._ends = train.end[order]
        entries = (np.ones(len(item)), (item, number[session]))
        self._sessions_of = sp.coo_array(entries, shape=(size, len(train))).tocsr()
        events = np.bincount(train.item, minlength=size)
        self._rarity = np.maximum(np.log(max(len(train), 1) / np.maximum(events, 1)), 0)
        self._longest = int(np.diff(train.offsets).max(initial=1))

    def _scores(self, prefixes: Interactions, size: int) -> Floats:
        length = np.diff(prefixes.offsets)
        distinct = np.bincount(prefixes.session[_last_occurrences(prefixes.session * (size + 1) + prefixes.item)])
        position = np.arange(len(prefixes.item)) - prefixes.offsets[prefixes.session] + 1
        # The last position, 1 … length, of each item of the prefix; 0 for other items.
        at = np.zeros((len(prefixes), size), dtype=np.int64)
        known = prefixes.item >= 0
        at[prefixes.session[known], prefixes.item[known]] = position[known]
        prefix, item = np.nonzero(at)
        weight = np.maximum(self._weight(at[prefix, item].astype(float), length[prefix].astype(float)), LOWEST_WEIGHT)
        shared = sp.coo_array((weight, (prefix, item)), shape=at.shape).tocsr() @ self._sessions_of
        scores = np.zeros((len(prefixes), size))
        for row in range(len(prefixes)):
            entries = slice(*shared.indptr[row : row + 2])
            near = shared.indices[entries].astype(np.int64)
            similarity = shared.data[entries]
            if len(near) > self.sample:
                recent = np.argpartition(near, -self.sample)[-self.sample :]
                near = near[recent]
                similarity = similarity[recent]
            similarity = similarity * self._norm(near, similarity, distinct[row])
            if len(near) > self.k:
                comparable = (similarity / similarity.max()).astype(np.float32).view(np.int32).astype(np.int64)
                best = np.argpartition((comparable << 32) | near, -self.k)[-self.k :]
                near = near[best]
                similarity = similarity[best]
            if len(near):
                scores[row] = self._item_scores(near, similarity, at[row], length[row])
        if not self.remind:
            scores[at > 0] = 0
        return scores

    def _item_scores(self, near: Ints, similarity: Floats, at: Ints, length: int) -> Floats:
        """float64 [items]: scores by the neighbours `near`, for a prefix of `length` events.

        at: int64 [items], the last position of each item in the prefix, 0 for none."""
        sizes = self._sizes[near]
        starts = np.cumsum(sizes) - sizes
        events, _ = concat_ranges(self._offsets[near], self._offsets[near + 1])
        item = self._items[events]
        shared = at[item]
        latest = np.maximum.reduceat(shared, starts)
        value = np.repeat(similarity * self._recency((length - latest + 1).astype(float)), sizes)
        if (proximity := self._proximity) is not None:
            position = self._positions[events]
            anchor = np.maximum.reduceat(np.where(shared > 0, position, 0), starts)
            value *= proximity[np.abs(position - np.repeat(anchor, sizes))]
        scores: Floats = np.bincount(item, value, minlength=len(at)) * self._boost
        return scores

    def _weight(self, position: Floats, length: Floats) -> Floats:
        """Weight of a prefix's item at a position, 1 … `length`."""
        return BY_POSITION["same"](position, length)

    def _norm(self, near: Ints, shared: Floats, distinct: int) -> Floats:  # noqa: ARG002 subclasses need them
        """Factor of the weight `shared` with the sessions `near`; distinct: the prefix's number of distinct items."""
        return np.ones(len(near))

    def _recency(self, steps: Floats) -> Floats:
        """Weight of a neighbour whose latest shared item is the prefix's last one (1), the one before (2), …"""
        return np.ones(len(steps))

    @property
    def _proximity(self) -> Floats | None:
        """Weight of a neighbour's item by its distance from the last shared item there: 0, 1, …"""
        return None

    @property
    def _boost(self) -> Floats:
        """float64 [items]: factor of each item's score."""
        return np.ones(len(self._rarity))


@dataclass
class SessionKnn(Neighbours):
    """Neighbours by shared items, in any order."""

    name = "sknn"
    space: ClassVar[Mapping[str, Sequence[Any]]] = {
        "k": (500, 50, 100, 1000, 1500),
        "sample": (10000, 500, 1000, 2500, 5000),
        "remind": (True, False),
        "similarity": ("jaccard", "cosine"),
    }
    similarity: str = "jaccard"

    def _norm(self, near: Ints, shared: Floats, distinct: int) -> Floats:
        if self.similarity == "cosine":
            return np.asarray(1 / np.sqrt(self._sizes[near] * float(distinct)))
        return np.asarray(1 / (self._sizes[near] + distinct - shared))


@dataclass
class VectorSessionKnn(Neighbours):
    """Later items of the prefix weigh more, both in the similarity and in the recency of a neighbour."""

    name = "vsknn"
    space: ClassVar[Mapping[str, Sequence[Any]]] = {
        "k": (100, 50, 500, 1000, 1500),
        "sample": (1000, 500, 2500, 5000, 10000),
        "remind": (True, False),
        "weighting": ("quadratic", "same", "div", "linear", "log"),
        "weighting_score": ("quadratic", "same", "div", "linear", "log"),
        "idf": (0, 1, 2, 5, 10),
    }
    weighting: str = "quadratic"
    weighting_score: str = "quadratic"
    idf: float = 0

    def _weight(self, position: Floats, length: Floats) -> Floats:
        return BY_POSITION[self.weighting](position, length)

    def _recency(self, steps: Floats) -> Floats:
        return BY_STEPS[self.weighting_score](steps)

    @property
    def _boost(self) -> Floats:
        return np.asarray(1 + self.idf * self._rarity)


@dataclass
class Stan(Neighbours):
    """Later items of the prefix, later sessions, and items near the shared one weigh more, all exponentially.

    spw: positions in the prefix; snh: days between sessions; inh: positions in the neighbour.
    """

    name = "stan"
    space: ClassVar[Mapping[str, Sequence[Any]]] = {
        "k": (1000, 100, 200, 500, 1500, 2000),
        "sample": (10000, 1000, 2500, 5000),
        "remind": (True, False),
        "spw": (0.00001, 0.5, 1, 2, 4, 8),
        "snh": (10, 2.5, 5, 20, 40, 80, 100),
        "inh": (2, 0.00001, 0.5, 1, 4, 8),
    }
    spw: float = 1.02
    snh: float = 5
    inh: float = 2.05

    def _weight(self, position: Floats, length: Floats) -> Floats:
        return np.asarray(np.exp((position - length) / self.spw))

    def _norm(self, near: Ints, shared: Floats, distinct: int) -> Floats:  # noqa: ARG002 cosine without the prefix's factor
        # Relative to the latest of the sessions, as only differences matter.
        days = (self._ends[near] - self._ends[near].max(initial=0)) / DAY_MS
        return np.asarray(np.exp(days / self.snh) / np.sqrt(self._sizes[near]))

    @property
    def _proximity(self) -> Floats | None:
        return np.asarray(np.exp(-np.arange(self._longest) / self.inh))


@dataclass
class Vstan(Stan):
    """STAN with V-SKNN's two weights; ipw: positions in the prefix of the latest shared item."""

    name = "vstan"
    space: ClassVar[Mapping[str, Sequence[Any]]] = {
        "k": (1500, 100, 200, 500, 1000, 2000),
        "sample": (10000, 1000, 2500, 5000),
        "remind": (True, False),
        "spw": (0.5, 0.00001, 1, 2, 4, 8),
        "snh": (5, 2.5, 10, 20, 40, 80, 100),
        "inh": (2, 0.00001, 0.5, 1, 4, 8),
        "ipw": (2, 0.00001, 0.5, 1, 4, 8),
        "idf": (2, 0, 1, 5, 10),
    }
    ipw: float = 1.02
    idf: float = 5

    def _recency(self, steps: Floats) -> Floats:
        return np.asarray(np.exp((1 - steps) / self.ipw))

    @property
    def _boost(self) -> Floats:
        return np.asarray(1 + self.idf * self._rarity)


def _last_occurrences(codes: Ints) -> Bools:
    """bool [n]: true at the last occurrence of each code."""
    _, first = np.unique(codes[::-1], return_index=True)
    last = np.zeros(len(codes), dtype=bool)
    last[len(codes) - 1 - first] = True
    return last
