import lightgbm as lgb
import numpy as np
import pytest

from export.ranker.positions import Groups
from export.ranker.quality import MRR, NDCG, HitRate, hit_rate_of, quality_by_trees
from export.ranker.train import PARAMETERS
from export.ranker.trees import FIRST_TREES, TREES, TREES_STEP


def test_more_trees_can_rank_worse():
    rng = np.random.default_rng(2)
    columns = rng.normal(size=(4000, 6)).astype(np.float32)
    position = np.repeat(np.arange(200), 20)
    told = columns[:, 0] + rng.normal(size=4000)  # the rest is chance
    met = told == np.maximum.reduceat(told, np.arange(0, 4000, 20))[position]
    groups = Groups(columns, position, np.arange(4000) % 20, met, np.zeros(200, dtype=np.int64))
    taught = position < 100
    data = lgb.Dataset(columns[taught], met[taught], group=np.full(100, 20))
    booster = lgb.train(PARAMETERS | {"min_data_in_leaf": 5}, data, TREES)
    measured = Groups(
        columns[~taught], position[~taught] - 100, groups.item[~taught], met[~taught], groups.target[100:]
    )

    mrr = {trees: quality["mrr_20"] for trees, quality in quality_by_trees(booster, measured).items()}
    assert list(mrr) == list(range(FIRST_TREES, TREES + 1, TREES_STEP))
    assert max(mrr.values()) > mrr[TREES]

    nothing = Groups(columns[:0], position[:0], position[:0], met[:0], groups.target[:0])
    assert list(quality_by_trees(booster, nothing)) == [TREES]


def test_hit_rate_among_some_positions():
    columns = np.zeros((50, 1), np.float32)
    position = np.repeat(np.arange(2), 25)
    item = np.tile(np.arange(25), 2)
    target = np.array([24, 3])
    groups = Groups(columns, position, item, item == target[position], target)
    score = -item.astype(np.float64)  # the first item first
    assert hit_rate_of(groups, score, np.array([True, True])) == 0.5
    assert hit_rate_of(groups, score, np.array([True, False])) == 0
    joined = Groups.joined([groups, groups])
    assert (joined.positions, joined.position.tolist()[50:]) == (4, [*[2] * 25, *[3] * 25])
    assert hit_rate_of(joined, -joined.item.astype(np.float64), np.array([False, True, False, True])) == 1


def test_metrics_by_hand():
    rank = np.array([1, 3, 0, 6])
    assert HitRate(5)(rank).tolist() == [1, 1, 0, 0]
    assert MRR(5)(rank).tolist() == [1, pytest.approx(1 / 3), 0, 0]
    assert NDCG(5)(rank).tolist() == [1, 0.5, 0, 0]
    assert [metric(20).name for metric in (HitRate, MRR, NDCG)] == ["hr_20", "mrr_20", "ndcg_20"]
