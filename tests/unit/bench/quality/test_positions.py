import numpy as np
import pytest
from tiny_sessions import DAY_MS, LETTERS, FixedLists, sessions

from bench.quality.contenders import Contender
from bench.quality.positions import Positions, latency, predictions


def test_positions_have_prefix_and_target():
    positions = Positions.every(sessions("abca", "d", "ed"))
    assert len(positions) == 4
    prefixes = positions.prefixes()
    words = ["".join(LETTERS[item] for item in prefixes.item[slice(*prefixes.offsets[n : n + 2])]) for n in range(4)]
    assert list(zip(words, [LETTERS[item] for item in positions.target], strict=True)) == [
        ("a", "b"), ("ab", "c"), ("abc", "a"), ("e", "d"),
    ]  # fmt: skip
    assert prefixes.end.tolist() == [0, 1000, 2000, 2 * DAY_MS]
    assert prefixes.user.tolist() == [0, 0, 0, 2]


def test_samples_are_whole_sessions():
    rng = np.random.default_rng(0)
    of = sessions(*("".join(rng.choice(list(LETTERS), rng.integers(1, 9))) for _ in range(200)))
    every = Positions.every(of)
    some = every.sample(100, seed=4)
    assert 93 < len(some) <= 100  # the next session would have been too long, by 7 at most
    whole = np.diff(of.offsets)[np.unique(some.session)] - 1
    assert np.array_equal(np.unique(some.session, return_counts=True)[1], whole)
    assert np.array_equal(some.session, every.sample(100, seed=4).session)
    assert not np.array_equal(np.unique(some.session), np.unique(every.sample(100, seed=5).session))
    assert len(every.sample(len(some), seed=4)) == len(some)
    assert every.sample(0, seed=4) is every
    assert len(every.sample(1, seed=4)) >= 1


def test_invalid_lists_are_refused():
    positions = Positions.every(sessions("ab", "cd"))
    allowed: Contender = FixedLists(*range(18), -1, -1)
    assert predictions(allowed, positions, repeats=True).shape == (2, 20)
    for wrong in (FixedLists(*range(19)), FixedLists(*range(19), 3)):
        with pytest.raises(ValueError, match="fixed must name 20 different items"):
            predictions(wrong, positions, repeats=True)


def test_latency_of_single_predictions():
    contender = FixedLists(*range(20))
    assert latency(contender, Positions.every(sessions("abc", "de")), 30, 0, repeats=True).shape == (30,)
    assert contender.prefixes == [1] * 50
