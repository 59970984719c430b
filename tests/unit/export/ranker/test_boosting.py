from export.ranker.boosting import Hyperparameters


def test_few_positions_make_small_trees():
    leaves = [Hyperparameters.for_positions(positions).num_leaves for positions in (200, 1_000, 3_000, 6_200, 40_000)]
    assert leaves == [7, 7, 15, 31, 31]
