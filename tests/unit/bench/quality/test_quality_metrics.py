import math

import numpy as np
import pytest
import scipy.sparse as sp

from bench.quality.metrics import METRICS, diversity, gains, intervals, novelty, ranks


def test_gains_by_hand():
    lists = np.array([[4, 7, 9, 1, 2, 3], [4, 7, 9, 1, 2, 3], [4, 7, 9, 1, 2, 3], [-1, -1, -1, -1, -1, -1]])
    rank = ranks(lists, np.array([4, 3, 5, 8]))
    assert rank.tolist() == [1, 6, 0, 0]
    gained = [dict(zip(METRICS, row, strict=True)) for row in gains(rank)]
    assert set(gained[0].values()) == {1.0}
    sixth = {"hr": 1, "mrr": 1 / 6, "ndcg": 1 / math.log2(7)}
    assert gained[1] == {f"{m}_{k}": pytest.approx(sixth[m] if k > 5 else 0) for m in sixth for k in (5, 10, 20)}
    assert set(gained[2].values()) == set(gained[3].values()) == {0.0}


@pytest.mark.parametrize(("rank", "counts"), [(5, (1, 1, 1)), (6, (0, 1, 1)), (11, (0, 0, 1)), (21, (0, 0, 0))])
def test_rank_counts_up_to_cut(rank: int, counts: tuple[int, ...]):
    assert tuple(gains(np.array([rank]))[0, :3]) == counts


def test_intervals_resample_whole_sessions():
    # Two sessions: one of 99 hits, one of a single miss. One resample in four has only the second, or only the first.
    hits, session = np.ones(100), np.array([0] * 99 + [1])
    hits[99] = 0
    low, high = intervals(hits[:, None], session, seed=1)
    assert (low[0], high[0]) == (0, 1)
    alone = intervals(hits[:, None], np.arange(100), seed=1)  # as if every position were a session of its own
    assert 0.96 <= alone[0, 0] < 0.99 < alone[1, 0] == 1


def test_intervals_match_normal_approximation():
    rng = np.random.default_rng(3)
    gained = (rng.random(4000) < 0.3).astype(float)
    low, high = intervals(gained[:, None], np.arange(4000), seed=0)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 4000)
    assert low[0] == pytest.approx(gained.mean() - half, abs=0.002)
    assert high[0] == pytest.approx(gained.mean() + half, abs=0.002)
    assert np.array_equal(intervals(gained[:, None], np.arange(4000), 0)[:, 0], [low[0], high[0]])


def test_novelty_by_hand():
    counts = np.array([7, 3, 0, 2])  # with one more each: 8, 4, 1, 3 of 16
    assert novelty(np.array([[0, 1], [2, -1]]), counts) == pytest.approx((1 + 2 + 4) / 3)
    assert novelty(np.full((2, 2), -1), counts) is None


def test_diversity_by_hand():
    traits = sp.csr_array(np.array([[1.0, 0], [1, 1], [0, 2], [0, 0]]))
    # 0 and 1: cosine 1/√2; 0 and 2: 0; 1 and 2: 1/√2; 3 is like nothing.
    assert diversity(np.array([[0, 1, 2, -1]]), traits) == pytest.approx(1 - 2 / math.sqrt(2) / 3)
    assert diversity(np.array([[0, 1], [0, 3], [2, -1]]), traits) == pytest.approx((1 - 1 / math.sqrt(2) + 1) / 2)
    assert diversity(np.array([[0, -1]]), traits) is None
