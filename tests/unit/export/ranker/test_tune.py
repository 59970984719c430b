from pathlib import Path

import numpy as np
import pytest
from histories import VECTORS, catalog, encode, walks

from export.ranker import tune as tuning
from export.ranker.boosting import Hyperparameters, Sample, TooFewPositionsError
from export.ranker.positions import Groups, sample_groups
from export.ranker.train import Recipe, Shop, train_ranker
from export.ranker.tune import tune
from udfs.core.errors import ShopstreamError


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Groups], tuple[str, ...]]:
    """Positions of three parts of a shop's past, and the names of their features."""
    log = walks(600, 8)
    shop = Shop(log, catalog(), VECTORS, encode)
    generator = shop.generator(log.part(0, 200), tmp_path_factory.mktemp("shop"), recommend_seen=False)
    rng = np.random.default_rng(1)
    groups = [
        sample_groups(generator, log.part(first, first + 130), encode, rng, 400, lambda _: None, recommend_seen=False)
        for first in (200, 330, 460)
    ]
    return groups, generator.feature_names


def test_search_goes_on_where_it_stopped(parts: tuple[list[Groups], tuple[str, ...]], tmp_path: Path):
    groups, names = parts
    shares: list[float] = []
    first = tune(groups, names, 0.02, tmp_path / "trials.log", shares.append)
    default = Hyperparameters.for_positions(sum(each.positions for each in groups))
    assert default in [trial.hyperparameters for trial in first]
    assert [trial.mrr for trial in first] == sorted((trial.mrr for trial in first), reverse=True)
    assert shares
    assert max(shares) <= 1
    more = tune(groups, names, 0.02, tmp_path / "trials.log")
    assert len({trial.hyperparameters for trial in more}) == len(more) > len(first)
    assert {*first} <= {*more}
    others = tune(groups[1:], names, 0.001, tmp_path / "trials.log")  # other positions: trials of their own
    assert not {*others} & {*more} or len(others) == 1


def test_trial_is_measured_on_later_parts(parts: tuple[list[Groups], tuple[str, ...]], monkeypatch: pytest.MonkeyPatch):
    groups, names = parts
    learned = []
    boost = tuning.boost
    monkeypatch.setattr(
        tuning, "boost", lambda sample, *rest: (learned.append(len(sample.sizes)), boost(sample, *rest))[1]
    )
    tune(groups, names, 0.0001, None)
    targets = sum(len(np.unique(each.position[each.is_target])) for each in groups[:2])
    assert learned == [targets]


def test_unusable_trials_and_too_few_parts_are_refused(parts: tuple[list[Groups], tuple[str, ...]], tmp_path: Path):
    groups, names = parts
    with pytest.raises(ShopstreamError, match="too few to tune"):
        tune(groups[:1], names, 0.01, None)
    with pytest.raises(ShopstreamError, match="cannot be kept"):
        tune(groups, names, 0.01, tmp_path / "none" / "trials.log")
    for damaged in ("{}\n", "[]\n", '{"op_code": 0, "wor', '{"op_code": 99, "worker_id": "a"}\n'):
        (tmp_path / "damaged.log").write_text(damaged)
        with pytest.raises(ShopstreamError, match=r"damaged\.log .* remove it"):
            tune(groups, names, 0.001, tmp_path / "damaged.log")


def test_trials_that_learn_nothing_do_not_end_the_search(
    parts: tuple[list[Groups], tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
):
    boost, tried = tuning.boost, []

    def failing(sample: Sample, names: tuple[str, ...], chosen: Hyperparameters) -> object:
        tried.append(chosen)
        if len(tried) % 2:
            raise TooFewPositionsError("taught nothing")
        return boost(sample, names, chosen)

    monkeypatch.setattr(tuning, "boost", failing)
    found = tune(*parts, 0.02, None)
    assert 0 < len(found) == len(tried) // 2
    monkeypatch.setattr(tuning, "LEAST_POSITIONS", 10_000)
    with pytest.raises(ShopstreamError, match="too few to tune"):
        tune(*parts, 0.01, None)


def test_ranker_takes_the_best_trial(tmp_path: Path):
    trained = train_ranker(Shop(walks(400, 4), catalog(), VECTORS, encode), tmp_path, Recipe(tune_minutes=0.02))
    assert trained.trials
    assert trained.trials[0].mrr == max(trial.mrr for trial in trained.trials)
