"""Trains the ranker (LambdaMART) and exports it to ONNX.

LambdaMART (Burges 2010, "From RankNet to LambdaRank to LambdaMART", MSR-TR-2010-82) by LightGBM, over the ranking
features of udfs.candidates: the same code computes them here and in the job. Trees are trained on later sessions, with
sources that know only what came before: exactly as in the job, where the bundle is older than the session. Where the
latest sessions are few, more parts of the past are learned from, each with sources of what lay before it (a rolling
origin). In every second part some items are hidden from the sources, so that trees meet new items that are right.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from export.history.files import write_past
from export.history.interactions import Interactions
from export.ranker.positions import Encode, Groups, Progress, bare_manifest, sample_candidates, sample_groups
from export.ranker.quality import CUT, MRR, HitRate, hit_rate_of, quality_by_trees, scores_of
from export.ranker.trees import TREES, to_onnx
from udfs.bundles.bundle import Bundle
from udfs.bundles.manifest import RankerInfo
from udfs.candidates.generator import CandidateGenerator
from udfs.catalog.items import LiveItems
from udfs.core.arrays import Bools
from udfs.core.errors import ShopstreamError
from udfs.encoder.encoder import Vectors

#: The latest share of the sessions, which measures the trees; the sources know the others.
MEASURE_SHARE = 0.04
#: The share of the sessions before these that trees are trained on, if it has POSITIONS positions.
LEARN_SHARE = 0.16
#: The first share of the sessions, which only sources learn from, however few there are.
FIRST_SHARE = 0.3
#: Parts that the sessions between them are cut into, at most; and those of LEARN_SHARE alone.
PARTS, LARGE_PARTS = 10, 2
#: The share of the items that are hidden from the sources of every second part.
HIDDEN_SHARE = 0.2
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
    earlier, measured = log.split(MEASURE_SHARE)
    parts = learning_parts(earlier, recommend_seen=recommend_seen)
    if not parts or not len(measured):
        raise ShopstreamError(f"{len(log)} past sessions are too few to learn a ranker from")
    rng = np.random.default_rng(1)

    def sample(
        part: Interactions, hidden: Bools, count: int, show: Callable[[float], None]
    ) -> tuple[CandidateGenerator, Groups]:
        write_past(folder, log.before(int(part.start[0])).without_items(hidden), items, vectors)
        bundle = Bundle(folder, bare_manifest(vectors.shape[1]))
        generator = CandidateGenerator(bundle, LiveItems(bundle), recommend_seen=recommend_seen)
        return generator, sample_groups(generator, part, encode, rng, count, show, recommend_seen=recommend_seen)

    groups: list[Groups] = []
    for number, part in enumerate(parts):
        # The latest part, and every second one before it, is learned from as the job sees it.
        hidden = rng.random(len(items)) < HIDDEN_SHARE * ((len(parts) - number - 1) % 2)
        share_done = partial(_done, progress, number, len(parts))
        groups.append(sample(part, hidden, POSITIONS // len(parts), share_done)[1])
    nothing = np.zeros(len(items), dtype=bool)
    generator, rest = sample(measured, nothing, MEASURED, lambda share: progress(0.7 + 0.15 * share))
    booster = _fit(Groups.joined(groups), generator.feature_names, rng)
    qualities = quality_by_trees(booster, rest)
    mrr = {trees: quality[MRR(CUT).name] for trees, quality in qualities.items()}
    trees = max(mrr, key=mrr.__getitem__)  # more trees overfit on small shops
    model, sources = to_onnx(
        booster.dump_model(num_iteration=trees)["tree_info"], generator.feature_names, generator.source_of
    )
    gain = booster.feature_importance("gain", iteration=trees)
    quality = qualities[trees]
    if vectors.any():
        hidden = rng.random(len(items)) < HIDDEN_SHARE
        _, fresh = sample(measured, hidden, MEASURED, lambda share: progress(0.9 + 0.1 * share))
        quality |= _quality_of_new(fresh, hidden, booster, trees, generator.feature_names)
    progress(1.0)
    return TrainedRanker(
        model=model,
        info=RankerInfo(generator.feature_names, sources, recommend_seen, quality),
        importance=dict(zip(generator.feature_names, (gain / max(gain.sum(), 1e-12)).tolist(), strict=True)),
        mrr=mrr,
    )


def learning_parts(log: Interactions, *, recommend_seen: bool) -> list[Interactions]:
    """Return the parts of past sessions that trees are trained on, the earliest first.

    Two, of the latest LEARN_SHARE, if that has POSITIONS positions; else as many PARTS of what follows FIRST_SHARE as
    it takes to have them. Empty for a log that is too short.
    """
    asked = log.asked(recommend_seen=recommend_seen)
    per_session = np.bincount(log.session[asked], minlength=len(log))
    from_behind = np.cumsum(per_session[::-1])
    most = len(log) - round(len(log) * FIRST_SHARE)
    needed = int(np.searchsorted(from_behind, POSITIONS)) + 1
    taken = min(max(needed, round(len(log) * LEARN_SHARE)), most)
    count = LARGE_PARTS if taken <= round(len(log) * LEARN_SHARE) else -(-taken * PARTS // max(most, 1))
    bounds = np.unique(np.linspace(len(log) - taken, len(log), count + 1).astype(np.int64))
    return [log.part(int(first), int(last)) for first, last in pairwise(bounds) if first > 0]


def _quality_of_new(
    groups: Groups, hidden: Bools, booster: Any, trees: int, features: tuple[str, ...]
) -> dict[str, float]:
    """Return HR@20 of items that the sources know no past of, of the trees and by titles alone; empty without any."""
    among = hidden[groups.target]
    if not among.any():
        return {}
    titles = groups.features[:, features.index("content")].astype(np.float64)
    return {
        f"{HitRate(CUT).name}_new": hit_rate_of(groups, scores_of(booster, groups, trees), among),
        f"{HitRate(CUT).name}_new_by_titles": hit_rate_of(groups, titles, among),
        "positions_new": float(among.sum()),
    }


def _done(progress: Progress, part: int, parts: int, share: float) -> None:
    progress(0.7 * (part + share) / parts)


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
