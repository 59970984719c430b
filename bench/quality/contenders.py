"""The contenders of `python -m bench quality`: our ranker, its sources, and the baselines, tuned or as published."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from bench.quality.baselines import AssociationRules, Baseline, Ease, Popularity, SequentialRules, published
from bench.quality.neighbours import SessionKnn, Stan, VectorSessionKnn, Vstan
from bench.quality.ours import ABLATIONS, OURS, WITHOUT_SESSIONS
from bench.quality.shoppers import Personal, TifuKnn
from export.history.interactions import Interactions
from udfs.core.arrays import Ints


class Contender(Protocol):
    """Anything that can be measured. If it has `parameters`, a mapping, the report shows them.

    `fit` is called once, before any call of `predict`.
    """

    @property
    def name(self) -> str:
        """The name of its row."""

    def fit(self, train: Interactions, catalog: pa.Table | None) -> None:
        """Train on past sessions and on the catalog (schema udfs.datasets.CATALOG), if there is one."""

    def predict(self, prefixes: Interactions, k: int, *, repeats: bool) -> Ints:
        """Return int64 [S, k]: for each of S prefixes, numbers of the items that may follow, best first, padded by -1.

        A prefix's last event is now. repeats=False: items of the prefix are not allowed.
        """


BASELINES: Sequence[type[Baseline]] = (
    Popularity,
    AssociationRules,
    SequentialRules,
    SessionKnn,
    VectorSessionKnn,
    Stan,
    Vstan,
    Ease,
    Personal,
    TifuKnn,
)
#: Contenders that are tuned, by the name of their row.
TUNED: Mapping[str, type[Baseline]] = {kind.name: kind for kind in BASELINES}
#: Contenders with fixed parameters, by the name of their row.
FIXED: Mapping[str, Callable[[], Contender]] = {
    "vsknn-published": lambda: published(VectorSessionKnn),
    "vstan-published": lambda: published(Vstan),
}
NAMES = (*OURS, *TUNED, *FIXED)
#: What is measured where nothing else is asked for.
DEFAULTS = tuple(name for name in NAMES if name not in (*WITHOUT_SESSIONS, *ABLATIONS))


def trial_settings(space: Mapping[str, Sequence[Any]], trials: int, seed: int) -> list[dict[str, Any]]:
    """At most `trials` different settings of a space: the first value of each parameter, then random ones."""
    shape = tuple(len(values) for values in space.values())
    others = np.random.default_rng(seed).permutation(math.prod(shape) - 1)[: trials - 1] + 1
    indices = np.unravel_index(np.append(0, others), shape)
    columns = [[values[index] for index in chosen] for values, chosen in zip(space.values(), indices, strict=True)]
    return [dict(zip(space, setting, strict=True)) for setting in zip(*columns, strict=True)]
