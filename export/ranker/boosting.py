"""Learns LambdaMART trees with LightGBM (Burges 2010, "From RankNet to LambdaRank to LambdaMART", MSR-TR-2010-82)."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from export.ranker.positions import Groups, sample_candidates
from export.ranker.quality import CUT
from export.ranker.trees import TREES
from udfs.core.arrays import Bools, Ints
from udfs.core.errors import ShopstreamError
from udfs.encoder.encoder import Vectors

#: Trees learn something worth having if at least this many positions have their target among the candidates.
LEAST_POSITIONS = 50
#: A tree has one leaf per this many positions, within these bounds.
POSITIONS_PER_LEAF, LEAVES = 200, (7, 31)
FIXED: dict[str, Any] = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": CUT,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


@dataclass(frozen=True)
class Hyperparameters:
    """LightGBM's parameters that are chosen by the shop; the names are LightGBM's."""

    num_leaves: int = LEAVES[1]
    learning_rate: float = 0.08
    min_data_in_leaf: int = 50
    feature_fraction: float = 0.7
    lambda_l2: float = 10.0

    @classmethod
    def for_positions(cls, positions: int) -> "Hyperparameters":
        """Return the defaults for so many positions to learn from: few positions want small trees."""
        return cls(num_leaves=min(max(positions // POSITIONS_PER_LEAF, LEAVES[0]), LEAVES[1]))


class TooFewPositionsError(ShopstreamError):
    """Past sessions are too few to learn from."""


@dataclass(frozen=True)
class Sample:
    """What trees learn from: n candidates at positions whose own item is among them."""

    features: Vectors  #: float32 [n, features]
    is_target: Bools  #: bool [n]
    sizes: Ints  #: int64 [positions], candidates of each

    @classmethod
    def of(cls, groups: Sequence[Groups], rng: np.random.Generator) -> "Sample":
        """Draw candidates at random, of one part after the other: all at once would take twice the memory."""
        parts = []
        for each in groups:
            taken = sample_candidates(each, rng)
            sizes = np.unique(each.position[taken], return_counts=True)[1]
            parts.append((each.features[taken], each.is_target[taken], sizes))
        features, is_target, sizes = (np.concatenate(column) for column in zip(*parts, strict=True))
        return cls(features, is_target, sizes)


def boost(sample: Sample, features: Sequence[str], chosen: Hyperparameters | None = None, trees: int = TREES) -> Any:
    """Return LightGBM's booster of so many trees. chosen: None for the defaults for so many positions.

    Raises TooFewPositionsError for fewer than LEAST_POSITIONS, and where trees learn nothing.
    """
    positions = len(sample.sizes)
    if positions < LEAST_POSITIONS:
        raise TooFewPositionsError(
            f"past sessions have {positions} positions to learn from; a ranker needs {LEAST_POSITIONS}: give more"
        )
    chosen = chosen or Hyperparameters.for_positions(positions)
    lgb = import_lightgbm()
    data = lgb.Dataset(sample.features, sample.is_target, group=sample.sizes, feature_name=list(features))
    booster = lgb.train(FIXED | asdict(chosen), data, trees)
    if not booster.feature_importance("split").any():
        raise TooFewPositionsError("past sessions taught the ranker nothing: give more sessions, or a larger catalog")
    return booster


def let_threads_sleep() -> None:
    """Make waiting threads of PyTorch and LightGBM sleep. Call this before either loads OpenMP.

    Where they spin, LightGBM takes ten to twenty times as long on a machine that has other work.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def import_lightgbm() -> Any:
    """Return the package; ShopstreamError where its library cannot be loaded."""
    let_threads_sleep()
    try:
        import lightgbm
    except OSError as error:  # its wheel brings no OpenMP along
        raise ShopstreamError(f"LightGBM cannot be loaded ({error}): install libgomp1, on macOS libomp") from None
    return lightgbm
