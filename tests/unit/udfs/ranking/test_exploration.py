from collections import Counter

import pytest

from udfs.contracts.rankings import RankedItem, Reason
from udfs.ranking.exploration import explore
from udfs.ranking.options import RankOptions

POOL = [RankedItem(f"i{number}", number + 1, 1 - number / 10, [Reason("content", 1, "")]) for number in range(6)]
ANSWERS = 20_000


def test_without_exploration_answers_stay_as_they_are():
    assert explore(POOL, "u/e", RankOptions(k=6)) == (POOL, False)


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_propensities_are_the_frequencies_of_items_at_ranks(share: float):
    options = RankOptions(k=3, explore=share)
    at, stated, explored = Counter[tuple[str, int]](), dict[tuple[str, int], float](), 0
    for number in range(ANSWERS):
        items, drawn = explore(POOL, f"u{number}/e", options)
        explored += drawn
        assert [item.rank for item in items] == [1, 2, 3]
        for item in items:
            at[item.item_id, item.rank] += 1
            assert stated.setdefault((item.item_id, item.rank), item.propensity) == item.propensity  # type: ignore[arg-type]
    assert explored / ANSWERS == pytest.approx(share, abs=0.015)
    assert len(at) == 6 * 3
    for pair, times in at.items():
        assert times / ANSWERS == pytest.approx(stated[pair], abs=0.015)
    for rank in (1, 2, 3):
        assert sum(value for (_, at_rank), value in stated.items() if at_rank == rank) == pytest.approx(1)


def test_answer_comes_out_alike_each_time():
    options = RankOptions(k=3, explore=0.5)
    every = [[explore(POOL, f"u{number}/e", options) for number in range(50)] for _ in range(2)]
    assert every[0] == every[1]
    # Across versions, too: a replay must not change what was shown.
    items, drawn = explore(POOL, "u1/e", RankOptions(k=3, explore=0.999))
    assert (drawn, [item.item_id for item in items]) == (True, ["i2", "i5", "i3"])


def test_few_items_are_shown_all():
    items, drawn = explore(POOL[:2], "u/e", RankOptions(k=3, explore=0.999))
    assert drawn
    assert {item.item_id for item in items} == {"i0", "i1"}
    assert explore([], "u/e", RankOptions(explore=0.5))[0] == []
