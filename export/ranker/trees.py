"""Writes LightGBM's trees as ONNX, with each leaf's value split among the sources."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from udfs.core.arrays import Floats
from udfs.core.exact import SCORE_SCALE

#: At most this many trees.
TREES = 150
#: Numbers of trees are tried in steps of this many.
TREES_STEP = 10
#: The first trees, which shortlist the candidates that all trees score.
FIRST_TREES = 20
#: Scores stay below this, so that float32 holds them exactly in 1/SCORE_SCALE.
LARGEST_SCORE = 16.0

_NODE_FIELDS = (
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes", "nodes_truenodeids",
    "nodes_falsenodeids",
)  # fmt: skip
_TARGET_FIELDS = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


@dataclass(frozen=True)
class _Tree:
    """One tree and the values of its L leaves."""

    root: dict[str, Any]  #: as LightGBM dumps it
    leaf: list[int]  #: [L], node number of each leaf
    weights: Floats  #: float64 [L, targets]

    @property
    def largest(self) -> float:
        """The largest sum of a leaf's absolute weights."""
        return float(np.abs(self.weights).sum(axis=1).max(initial=0.0))

    def scaled(self, scale: float) -> "_Tree":
        """Return the tree with weights times `scale`, rounded to whole numbers."""
        return replace(self, weights=np.rint(self.weights * scale))

    def summed(self) -> "_Tree":
        """Return the tree with one target: the sum of all."""
        return replace(self, weights=self.weights.sum(axis=1, keepdims=True))


def to_onnx(
    trees: Sequence[dict[str, Any]], features: Sequence[str], source_of: dict[str, str]
) -> tuple[bytes, tuple[str, ...]]:
    """Return LightGBM's trees (dump_model) as ONNX, and the names of the sources.

    The model has two parts: from `pairs` float32 [n, features] to `first` float32 [n, 1], the score of the first trees
    alone; and from `shortlist` float32 [m, features] to `weights` float32 [m, sources], by all trees.

    A leaf's value, less its tree's mean, is split among the sources of the features on the path to the leaf. Each split
    gives its source the change of the mean of the leaves below it (Saabas 2014, "Interpreting random forests"), so the
    sources' weights add up to the score. Weights are whole numbers of 1/SCORE_SCALE, scaled down together until no
    possible sum reaches 2^24, beyond which float32 would round.
    """
    sources = tuple(dict.fromkeys(source_of[feature] for feature in features))
    numbers = [sources.index(source_of[feature]) for feature in features]
    split = [_split_among_sources(tree["tree_structure"], numbers, len(sources)) for tree in trees]
    scale = SCORE_SCALE * min(1.0, LARGEST_SCORE / max(sum(tree.largest for tree in split), 1e-12))
    whole = [tree.scaled(scale) for tree in split]
    first = [tree.summed() for tree in whole[:FIRST_TREES]]
    graph = helper.make_graph(
        [_ensemble(first, "pairs", "first"), _ensemble(whole, "shortlist", "weights")],
        "ranker",
        [_floats("pairs", len(features)), _floats("shortlist", len(features))],
        [_floats("first", 1), _floats("weights", len(sources))],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="shopstream")
    onnx.checker.check_model(model)
    return model.SerializeToString(), sources


def _floats(name: str, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])


def _split_among_sources(root: dict[str, Any], source_of: Sequence[int], sources: int) -> _Tree:
    leaves = list(_leaves(root, source_of, sources))
    return _Tree(root, [leaf for leaf, _ in leaves], np.array([weights for _, weights in leaves]))


def _ensemble(trees: Sequence[_Tree], input_name: str, output: str) -> onnx.NodeProto:
    fields: dict[str, list[Any]] = {name: [] for name in (*_NODE_FIELDS, *_TARGET_FIELDS)}
    for number, tree in enumerate(trees):
        for node in _nodes(tree.root):
            fields["nodes_treeids"].append(number)
            for name in _NODE_FIELDS[1:]:
                fields[name].append(node[name])
        for leaf, weights in zip(tree.leaf, tree.weights.tolist(), strict=True):
            for target, weight in enumerate(weights):
                if weight:
                    for name, value in zip(_TARGET_FIELDS, (number, leaf, target, weight), strict=True):
                        fields[name].append(value)
    targets = trees[0].weights.shape[1]
    return helper.make_node(
        "TreeEnsembleRegressor", [input_name], [output], domain="ai.onnx.ml", n_targets=targets, **fields
    )


def _number(node: dict[str, Any], splits: int) -> int:
    """Return a node's number: splits first, then leaves."""
    return int(node["split_index"]) if "split_index" in node else splits + int(node.get("leaf_index", 0))


def _count_splits(node: dict[str, Any]) -> int:
    return 1 + _count_splits(node["left_child"]) + _count_splits(node["right_child"]) if "split_index" in node else 0


def _nodes(root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    splits, waiting = _count_splits(root), [root]
    while waiting:
        node = waiting.pop()
        row = dict.fromkeys(_NODE_FIELDS, 0) | {"nodes_nodeids": _number(node, splits), "nodes_modes": "LEAF"}
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
    """Return the largest float32 not above a threshold, so that float32 values fall on the same side."""
    rounded = np.float32(threshold)
    return float(rounded if float(rounded) <= threshold else np.nextafter(rounded, np.float32(-np.inf)))


def _leaves(root: dict[str, Any], source_of: Sequence[int], sources: int) -> Iterator[tuple[int, Floats]]:
    """Yield each leaf's number and the weight of each source there, float64 [sources]."""
    splits = _count_splits(root)
    waiting: list[tuple[dict[str, Any], Floats]] = [(root, np.zeros(sources))]
    while waiting:
        node, weights = waiting.pop()
        if "split_index" not in node:
            yield _number(node, splits), weights
            continue
        mean, _ = _mean(node)
        for child in (node["left_child"], node["right_child"]):
            of_child = weights.copy()
            of_child[source_of[int(node["split_feature"])]] += _mean(child)[0] - mean
            waiting.append((child, of_child))


def _mean(node: dict[str, Any]) -> tuple[float, int]:
    """Return the mean of the leaves below a node, weighted by the rows that trained them, and the number of rows."""
    if "split_index" not in node:
        return float(node["leaf_value"]), int(node.get("leaf_count", 0))
    (left, left_rows), (right, right_rows) = _mean(node["left_child"]), _mean(node["right_child"])
    rows = left_rows + right_rows
    return (left * left_rows + right * right_rows) / max(rows, 1), rows
