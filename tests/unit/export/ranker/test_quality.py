import lightgbm as lgb
import numpy as np
import pytest

from export.ranker.boosting import FIXED
from export.ranker.positions import Groups
from export.ranker.quality import MRR, NDCG, HitRate, hit_rate_of, new_items, quality_by_trees, ranker_failures
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
    booster = lgb.train(FIXED | {"min_data_in_leaf": 5}, data, TREES)
    measured = Groups(
        columns[~taught], position[~taught] - 100, groups.item[~taught], met[~taught], groups.target[100:]
    )

    mrr = {trees: quality["mrr_20"] for trees, quality in quality_by_trees(booster, measured).items()}
    assert list(mrr) == list(range(FIRST_TREES, TREES + 1, TREES_STEP))
    assert max(mrr.values()) > mrr[TREES]

    nothing = Groups(columns[:0], position[:0], position[:0], met[:0], groups.target[:0])
    assert list(quality_by_trees(booster, nothing)) == [TREES]


def test_hit_rate_counts_all_positions():
    columns = np.zeros((50, 1), np.float32)
    position = np.repeat(np.arange(2), 25)
    item = np.tile(np.arange(25), 2)
    target = np.array([24, 3])
    groups = Groups(columns, position, item, item == target[position], target)
    score = -item.astype(np.float64)  # the first item first
    assert hit_rate_of(groups, score) == 0.5
    nothing = Groups(columns[:0], position[:0], item[:0], groups.is_target[:0], target[:0])
    assert hit_rate_of(nothing, np.empty(0)) == 0


def test_metrics_by_hand():
    rank = np.array([1, 3, 0, 6])
    assert HitRate(5)(rank).tolist() == [1, 1, 0, 0]
    assert MRR(5)(rank).tolist() == [1, pytest.approx(1 / 3), 0, 0]
    assert NDCG(5)(rank).tolist() == [1, 0.5, 0, 0]
    assert [metric(20).name for metric in (HitRate, MRR, NDCG)] == ["hr_20", "mrr_20", "ndcg_20"]


def test_gate_names_the_figures_that_fail():
    quality = {"hr_20": 0.4, "mrr_20": 0.2, "hr_20_new": 0.1, "hr_20_new_by_titles": 0.25}
    assert new_items(quality) == pytest.approx(0.4)
    assert ranker_failures(quality, {"cosine_mean": 0.99, "hr_20": 0.4, "new_items": 0.4}) == []
    assert ranker_failures(quality, {"mrr_20": 0.3, "new_items": 0.5}) == [
        "mrr_20 0.2 < 0.3",
        "new_items 0.4 < 0.5",
    ]
    assert ranker_failures({}, {"new_items": 0.5}) == ["new_items was not measured"]
    assert ranker_failures({}, {"new_items": 0.0}) == []
