"""LightGBM's trees as ONNX."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from udfs.ranking import MICRO
from udfs.sessions import Floats

#: Trees at most, and how many more are tried at a time.
TREES, TREES_STEP = 150, 10


#: Trees that choose the candidates for which it is worth to ask all.
FIRST_TREES = 20
#: Scores stay below this, so that float32 holds them exactly in 1/MICRO.
LARGEST_SCORE = 16.0


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
    scale = MICRO * min(1.0, LARGEST_SCORE / max(largest, 1e-12))
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
