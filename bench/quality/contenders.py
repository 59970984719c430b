"""Who is measured by `python -m bench quality`."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from bench.quality import ours
from bench.quality.baselines import AssociationRules, Baseline, Popularity, SequentialRules, published
from bench.quality.neighbours import SessionKnn, Stan, VectorSessionKnn, Vstan
from export.interactions import Interactions
from udfs.sessions import Ints


class Contender(Protocol):
    """What can be measured. `parameters`, a mapping, is shown where a contender has it."""

    @property
    def name(self) -> str:
        """What its row is called."""

    def fit(self, train: Interactions, catalog: pa.Table | None) -> None:
        """Learn from past sessions and from the catalogue (schema udfs.datasets.CATALOG), if there is one."""

    def predict(self, sofar: Interactions, k: int, *, repeats: bool) -> Ints:
        """int64 [S, k]: what may follow each of S prefixes, numbers of items, best first; -1 fills up.

        A prefix's last event is now. repeats=False: an item of the prefix may not be named.
        """


BASELINES: Sequence[type[Baseline]] = (
    Popularity,
    AssociationRules,
    SequentialRules,
    SessionKnn,
    VectorSessionKnn,
    Stan,
    Vstan,
)
#: Contenders with parameters as they are, by the name of their row.
FIXED: Mapping[str, Callable[[], Contender]] = {
    "vsknn-published": lambda: published(VectorSessionKnn),
    "vstan-published": lambda: published(Vstan),
}
TUNED: Mapping[str, type[Baseline]] = {kind.name: kind for kind in BASELINES}
NAMES = (*ours.NAMES, *TUNED, *FIXED)


def draws(space: Mapping[str, Sequence[Any]], trials: int, seed: int) -> list[dict[str, Any]]:
    """At most `trials` different settings of a space: the first value of each parameter, then others at random."""
    shape = tuple(len(values) for values in space.values())
    others = np.random.default_rng(seed).permutation(math.prod(shape) - 1)[: trials - 1] + 1
    places = np.unravel_index(np.append(0, others), shape)
    columns = [[values[place] for place in chosen] for values, chosen in zip(space.values(), places, strict=True)]
    return [dict(zip(space, setting, strict=True)) for setting in zip(*columns, strict=True)]
