"""Rules choose what a naive loop chooses."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from udfs.core.exact import SCORE_SCALE, VECTOR_SCALE, to_grid
from udfs.ranking.rules import Cap, select_by_rules

ITEMS = 12
VECTORS = to_grid(np.random.default_rng(1).normal(size=(ITEMS, 4)) + 0.5)
CODES = np.array([0, 0, 0, 1, 1, 2, 2, 2, -1, -1, 3, 3])


def naive(item: list[int], score: list[float], k: int, limit: int, diversity: float) -> list[tuple[int, float]]:
    """The chosen candidates of one session, and the penalty of each."""
    chosen: list[tuple[int, float]] = []
    for _ in range(k):
        best: tuple[float, int, float] | None = None
        for index in set(range(len(item))) - {index for index, _ in chosen}:
            code = CODES[item[index]]
            if code >= 0 and sum(CODES[item[other]] == code for other, _ in chosen) >= limit:
                continue
            cosines = [VECTORS[item[index]] @ VECTORS[item[other]] / VECTOR_SCALE**2 for other, _ in chosen]
            cost = float(np.rint(max([0.0, *cosines]) * (diversity * SCORE_SCALE)))
            best = min(best, (cost - score[index], index, cost)) if best else (cost - score[index], index, cost)
        if best:
            chosen.append((best[1], -best[2]))
    return chosen


@given(
    st.lists(st.permutations(range(ITEMS)), min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.3, 2.0]),
    st.randoms(use_true_random=False),
)
def test_rules_choose_like_a_naive_loop(sessions: list[list[int]], k: int, limit: int, diversity: float, random):  # type: ignore[no-untyped-def]
    scores = [sorted((float(random.randrange(3 * SCORE_SCALE)) for _ in items), reverse=True) for items in sessions]
    expected = [
        (session * ITEMS + index, penalty)
        for session, (items, score) in enumerate(zip(sessions, scores, strict=True))
        for index, penalty in naive(list(items), score, k, limit, diversity)
    ]
    chosen, penalty = select_by_rules(
        np.repeat(np.arange(len(sessions)), ITEMS),
        np.concatenate(sessions),
        np.concatenate(scores),
        k=k,
        caps=[Cap(CODES, limit)],
        diversity=diversity,
        vectors=VECTORS,
    )
    assert list(zip(chosen.tolist(), penalty.tolist(), strict=True)) == expected
