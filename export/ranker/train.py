"""Trains the ranker (LambdaMART) and exports it to ONNX.

LambdaMART (Burges 2010, "From RankNet to LambdaRank to LambdaMART", MSR-TR-2010-82) by LightGBM, over the ranking
features of udfs.candidates: the same code computes them here and in the job. Trees are trained on the latest sessions,
with sources that know only what came before: exactly as in the job, where the bundle is older than the session.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from export.history.files import write_past
from export.history.interactions import Interactions
from export.ranker.positions import Encode, Groups, Progress, bare_manifest, sample_candidates, sample_groups
from export.ranker.quality import CUT, MRR, quality_by_trees
from export.ranker.trees import TREES, to_onnx
from udfs.bundles.bundle import Bundle
from udfs.bundles.manifest import RankerInfo
from udfs.candidates.generator import CandidateGenerator
from udfs.catalog.items import LiveItems
from udfs.core.errors import ShopstreamError
from udfs.encoder.encoder import Vectors

#: The latest share of the sessions, on which trees are trained; the sources know the others.
LEARN_SHARE = 0.2
#: The latest share of these, which measures the trees instead.
MEASURE_SHARE = 0.2
#: Train on at most this many positions in sessions.
POSITIONS = 40_000
#: Measure on at most this many positions.
MEASURED = 5_000
PARAMETERS: dict[str, Any] = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": CUT,
    "learning_rate": 0.08,
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.7,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
#: Trees learn something only if at least this many positions have their target among the candidates.
LEAST_POSITIONS = 200


@dataclass(frozen=True)
class TrainedRanker:
    """A ranker and figures of its training."""

    model: bytes  #: ranker.onnx
    info: RankerInfo
    importance: dict[str, float]  #: by feature: its share of the splits' total gain
    mrr: dict[int, float]  #: by number of trees, on the measured positions


def train_ranker(
    log: Interactions,
    items: pa.Table,
    vectors: Vectors,
    encode: Encode,
    folder: Path,
    progress: Progress = lambda _: None,
    *,
    recommend_seen: bool = False,
) -> TrainedRanker:
    """Train a ranker on sessions with the catalog's items.

    items: the catalog, one row per item, in the order of log.items. vectors: float32 [items, dimensions]. folder:
    where the files that the sources read are written. progress: is called with the share done. recommend_seen: the
    ranker may recommend items that the session has already seen. Raises ShopstreamError for too few sessions.
    """
    earlier, latest = log.split(LEARN_SHARE)
    if not len(earlier) or not len(latest):
        raise ShopstreamError(f"{len(log)} past sessions are too few to learn a ranker from")
    write_past(folder, earlier.before(int(latest.start[0])), items, vectors)
    bundle = Bundle(folder, bare_manifest(vectors.shape[1]))
    generator = CandidateGenerator(bundle, LiveItems(bundle), recommend_seen=recommend_seen)
    trained, measured = latest.split(MEASURE_SHARE)
    rng = np.random.default_rng(1)

    def sample(part: Interactions, count: int, show: Callable[[float], None]) -> Groups:
        return sample_groups(generator, part, encode, rng, count, show, recommend_seen=recommend_seen)

    booster = _fit(sample(trained, POSITIONS, lambda share: progress(0.7 * share)), generator.feature_names, rng)
    progress(0.85)
    rest = sample(measured, MEASURED, lambda share: progress(0.85 + 0.14 * share))
    qualities = quality_by_trees(booster, rest)
    mrr = {trees: quality[MRR(CUT).name] for trees, quality in qualities.items()}
    trees = max(mrr, key=mrr.__getitem__)  # more trees overfit on small shops
    model, sources = to_onnx(
        booster.dump_model(num_iteration=trees)["tree_info"], generator.feature_names, generator.source_of
    )
    gain = booster.feature_importance("gain", iteration=trees)
    progress(1.0)
    return TrainedRanker(
        model=model,
        info=RankerInfo(generator.feature_names, sources, recommend_seen, qualities[trees]),
        importance=dict(zip(generator.feature_names, (gain / max(gain.sum(), 1e-12)).tolist(), strict=True)),
        mrr=mrr,
    )


def _fit(groups: Groups, features: tuple[str, ...], rng: np.random.Generator) -> Any:
    """Return LightGBM's booster of TREES trees."""
    chosen = sample_candidates(groups, rng)
    sizes = np.unique(groups.position[chosen], return_counts=True)[1]
    if len(sizes) < LEAST_POSITIONS:
        raise ShopstreamError(
            f"past sessions have {len(sizes)} positions to learn from; a ranker needs {LEAST_POSITIONS}: give more"
        )
    lgb = _lightgbm()
    data = lgb.Dataset(groups.features[chosen], groups.is_target[chosen], group=sizes, feature_name=list(features))
    booster = lgb.train(PARAMETERS, data, TREES)
    if not booster.feature_importance("split").any():
        raise ShopstreamError("past sessions taught the ranker nothing: give more sessions, or a larger catalog")
    return booster


def let_threads_sleep() -> None:
    """Make waiting threads of PyTorch and LightGBM sleep. Call this before either loads OpenMP.

    Where they spin, LightGBM takes ten to twenty times as long on a machine that has other work.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _lightgbm() -> Any:
    let_threads_sleep()
    try:
        import lightgbm
    except OSError as error:  # its wheel brings no OpenMP along
        raise ShopstreamError(f"LightGBM cannot be loaded ({error}): install libgomp1, on macOS libomp") from None
    return lightgbm
