"""The learned ranker: what past sessions say about which candidate is met next, as trees that become ONNX.

LambdaMART (Burges 2010, "From RankNet to LambdaRank to LambdaMART", MSR-TR-2010-82) by LightGBM over the columns of
udfs.candidates, which are made for training by the code that makes them in a job. Trees learn from the latest sessions,
with sources that know only what was there before: as in a job, where the bundle is older than the session."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from export.history.files import write_past
from export.history.interactions import Interactions
from export.ranker.positions import Encode, Progress, _chosen, _groups, bare_manifest
from export.ranker.quality import CUT, _qualities
from export.ranker.trees import TREES, to_onnx
from udfs.bundle import Bundle, RankerInfo
from udfs.candidates import Finder
from udfs.encoder import Vectors
from udfs.errors import ShopstreamError
from udfs.items import LiveItems

#: The share of sessions that trees learn from, the latest; of these, the latest fifth measures them.
LEARN_SHARE, MEASURE_SHARE = 0.2, 0.2


#: Positions in sessions that are learned from and measured on, at most.
POSITIONS, MEASURED = 40_000, 5_000


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


#: Positions that have to have their answer among the candidates, at least, for trees to learn anything.
LEAST_POSITIONS = 200


@dataclass(frozen=True)
class Learned:
    """A ranker and what its making showed.

    importance: each column's share of what the splits gained; mrr: on the measured part, by number of trees.
    """

    model: bytes
    info: RankerInfo
    importance: dict[str, float]
    mrr: dict[int, float]


def learn(
    log: Interactions,
    items: pa.Table,
    vectors: Vectors,
    encode: Encode,
    folder: Path,
    progress: Progress = lambda _: None,
    *,
    repeats: bool = False,
) -> Learned:
    """A ranker from sessions of the catalogue's items.

    items: the catalogue, a row an item, item_id as log.items; vectors: float32 [items, dimensions]; folder: takes what
    the sources read; progress: is called with the share done; repeats: whether what a session has seen may be
    recommended again. Raises ShopstreamError for too few sessions.
    """
    before, latest = log.split(LEARN_SHARE)
    if not len(before) or not len(latest):
        raise ShopstreamError(f"{len(log)} past sessions are too few to learn a ranker from")
    write_past(folder, before.before(int(latest.start[0])), items, vectors)
    bundle = Bundle(folder, bare_manifest(vectors.shape[1]))
    finder = Finder(bundle, LiveItems(bundle), repeats=repeats)
    taught, measured = latest.split(MEASURE_SHARE)
    rng = np.random.default_rng(1)
    groups = _groups(finder, taught, encode, rng, POSITIONS, lambda share: progress(0.7 * share), repeats=repeats)
    chosen = _chosen(groups, rng)
    sizes = np.unique(groups.position[chosen], return_counts=True)[1]
    if len(sizes) < LEAST_POSITIONS:
        raise ShopstreamError(
            f"past sessions have {len(sizes)} places to learn from; a ranker needs {LEAST_POSITIONS}: give more"
        )
    lgb = _lightgbm()
    data = lgb.Dataset(groups.columns[chosen], groups.met[chosen], group=sizes, feature_name=list(finder.columns))
    booster = lgb.train(PARAMETERS, data, TREES)
    progress(0.85)
    if not booster.feature_importance("split").any():
        raise ShopstreamError("past sessions taught the ranker nothing: give more sessions, or a larger catalogue")
    rest = _groups(
        finder, measured, encode, rng, MEASURED, lambda share: progress(0.85 + 0.14 * share), repeats=repeats
    )
    qualities = _qualities(booster, rest)
    mrr = {trees: quality[f"mrr_{CUT}"] for trees, quality in qualities.items()}
    trees = max(mrr, key=mrr.__getitem__)  # further ones learn by heart what positions of a small shop have by chance
    model, sources = to_onnx(booster.dump_model(num_iteration=trees)["tree_info"], finder.columns, finder.source_of)
    gain = booster.feature_importance("gain", iteration=trees)
    progress(1.0)
    importance = dict(zip(finder.columns, (gain / max(gain.sum(), 1e-12)).tolist(), strict=True))
    return Learned(model, RankerInfo(finder.columns, sources, repeats, qualities[trees]), importance, mrr)


def let_threads_sleep() -> None:
    """To be called before OpenMP is loaded, by PyTorch or LightGBM: threads of theirs that wait sleep.

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
