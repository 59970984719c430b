"""How well trees rank the measured positions."""

from typing import Any

import numpy as np

from export.ranker.positions import _Groups
from export.ranker.trees import FIRST_TREES, TREES, TREES_STEP
from udfs.candidates import best_of, nth_of
from udfs.learned import shortlist
from udfs.ranking import MICRO
from udfs.sessions import Floats, Ints

#: A prefix's answer counts when it is among so many.
CUT = 20


def _qualities(booster: Any, groups: _Groups) -> dict[int, dict[str, float]]:
    """By number of trees; of all of them alone where there is nothing to measure on."""
    if not len(groups.item):
        return {TREES: _quality(groups, np.empty(0))}
    counts, asked = range(FIRST_TREES, TREES + 1, TREES_STEP), _asked(booster, groups)
    return {trees: _quality(groups, _scores(booster, groups, asked, trees)) for trees in counts}


def _asked(booster: Any, groups: _Groups) -> Ints:
    """int64 [m]: what the first trees leave for all of them, as in a job."""
    first = np.rint(booster.predict(groups.columns, num_iteration=FIRST_TREES) * MICRO)
    return best_of(groups.position, first, shortlist(CUT))


def _scores(booster: Any, groups: _Groups, asked: Ints, trees: int) -> Floats:
    """float64 [n]: as a job ranks with so many trees; what is not asked comes last."""
    score = np.full(len(groups.item), -np.inf)
    score[asked] = booster.predict(groups.columns[asked], num_iteration=trees)
    return score


def _quality(groups: _Groups, score: Floats) -> dict[str, float]:
    """Hit rate and mean reciprocal rank among the first CUT, and the share that the candidates hold at all."""
    order = np.lexsort((groups.item, -score, groups.position))
    position = groups.position[order]
    place = nth_of(position)
    hit = groups.met[order] & (place < CUT)
    count = max(groups.positions, 1)
    figures = {
        f"hr_{CUT}": hit.sum() / count,
        f"mrr_{CUT}": (hit / (place + 1)).sum() / count,
        "candidate_recall": groups.met.sum() / count,
        "positions": float(groups.positions),
    }
    return {name: round(float(figure), 4) for name, figure in figures.items()}
