from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from histories import DIMENSIONS, VECTORS, catalog, encode, trained, walks

from export.ranker import train
from export.ranker.positions import bare_manifest
from export.ranker.train import MEASURE_SHARE, Recipe, Shop, learning_parts, train_ranker
from udfs.bundles.bundle import Bundle
from udfs.core.errors import ShopstreamError


def test_number_of_trees_ranks_best():
    ensembles = {node.output[0]: node.attribute for node in onnx.load_model_from_string(trained().model).graph.node}
    (numbers,) = (each.ints for each in ensembles["weights"] if each.name == "nodes_treeids")
    trees = len(set(numbers))
    assert trained().info.quality["mrr_20"] == trained().mrr[trees] == max(trained().mrr.values())


def test_same_sessions_train_same_ranker(tmp_path: Path):
    log = walks(400, 4)
    models = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        models.append(train_ranker(Shop(log, catalog(), VECTORS, encode), tmp_path / name, Recipe()).model)
    assert models[0] == models[1]


def test_sources_know_nothing_of_the_future(tmp_path: Path):
    """A session that begins early and goes on late would tell the sources what is to be learned."""
    log = walks(400, 6)
    before, latest = log.split(MEASURE_SHARE)
    planted = replace(before, time=np.where(np.arange(len(before.time)) % 5 == 0, log.time.max(), before.time))
    leaky = replace(log, time=np.concatenate((planted.time, latest.time)))
    train_ranker(Shop(leaky, catalog(), VECTORS, encode), tmp_path, Recipe())
    past = Bundle(tmp_path, bare_manifest(DIMENSIONS)).past_sessions()
    assert past.end.max() < latest.start.min()
    assert 0 < len(past.item) <= (planted.time < latest.start.min()).sum() < len(before.item)  # some items are hidden


def test_small_shops_learn_from_more_of_the_past(monkeypatch: pytest.MonkeyPatch):
    log = walks(1000, 2)
    asked = log.asked(recommend_seen=False)
    parts = learning_parts(log, recommend_seen=False)
    assert (len(parts), sum(map(len, parts))) == (10, 700)
    assert [part.start[0] for part in parts] == sorted(part.start[0] for part in parts)
    assert parts[-1].end[-1] == log.end[-1]
    # A fifth of the positions is two sevenths of what may be learned from: three parts of ten.
    monkeypatch.setattr(train, "POSITIONS", int(asked[log.offsets[800] :].sum()))
    parts = learning_parts(log, recommend_seen=False)
    assert (len(parts), sum(map(len, parts))) == (3, 200)
    monkeypatch.setattr(train, "POSITIONS", 100)
    assert [len(part) for part in learning_parts(log, recommend_seen=False)] == [80, 80]
    assert learning_parts(log.part(0, 1), recommend_seen=False) == []


def test_new_items_are_measured():
    quality = trained().info.quality
    assert 0 <= quality["hr_20_new_by_titles"] <= 1
    assert 0 < quality["hr_20_new"] <= 1
    assert quality["positions_new"] > 0


def test_too_few_sessions_are_refused(tmp_path: Path):
    with pytest.raises(ShopstreamError, match="give more"):
        train_ranker(Shop(walks(16, 1), catalog(), VECTORS, encode), tmp_path, Recipe())
