"""The published baselines of session-based recommendation, from their papers.

    pop            most events in training
    ar, sr         association rules, sequential rules,
    sknn, vsknn    session neighbours, and the same with weights by position:
                   Ludewig & Jannach 2018, "Evaluation of session-based recommendation algorithms"
    stan           Garg, Gupta, Malhotra, Vig & Shroff 2019, "Sequence and time aware neighborhood for session-based
                   recommendations"
    vstan          both together: Ludewig, Mauro, Latifi & Jannach 2020, "Empirical analysis of session-based
                   recommendation algorithms"

What the papers leave open is as in their authors' programs (github.com/rn5l/session-rec): rules are read off the last
item; the `sample` most recent of the sessions that share an item are compared, the `k` most similar of these speak; an
item's last event in a session counts; inverse document frequency is ln(sessions ÷ events of the item). What these leave
to chance is settled here, for the better where it matters: of equally similar sessions the later counts; of equally
scored items the rarer comes first, as the same score says more of it; items without a score come last, the most popular
first, so that lists are always full. `linear` weights stop at nought.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from export.interactions import Interactions
from udfs.sessions import Floats, Ints

#: Cells of a dense array of prefixes × items; bounds memory.
CELLS = 1 << 19
#: Weight of what is `steps` ≥ 1 steps away.
BY_STEPS: Mapping[str, Callable[[Floats], Floats]] = {
    "same": np.ones_like,
    "linear": lambda steps: np.maximum(1 - 0.1 * steps, 0),
    "div": lambda steps: 1 / steps,
    "quadratic": lambda steps: 1 / steps**2,
    "log": lambda steps: 1 / np.log10(steps + 1.7),
}


@dataclass
class Baseline(ABC):
    """Scores from 0 on for the items of training; the fields of a subclass are its parameters.

    Inside, items are numbered by popularity, from 0 on; -1 is an item that is not in training.
    """

    name: ClassVar[str]
    #: What tuning chooses from; the first of each is what the authors publish for the data set rsc15.
    space: ClassVar[Mapping[str, Sequence[Any]]] = {}

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters by name."""
        return asdict(self)

    def fit(self, train: Interactions, catalog: pa.Table | None) -> None:  # noqa: ARG002 these go by sessions alone
        """Learn from past sessions."""
        counts = np.bincount(train.item, minlength=len(train.items))
        self._item = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        self._place = np.full(len(counts), -1)
        self._place[self._item] = np.arange(len(self._item))
        self._learn(replace(train, item=self._place[train.item]), len(self._item))

    def predict(self, sofar: Interactions, k: int, *, repeats: bool) -> Ints:
        """int64 [S, k]: what may follow each prefix, best first; -1 where there are no more items."""
        size = len(self._item)
        found = np.full((len(sofar), k), -1)
        rows = max(1, CELLS // size)
        for first in range(0, len(sofar), rows):
            part = sofar.part(first, min(first + rows, len(sofar)))
            part = replace(part, item=self._place[part.item])
            session, place = part.session[part.item >= 0], part.item[part.item >= 0]
            scores = self._scores(part, size)
            # One number for score and order: as a whole number, a float32 above nought keeps its order.
            scores /= np.maximum(scores.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
            bits = scores.astype(np.float32).view(np.int32).astype(np.int64)
            keys = (bits << 32) | np.where(bits > 0, np.arange(size), np.arange(size)[::-1])
            if not repeats:
                keys[session, place] = -1
            best = -np.sort(-np.partition(keys, -min(k, size), axis=1)[:, -min(k, size) :], axis=1)
            order = np.minimum(best & 0xFFFFFFFF, size - 1)
            items = self._item[np.where(best >> 32 > 0, order, size - 1 - order)]
            found[first : first + len(part), : best.shape[1]] = np.where(best < 0, -1, items)
        return found

    @abstractmethod
    def _learn(self, train: Interactions, size: int) -> None:
        """Learn from sessions of `size` items."""

    @abstractmethod
    def _scores(self, sofar: Interactions, size: int) -> Floats:
        """float64 [S, size]: the score of each item after each prefix."""


def published(kind: type[Baseline]) -> Baseline:
    """A baseline with the parameters that its authors publish for the data set rsc15."""
    return kind(**{name: values[0] for name, values in kind.space.items()})


@dataclass
class Popularity(Baseline):
    """The same list for everyone."""

    name = "pop"

    def _learn(self, train: Interactions, size: int) -> None:
        """The numbers of the items say it all."""

    def _scores(self, sofar: Interactions, size: int) -> Floats:
        return np.zeros((len(sofar), size))


@dataclass
class Rules(Baseline):
    """Weights from one item to the next, of which each item keeps the `pruning` best (0: all)."""

    pruning: int = 20

    def _learn(self, train: Interactions, size: int) -> None:
        rules = self._rules(train, size).tocsr()
        if self.pruning:
            row = np.repeat(np.arange(size), np.diff(rules.indptr))
            order = np.lexsort((-rules.indices, -rules.data, row))
            kept = order[np.arange(len(row)) - rules.indptr[row] < self.pruning]
            rules = sp.csr_array((rules.data[kept], (row[kept], rules.indices[kept])), shape=(size, size))
        self._weights = rules

    def _scores(self, sofar: Interactions, size: int) -> Floats:
        last = sofar.item[sofar.offsets[1:] - 1]
        scores = np.zeros((len(sofar), size))
        scores[last >= 0] = self._weights[last[last >= 0]].toarray()
        return scores

    @abstractmethod
    def _rules(self, train: Interactions, size: int) -> Any:
        """Sparse float64 [size, size]: weights from row to column."""


@dataclass
class AssociationRules(Rules):
    """How many pairs of events, in one session and in whichever order, two items have."""

    name = "ar"
    space: ClassVar[Mapping[str, Sequence[Any]]] = {"pruning": (20, 0, 10, 50, 100, 200)}

    def _rules(self, train: Interactions, size: int) -> Any:
        ones = np.ones(len(train.item))
        counts = sp.coo_array((ones, (train.session, train.item)), shape=(len(train), size)).tocsr()
        events = counts.sum(axis=0)  # of an item with itself, an event makes no pair
        return counts.T @ counts - sp.diags_array(events)


@dataclass
class SequentialRules(Rules):
    """How often an item comes after another, at most `steps` later, the less the later."""

    name = "sr"
    space: ClassVar[Mapping[str, Sequence[Any]]] = {
        "pruning": (20, 0, 50, 100),
        "steps": (8, 2, 3, 4, 5, 6, 7, 10, 12, 15, 20, 25, 30),
        "weighting": ("div", "linear", "quadratic", "log"),
    }
    steps: int = 10
    weighting: str = "div"

    def _rules(self, train: Interactions, size: int) -> Any:
        session, item = train.session, train.item
        total = sp.csr_array((size, size))
        for steps in range(1, min(self.steps, np.diff(train.offsets).max() - 1) + 1):
            near = np.flatnonzero(session[steps:] == session[:-steps])
            weight = BY_STEPS[self.weighting](np.full(len(near), float(steps)))
            total += sp.coo_array((weight, (item[near], item[near + steps])), shape=(size, size)).tocsr()
        return total
