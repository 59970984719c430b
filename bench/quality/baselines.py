"""The published baselines of session-based recommendation, from their papers.

    pop            most events in training
    ar, sr         association rules, sequential rules,
    sknn, vsknn    session neighbours, and the same with weights by position:
                   Ludewig & Jannach 2018, "Evaluation of session-based recommendation algorithms"
    stan           Garg, Gupta, Malhotra, Vig & Shroff 2019, "Sequence and time aware neighborhood for session-based
                   recommendations"
    vstan          both together: Ludewig, Mauro, Latifi & Jannach 2020, "Empirical analysis of session-based
                   recommendation algorithms"
    ease           Steck 2019, "Embarrassingly shallow autoencoders for sparse data"

What the papers leave open is as in their authors' programs (github.com/rn5l/session-rec). Rules start from the last
item. The `sample` most recent sessions that share an item are compared, and the `k` most similar of them are the
neighbours. An item's last event in a session counts. Inverse document frequency is ln(sessions ÷ events of the item).

What the programs leave to chance is settled here, in the baselines' favour where it matters. Of equally similar
sessions, the later counts. Of equally scored items, the rarer comes first, as the same score is stronger evidence for
it. Items without a score come last, the most popular first, so that lists are always full. `linear` weights stop at
zero.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from export.history.interactions import Interactions
from udfs.core.arrays import Floats, Ints, position_in_group

#: Most cells of a dense array of prefixes × items; bounds memory.
CELLS = 1 << 19
#: Items of EASE; 5,000 take 5 s and 0.4 GB on two cores.
EASE_ITEMS = 5000
#: Weight of an item or session that is `steps` ≥ 1 away.
BY_STEPS: Mapping[str, Callable[[Floats], Floats]] = {
    "same": np.ones_like,
    "linear": lambda steps: np.maximum(1 - 0.1 * steps, 0),
    "div": lambda steps: 1 / steps,
    "quadratic": lambda steps: 1 / steps**2,
    "log": lambda steps: 1 / np.log10(steps + 1.7),
}


@dataclass
class Baseline(ABC):
    """A contender that scores the items of training, 0 or higher; the fields of a subclass are its parameters.

    Internally, items are numbered by popularity, the most popular 0; -1 is an item that is not in training.
    """

    name: ClassVar[str]
    #: The values that tuning chooses from; the first ones are published by the authors for the data set rsc15.
    space: ClassVar[Mapping[str, Sequence[Any]]] = {}

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters by name."""
        return asdict(self)

    def fit(self, train: Interactions, catalog: pa.Table | None) -> None:  # noqa: ARG002 baselines use sessions only
        """Train on past sessions."""
        counts = np.bincount(train.item, minlength=len(train.items))
        self._item = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        self._number = np.full(len(counts), -1)
        self._number[self._item] = np.arange(len(self._item))
        self._learn(replace(train, item=self._number[train.item]), len(self._item))

    def predict(self, prefixes: Interactions, k: int, *, repeats: bool) -> Ints:
        """Return int64 [S, k]: the items that may follow each prefix, best first; -1 where there are no more items."""
        size = len(self._item)
        lists = np.full((len(prefixes), k), -1)
        rows = max(1, CELLS // size)
        for first in range(0, len(prefixes), rows):
            part = prefixes.part(first, min(first + rows, len(prefixes)))
            part = replace(part, item=self._number[part.item])
            session = part.session[part.item >= 0]
            item = part.item[part.item >= 0]
            scores = self._scores(part, size)
            # One number for score and order: read as an integer, a float32 above zero keeps its order.
            scores /= np.maximum(scores.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
            bits = scores.astype(np.float32).view(np.int32).astype(np.int64)
            keys = (bits << 32) | np.where(bits > 0, np.arange(size), np.arange(size)[::-1])
            if not repeats:
                keys[session, item] = -1
            best = -np.sort(-np.partition(keys, -min(k, size), axis=1)[:, -min(k, size) :], axis=1)
            order = np.minimum(best & 0xFFFFFFFF, size - 1)
            items = self._item[np.where(best >> 32 > 0, order, size - 1 - order)]
            lists[first : first + len(part), : best.shape[1]] = np.where(best < 0, -1, items)
        return lists

    @abstractmethod
    def _learn(self, train: Interactions, size: int) -> None:
        """Train on sessions of `size` items."""

    @abstractmethod
    def _scores(self, prefixes: Interactions, size: int) -> Floats:
        """Return float64 [S, size]: the score of each item after each prefix."""


def published(kind: type[Baseline]) -> Baseline:
    """The baseline with the parameters that its authors publish for the data set rsc15."""
    return kind(**{name: values[0] for name, values in kind.space.items()})


@dataclass
class Popularity(Baseline):
    """The most popular items, the same list for everyone."""

    name = "pop"

    def _learn(self, train: Interactions, size: int) -> None:
        """Nothing to train: items are numbered by popularity."""

    def _scores(self, prefixes: Interactions, size: int) -> Floats:
        return np.zeros((len(prefixes), size))


@dataclass
class Rules(Baseline):
    """Weights from an item to the next one; each item keeps its `pruning` best (0: all)."""

    pruning: int = 20

    def _learn(self, train: Interactions, size: int) -> None:
        rules = self._rules(train, size).tocsr()
        if self.pruning:
            row = np.repeat(np.arange(size), np.diff(rules.indptr))
            order = np.lexsort((-rules.indices, -rules.data, row))
            kept = order[position_in_group(row) < self.pruning]
            rules = sp.csr_array((rules.data[kept], (row[kept], rules.indices[kept])), shape=(size, size))
        self._weights = rules

    def _scores(self, prefixes: Interactions, size: int) -> Floats:
        last = prefixes.item[prefixes.offsets[1:] - 1]
        scores = np.zeros((len(prefixes), size))
        scores[last >= 0] = self._weights[last[last >= 0]].toarray()
        return scores

    @abstractmethod
    def _rules(self, train: Interactions, size: int) -> Any:
        """Return sparse float64 [size, size]: weights from row to column."""


@dataclass
class AssociationRules(Rules):
    """The number of pairs of events that two items have in the same session, in either order."""

    name = "ar"
    space: ClassVar[Mapping[str, Sequence[Any]]] = {"pruning": (20, 0, 10, 50, 100, 200)}

    def _rules(self, train: Interactions, size: int) -> Any:
        ones = np.ones(len(train.item))
        counts = sp.coo_array((ones, (train.session, train.item)), shape=(len(train), size)).tocsr()
        events = counts.sum(axis=0)  # an event is no pair with itself
        return counts.T @ counts - sp.diags_array(events)


@dataclass
class SequentialRules(Rules):
    """How often an item follows another within `steps` events; the later, the less it counts."""

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


@dataclass
class Ease(Baseline):
    """A linear map from the items of a session to all items, with a zero diagonal, in closed form.

    penalty: of the squared weights. Only the EASE_ITEMS most frequent items have weights: a dense matrix is inverted.
    """

    name = "ease"
    space: ClassVar[Mapping[str, Sequence[Any]]] = {"penalty": (200, 50, 100, 500, 1000, 2000)}
    penalty: float = 200

    def _learn(self, train: Interactions, size: int) -> None:
        self._size = min(size, EASE_ITEMS)
        seen = self._seen(train)
        inverse = np.linalg.inv((seen.T @ seen).toarray() + self.penalty * np.eye(self._size))
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0)
        self._weights = weights

    def _scores(self, prefixes: Interactions, size: int) -> Floats:
        scores = np.zeros((len(prefixes), size))
        scores[:, : self._size] = np.maximum(self._seen(prefixes) @ self._weights, 0)
        return scores

    def _seen(self, log: Interactions) -> Any:
        """Return CSR float64 [S, EASE_ITEMS at most]: 1 for the items of each session."""
        kept = (log.item >= 0) & (log.item < self._size)
        pair = np.unique(log.session[kept] * self._size + log.item[kept])
        shape = (len(log), self._size)
        return sp.coo_array((np.ones(len(pair)), np.divmod(pair, self._size)), shape).tocsr()
