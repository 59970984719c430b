"""Baselines that score items by what a shopper did in earlier sessions: where people buy again, few things say more.

    personal       the shopper's own most frequent items
    tifuknn        Hu, He, Gao & Zhang 2020, "Modeling personalized item frequency information for next-basket
                   recommendation" (SIGIR)

A shopper who is new has the session so far for a history. What a shopper of training does in the session does not
count, as in the paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp

from bench.quality.baselines import Baseline
from export.history.interactions import Interactions
from udfs.core.arrays import Floats, position_in_group

#: Most cells of a dense array of distances between shoppers; bounds memory.
DISTANCES = 1 << 22


@dataclass
class Shoppers(Baseline):
    """Scores by a vector of item weights per shopper."""

    def _learn(self, train: Interactions, size: int) -> None:
        self._histories = self._vectors(train, size, len(train.users))
        self._known = np.diff(self._histories.indptr) > 0

    def _scores(self, prefixes: Interactions, size: int) -> Floats:
        shopper, row = np.unique(prefixes.user, return_inverse=True)
        known = self._known[shopper]
        scores = np.zeros((len(prefixes), size))
        if known.any():
            of_known = self._scores_of(self._histories[shopper[known]])
            scores[known[row]] = of_known[(np.cumsum(known) - 1)[row[known[row]]]]
        new = np.flatnonzero(~known[row])
        if len(new):
            pair = prefixes.item >= 0
            seen = sp.coo_array((np.ones(pair.sum()), (prefixes.session[pair], prefixes.item[pair])), scores.shape)
            scores[new] = self._scores_of(seen.tocsr()[new])
        return scores

    def _vectors(self, train: Interactions, size: int, users: int) -> Any:
        """Return CSR float64 [users, size]: what a shopper's sessions say about each item."""
        return sp.coo_array((np.ones(len(train.item)), (train.user[train.session], train.item)), (users, size)).tocsr()

    def _scores_of(self, shoppers: Any) -> Floats:
        """Return float64 [n, size]: the scores of n shoppers with these vectors, CSR."""
        return np.asarray(shoppers.toarray())


@dataclass
class Personal(Shoppers):
    """The number of the shopper's events of the item."""

    name = "personal"


@dataclass
class TifuKnn(Shoppers):
    """α of the shopper's own vector and 1 − α of the mean vector of the `k` nearest shoppers, by Euclidean distance.

    A shopper's sessions are `groups` of equal size, the first may be smaller. The sessions of a group count `within`
    to the power of their distance from its last one, the groups `between` to that of theirs from the last group, and
    both are divided by their numbers.
    """

    name = "tifuknn"
    space: ClassVar[Mapping[str, Sequence[Any]]] = {
        "k": (300, 100, 900),
        "groups": (7, 3, 11),
        "within": (0.9, 0.6, 0.8, 1.0),
        "between": (0.7, 0.5, 0.6, 0.9),
        "alpha": (0.7, 0.2, 0.5, 0.9),
    }
    k: int = 300
    groups: int = 7
    within: float = 0.9
    between: float = 0.7
    alpha: float = 0.7

    def _vectors(self, train: Interactions, size: int, users: int) -> Any:
        order = np.lexsort((train.start, train.user))
        count = np.bincount(train.user, minlength=users)
        per_group = -(-count // self.groups)  # sessions of a group
        back = np.empty(len(train), dtype=np.int64)  # 0: the shopper's last session
        user = train.user[order]
        back[order] = count[user] - 1 - position_in_group(user)
        group, place = np.divmod(back, np.maximum(per_group[train.user], 1))
        in_group = np.minimum(per_group[train.user], count[train.user] - group * per_group[train.user])
        groups = -(-count // np.maximum(per_group, 1))
        weight = self.within**place / in_group * self.between**group / groups[train.user]
        pair = np.unique(train.session * size + train.item)
        session, item = np.divmod(pair, size)
        return sp.coo_array((weight[session], (train.user[session], item)), (users, size)).tocsr()

    def _learn(self, train: Interactions, size: int) -> None:
        super()._learn(train, size)
        self._others = self._histories[np.flatnonzero(self._known)]
        self._norms = np.asarray(self._others.multiply(self._others).sum(axis=1)).ravel()

    def _scores_of(self, shoppers: Any) -> Floats:
        own = np.asarray(shoppers.toarray())
        k = min(self.k, len(self._norms))
        rows = max(1, DISTANCES // len(self._norms))
        for first in range(0, len(own), rows):
            part = slice(first, first + rows)
            distance = self._norms - 2 * (shoppers[part] @ self._others.T).toarray()  # its own norm changes no order
            near = np.argpartition(distance, k - 1, axis=1)[:, :k]
            entries = (np.full(near.size, 1 / k), (np.repeat(np.arange(len(near)), k), near.ravel()))
            mean = sp.coo_array(entries, (len(near), len(self._norms))).tocsr() @ self._others
            own[part] = self.alpha * own[part] + (1 - self.alpha) * mean.toarray()
        return own
