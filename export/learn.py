"""The learned ranker: what past sessions say about which candidate is met next, as trees that become ONNX.

LambdaMART (Burges 2010, "From RankNet to LambdaRank to LambdaMART", MSR-TR-2010-82) by LightGBM over the columns of
udfs.candidates, which are made for training by the code that makes them in a job. Trees learn from the latest sessions,
with sources that know only what was there before: as in a job, where the bundle is older than the session.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from onnx import TensorProto, helper

from export.co_visits import visits_of
from export.interactions import Interactions
from export.past import near, past_sessions
from udfs.bundles.bundle import Bundle
from udfs.bundles.manifest import FORMAT, EncoderInfo, Manifest, RankerInfo
from udfs.candidates.generator import CandidateGenerator, Candidates
from udfs.candidates.source import SessionContext
from udfs.catalog.items import LiveItems
from udfs.core.arrays import concat_ranges, position_in_group, top_k_per_group
from udfs.core.errors import ShopstreamError
from udfs.core.exact import SCORE_SCALE, to_grid
from udfs.ranking.learned import shortlist
from udfs.ranking.options import RankOptions
from udfs.sessions.columns import Sessions
from udfs.sessions.signals import item_rows, signals_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]
Encode = Callable[[Sequence[str]], Vectors]
Progress = Callable[[float], None]

#: The share of sessions that trees learn from, the latest; of these, the latest fifth measures them.
LEARN_SHARE, MEASURE_SHARE = 0.2, 0.2
#: Positions in sessions that are learned from and measured on, at most.
POSITIONS, MEASURED = 40_000, 5_000
#: Candidates of a position beside the one that was met, as many are drawn.
OTHERS = 80
#: Events of a session that its prefixes keep, the last ones.
PREFIX = 64
#: A prefix's answer counts when it is among so many.
CUT = 20
#: Trees at most, and how many more are tried at a time.
TREES, TREES_STEP = 150, 10
#: Trees that choose the candidates for which it is worth to ask all.
FIRST_TREES = 20
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
#: Scores stay below this, so that float32 holds them exactly in 1/MICRO.
LARGEST_SCORE = 16.0


@dataclass(frozen=True)
class Learned:
    """A ranker and what its making showed.

    importance: each column's share of what the splits gained; mrr: on the measured part, by number of trees.
    """

    model: bytes
    info: RankerInfo
    importance: dict[str, float]
    mrr: dict[int, float]


@dataclass(frozen=True)
class _Groups:
    """Candidates of positions: columns float32 [n, columns], position int64 [n], met bool [n]; positions in all."""

    columns: Vectors
    position: Ints
    item: Ints
    met: npt.NDArray[np.bool_]
    positions: int


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
    finder = CandidateGenerator(bundle, LiveItems(bundle), repeats=repeats)
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


def write_past(folder: Path, log: Interactions, items: pa.Table, vectors: Vectors) -> None:
    """The files of a bundle that the sources read."""
    beside, follows = near(log, len(items))
    popularity = np.bincount(log.item, minlength=len(items)).astype(np.float64)
    pq.write_table(items.append_column("popularity", pa.array(popularity)), folder / "items.parquet")
    np.save(folder / "item_vectors.npy", vectors)
    sp.save_npz(folder / "co_visits.npz", visits_of(log.session, log.time, log.item, len(items)))
    sp.save_npz(folder / "beside.npz", beside)
    sp.save_npz(folder / "follows.npz", follows)
    past = past_sessions(log)
    np.savez(folder / "past_sessions.npz", **{name: getattr(past, name) for name in past.__dataclass_fields__})


def prefixes(log: Interactions, places: Ints) -> Interactions:
    """Each place (int64 [n], an event's number) as a session of its own: the last PREFIX events before it."""
    session = log.session[places]
    event, _ = concat_ranges(np.maximum(log.offsets[session], places - PREFIX), places)
    offsets = np.append(0, np.cumsum(np.minimum(places - log.offsets[session], PREFIX)))
    columns = {name: getattr(log, name)[event] for name in ("item", "time", "type_code")}
    return replace(log, offsets=offsets, user=log.user[session], **columns)


def sessions_of(log: Interactions) -> Sessions:
    """As a job would hand them over; prices and the like unknown."""
    names, count = np.array(log.items, dtype=object), len(log.item)
    unknown, nothing = np.full(count, np.nan), np.full(count, None)
    return Sessions(
        offsets=log.offsets,
        start=log.start,
        end=log.end,
        count=np.diff(log.offsets),
        event_time=log.time,
        type_code=log.type_code,
        item_id=names[log.item],
        **dict.fromkeys(("price", "quantity", "rating", "dwell_ms"), unknown),
        **dict.fromkeys(("query", "event_id", "device", "timezone", "returning", "locale"), nothing),
    )


def candidates(finder: CandidateGenerator, sofar: Interactions, encode: Encode) -> Candidates:
    """What a job would choose from for these sessions."""
    return finder.find(query_of(finder, sofar, encode))


def query_of(finder: CandidateGenerator, sofar: Interactions, encode: Encode) -> SessionContext:
    """These sessions as a job would look at them."""
    sessions = sessions_of(sofar)
    rows = item_rows(sessions, finder.items.row_of)
    signals = signals_of(sessions, rows, finder.items.titles, RankOptions().recent, RankOptions().decay)
    users = [sofar.users[number] for number in sofar.user]
    return finder.query(users, sessions, rows, signals, to_grid(encode(signals.text)))


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


def _groups(
    finder: CandidateGenerator,
    log: Interactions,
    encode: Encode,
    rng: np.random.Generator,
    most: int,
    progress: Progress,
    *,
    repeats: bool,
) -> _Groups:
    """The candidates at up to `most` positions of sessions, drawn at random."""
    asked = np.arange(len(log.item)) > log.offsets[:-1][log.session]
    if not repeats:
        asked &= log.first_of_item
    places = np.flatnonzero(asked)
    if len(places) > most:
        places = np.sort(rng.choice(places, most, replace=False))
    parts: list[Candidates] = []
    chunk = finder.most_sessions
    for first in range(0, len(places), chunk):
        parts.append(candidates(finder, prefixes(log, places[first : first + chunk]), encode))
        progress(min(1.0, (first + chunk) / len(places)))
    sizes = [len(part.item) for part in parts]
    position = np.concatenate([part.session for part in parts] or [np.empty(0, dtype=np.int64)])
    position = position + chunk * np.repeat(np.arange(len(parts)), sizes)
    item = np.concatenate([part.item for part in parts] or [np.empty(0, dtype=np.int64)])
    columns = np.concatenate([part.columns for part in parts] or [np.empty((0, len(finder.columns)), np.float32)])
    # The finder numbers items as the catalogue does, the log as well.
    return _Groups(columns, position, item, item == log.item[places][position], len(places))


def _chosen(groups: _Groups, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """bool [n]: of positions whose item was among the candidates, that item and up to OTHERS others at random."""
    has = np.zeros(groups.positions, dtype=bool)
    has[groups.position[groups.met]] = True
    lot = np.where(groups.met, -1.0, rng.random(len(groups.met)))
    order = np.lexsort((lot, groups.position))
    position = groups.position[order]
    chosen = np.zeros(len(lot), dtype=bool)
    chosen[order] = position_in_group(position) <= OTHERS
    return np.asarray(chosen & has[groups.position])


def _qualities(booster: Any, groups: _Groups) -> dict[int, dict[str, float]]:
    """By number of trees; of all of them alone where there is nothing to measure on."""
    if not len(groups.item):
        return {TREES: _quality(groups, np.empty(0))}
    counts, asked = range(FIRST_TREES, TREES + 1, TREES_STEP), _asked(booster, groups)
    return {trees: _quality(groups, _scores(booster, groups, asked, trees)) for trees in counts}


def _asked(booster: Any, groups: _Groups) -> Ints:
    """int64 [m]: what the first trees leave for all of them, as in a job."""
    first = np.rint(booster.predict(groups.columns, num_iteration=FIRST_TREES) * SCORE_SCALE)
    return top_k_per_group(groups.position, first, shortlist(CUT))


def _scores(booster: Any, groups: _Groups, asked: Ints, trees: int) -> Floats:
    """float64 [n]: as a job ranks with so many trees; what is not asked comes last."""
    score = np.full(len(groups.item), -np.inf)
    score[asked] = booster.predict(groups.columns[asked], num_iteration=trees)
    return score


def _quality(groups: _Groups, score: Floats) -> dict[str, float]:
    """Hit rate and mean reciprocal rank among the first CUT, and the share that the candidates hold at all."""
    order = np.lexsort((groups.item, -score, groups.position))
    position = groups.position[order]
    place = position_in_group(position)
    hit = groups.met[order] & (place < CUT)
    count = max(groups.positions, 1)
    figures = {
        f"hr_{CUT}": hit.sum() / count,
        f"mrr_{CUT}": (hit / (place + 1)).sum() / count,
        "candidate_recall": groups.met.sum() / count,
        "positions": float(groups.positions),
    }
    return {name: round(float(figure), 4) for name, figure in figures.items()}


def to_onnx(
    trees: Sequence[dict[str, Any]], columns: Sequence[str], source_of: dict[str, str]
) -> tuple[bytes, tuple[str, ...]]:
    """LightGBM's trees (dump_model) as ONNX.

    `pairs` float32 [n, columns] to `first` float32 [n, 1], the score by the first trees alone; and
    `shortlist` float32 [m, columns] to `weights` float32 [m, sources], by all of them.

    What a leaf is worth, less the mean of its tree, goes to the sources of the columns on the way to it, each getting
    what its splits changed the mean of the leaves below by (Saabas 2014, "Interpreting random forests"): so the weights
    of the sources add up to the score. They are whole numbers of 1/MICRO, shrunk together until no sum that may come up
    on the way reaches 2^24, beyond which float32 would round. Also gives the sources' names.
    """
    sources = tuple(dict.fromkeys(source_of[column] for column in columns))
    numbers = [sources.index(source_of[column]) for column in columns]
    leaves = [list(_leaves(tree["tree_structure"], numbers, len(sources))) for tree in trees]
    largest = sum(np.abs(np.array([each for _, each in of_tree])).sum(axis=1).max(initial=0.0) for of_tree in leaves)
    scale = SCORE_SCALE * min(1.0, LARGEST_SCORE / max(largest, 1e-12))
    whole = [[(leaf, np.rint(weights * scale)) for leaf, weights in of_tree] for of_tree in leaves]
    totals = [[(leaf, weights.sum(keepdims=True)) for leaf, weights in of_tree] for of_tree in whole[:FIRST_TREES]]
    ends = (("pairs", "first", totals), ("shortlist", "weights", whole))
    graph = helper.make_graph(
        [_ensemble(trees, leaves, input_name, output) for input_name, output, leaves in ends],
        "ranker",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, len(columns)]) for name, _, _ in ends],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, len(leaves[0][0][1])])
            for _, name, leaves in ends
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="shopstream")
    onnx.checker.check_model(model)
    return model.SerializeToString(), sources


def _ensemble(
    trees: Sequence[dict[str, Any]], leaves: Sequence[Sequence[tuple[int, Floats]]], input_name: str, output: str
) -> onnx.NodeProto:
    """The first len(leaves) trees; leaves: of each tree its leaves' numbers and what they give, float64 [targets]."""
    found: dict[str, list[Any]] = {name: [] for name in (*_NODES, *_TARGETS)}
    for number, (tree, of_tree) in enumerate(zip(trees, leaves, strict=False)):
        for node in _nodes(tree["tree_structure"]):
            found["nodes_treeids"].append(number)
            for name in _NODES[1:]:
                found[name].append(node[name])
        for leaf, weights in of_tree:
            for target, weight in enumerate(weights.tolist()):
                if weight:
                    for name, value in zip(_TARGETS, (number, leaf, target, weight), strict=True):
                        found[name].append(value)
    targets = len(leaves[0][0][1])
    return helper.make_node(
        "TreeEnsembleRegressor", [input_name], [output], domain="ai.onnx.ml", n_targets=targets, **found
    )


_NODES = (
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes", "nodes_truenodeids",
    "nodes_falsenodeids",
)  # fmt: skip
_TARGETS = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


def _number(node: dict[str, Any], splits: int) -> int:
    """Splits first, then leaves."""
    return int(node["split_index"]) if "split_index" in node else splits + int(node.get("leaf_index", 0))


def _count_splits(node: dict[str, Any]) -> int:
    return 1 + _count_splits(node["left_child"]) + _count_splits(node["right_child"]) if "split_index" in node else 0


def _nodes(root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    splits, waiting = _count_splits(root), [root]
    while waiting:
        node = waiting.pop()
        row = dict.fromkeys(_NODES, 0) | {"nodes_nodeids": _number(node, splits), "nodes_modes": "LEAF"}
        if "split_index" in node:
            waiting += [node["left_child"], node["right_child"]]
            row |= {
                "nodes_featureids": int(node["split_feature"]),
                "nodes_values": _not_above(float(node["threshold"])),
                "nodes_modes": "BRANCH_LEQ",
                "nodes_truenodeids": _number(node["left_child"], splits),
                "nodes_falsenodeids": _number(node["right_child"], splits),
            }
        else:
            row["nodes_values"] = 0.0
        yield row


def _not_above(threshold: float) -> float:
    """The largest float32 that is not above a threshold, so that float32 values fall on the same side."""
    rounded = np.float32(threshold)
    return float(rounded if float(rounded) <= threshold else np.nextafter(rounded, np.float32(-np.inf)))


def _leaves(root: dict[str, Any], source_of: Sequence[int], sources: int) -> Iterator[tuple[int, Floats]]:
    """Each leaf's number and what it gives to each source, float64 [sources]."""
    splits = _count_splits(root)
    waiting: list[tuple[dict[str, Any], Floats]] = [(root, np.zeros(sources))]
    while waiting:
        node, given = waiting.pop()
        if "split_index" not in node:
            yield _number(node, splits), given
            continue
        here = _mean(node)[0]
        for child in (node["left_child"], node["right_child"]):
            more = given.copy()
            more[source_of[int(node["split_feature"])]] += _mean(child)[0] - here
            waiting.append((child, more))


def _mean(node: dict[str, Any]) -> tuple[float, int]:
    """The mean of the leaves below a node, each by the rows that trained it, and how many these were."""
    if "split_index" not in node:
        return float(node["leaf_value"]), int(node.get("leaf_count", 0))
    (left, left_rows), (right, right_rows) = _mean(node["left_child"]), _mean(node["right_child"])
    rows = left_rows + right_rows
    return (left * left_rows + right * right_rows) / max(rows, 1), rows


def bare_manifest(dimensions: int) -> Manifest:
    """Of the bundle that is there while a ranker learns, without an encoder."""
    return Manifest(FORMAT, "learning", "none", {}, EncoderInfo(0, "mean", True, "", dimensions, {}), 0, 0, {})
