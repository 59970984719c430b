"""Measures how well trees rank, with the metrics of next-item prediction.

A metric turns the rank of each target, int64 [n] from 1 on, 0 where it was not ranked, into a value from 0 to 1:

    HitRate(20)(rank).mean()    # HR@20
    MRR(20).name                # "mrr_20"
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from export.gate import RANKER_FIGURES, gate_failures
from export.ranker.positions import Groups
from export.ranker.trees import FIRST_TREES, TREES, TREES_STEP
from udfs.core.arrays import Floats, Ints, position_in_group, top_k_per_group
from udfs.core.exact import SCORE_SCALE
from udfs.ranking.learned import shortlist_size

#: The length of the lists that are measured.
CUT = 20
#: A ranker whose new_items are below this, at so many positions or more, is warned of.
LEAST_NEW_ITEMS, LEAST_NEW_POSITIONS = 0.6, 100


@dataclass(frozen=True)
class _Metric(ABC):
    """A metric of the first k.

    After Ludewig, Mauro, Latifi and Jannach 2020, "Empirical analysis of session-based recommendation algorithms".
    """

    k: int
    prefix: ClassVar[str]

    @property
    def name(self) -> str:
        """The metric's name in reports."""
        return f"{self.prefix}_{self.k}"

    def __call__(self, rank: Ints) -> Floats:
        """Return float64 [n]: the gain of each rank, 0 beyond the first k."""
        found = (rank > 0) & (rank <= self.k)
        return np.asarray(np.where(found, self._gain(np.maximum(rank, 1).astype(np.float64)), 0.0))

    @abstractmethod
    def _gain(self, rank: Floats) -> Floats:
        """Return float64 [n]: the gain of each rank, from 1 on."""


class HitRate(_Metric):
    """1 for a target among the first k."""

    prefix = "hr"

    def _gain(self, rank: Floats) -> Floats:
        return np.ones(len(rank))


class MRR(_Metric):
    """1 / rank for a target among the first k."""

    prefix = "mrr"

    def _gain(self, rank: Floats) -> Floats:
        return 1 / rank


class NDCG(_Metric):
    """1 / log2(rank + 1) for a target among the first k."""

    prefix = "ndcg"

    def _gain(self, rank: Floats) -> Floats:
        return np.asarray(1 / np.log2(rank + 1))


def new_items(quality: Mapping[str, float]) -> float | None:
    """Return HR@20 of new items as a share of what titles alone find; None where it was not measured."""
    by_titles = quality.get("hr_20_new_by_titles")
    if by_titles is None:
        return None
    return round(quality["hr_20_new"] / by_titles, 4) if by_titles else 1.0


def ranker_failures(quality: Mapping[str, float], gate: Mapping[str, float]) -> list[str]:
    """Return the figures below the gate, in words. A figure that was not measured fails."""
    measured = {**quality, "new_items": new_items(quality)}
    return gate_failures({name: measured.get(name) for name in RANKER_FIGURES}, gate)


def quality_by_trees(booster: Any, groups: Groups) -> dict[int, dict[str, float]]:
    """Return the quality by number of trees; of all trees only, where there is nothing to measure on."""
    if not len(groups.item):
        return {TREES: _quality(groups, np.empty(0))}
    shortlisted = _shortlisted(booster, groups)
    return {
        trees: _quality(groups, _scores(booster, groups, shortlisted, trees))
        for trees in range(FIRST_TREES, TREES + 1, TREES_STEP)
    }


def _shortlisted(booster: Any, groups: Groups) -> Ints:
    """Return int64 [m]: the candidates that the first trees leave to all trees, exactly as in the job."""
    first = np.rint(booster.predict(groups.features, num_iteration=FIRST_TREES) * SCORE_SCALE)
    return top_k_per_group(groups.position, first, shortlist_size(CUT))


def _scores(booster: Any, groups: Groups, shortlisted: Ints, trees: int) -> Floats:
    """Return float64 [n]: the scores of that many trees; candidates that are not shortlisted come last."""
    score = np.full(len(groups.item), -np.inf)
    score[shortlisted] = booster.predict(groups.features[shortlisted], num_iteration=trees)
    return score


def hit_rate_of(groups: Groups, score: Floats) -> float:
    """Return HR@CUT, 0 without positions. score: float64 [n], of the candidates."""
    return float(HitRate(CUT)(_ranks(groups, score)).sum()) / max(groups.positions, 1)


def scores_of(booster: Any, groups: Groups, trees: int) -> Floats:
    """Return float64 [n]: the scores of that many trees, as in the job."""
    return _scores(booster, groups, _shortlisted(booster, groups), trees)


def _ranks(groups: Groups, score: Floats) -> Ints:
    """Return int64 [P]: the rank of each target by score, from 1 on; 0 where it is no candidate."""
    order = np.lexsort((groups.item, -score, groups.position))
    position, is_target = groups.position[order], groups.is_target[order]
    rank = np.zeros(groups.positions, dtype=np.int64)
    rank[position[is_target]] = position_in_group(position)[is_target] + 1
    return rank


def _quality(groups: Groups, score: Floats) -> dict[str, float]:
    """Return the means over all positions of HR and MRR, and the share of targets that are candidates at all."""
    rank = _ranks(groups, score)
    count = max(groups.positions, 1)
    figures = {metric.name: metric(rank).sum() / count for metric in (HitRate(CUT), MRR(CUT))}
    figures |= {"candidate_recall": (rank > 0).sum() / count, "positions": float(groups.positions)}
    return {name: round(float(figure), 4) for name, figure in figures.items()}
