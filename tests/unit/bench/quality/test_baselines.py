"""Baselines by hand, and against their formulas written out one session and one item at a time."""

import math
from collections import Counter, defaultdict
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_sessions import DAY_MS, LETTERS, sessions

from bench.quality.baselines import (
    BY_STEPS,
    AssociationRules,
    Baseline,
    Ease,
    Popularity,
    SequentialRules,
    published,
)
from bench.quality.contenders import BASELINES, trial_settings
from bench.quality.data import read_split
from bench.quality.metrics import METRICS, gains, ranks
from bench.quality.neighbours import BY_POSITION, SessionKnn, Stan, VectorSessionKnn, Vstan
from bench.quality.positions import Positions, predictions
from bench.quality.shoppers import Personal, Shoppers, TifuKnn
from export.history.interactions import Interactions


def listed(contender: Baseline, train: Interactions, *prefixes: str, k: int = 4, repeats: bool = True) -> list[str]:
    """What a baseline names after each prefix, as words; `.` fills up."""
    contender.fit(train, None)
    found = contender.predict(sessions(*prefixes), k, repeats=repeats)
    return ["".join("." if item < 0 else LETTERS[item] for item in row) for row in found]


#: Popularity: b 3, a 2, c 2, then d and e.
SHOP = sessions("abc", "bd", "abce"[1:])


def test_pop_by_hand():
    assert listed(Popularity(), sessions("abc", "bd", "bca"), "d", "xb"[1:]) == ["bacd"] * 2
    assert listed(Popularity(), sessions("abc", "bd", "bca"), "b", repeats=False) == ["acd."]


def test_ar_by_hand():
    # With b: c twice, a, d, e once, of which a is the most popular. With d: b once. The rest by popularity.
    train = sessions("abc", "bd", "bce", "af")
    assert listed(AssociationRules(0), train, "b", "ad", k=6) == ["cedabf", "bacdef"]
    assert listed(AssociationRules(1), train, "b", k=6) == ["cbadef"]  # the best rule, then by popularity
    assert listed(AssociationRules(2), train, "b", k=6) == ["cebadf"]  # of equal rules, the one with the rarer item
    # Of the pairs of a's three events each counts in both directions: 6, against 3 with b.
    assert listed(AssociationRules(), sessions("aaab", "bc"), "a", k=3) == ["abc"]
    assert listed(AssociationRules(), sessions("aaab", "bc"), "a", k=3, repeats=False) == ["bc."]


def test_sr_by_hand():
    # After a: b 1 + 1/2, c 1/2 + 1, d 1/3 + 1/3. After b: c 1 + 1, d 1/2 + 1. After d: nothing.
    train = sessions("abcd", "acbd", "bc")
    assert listed(SequentialRules(0, 10, "div"), train, "a", "b", "d") == ["cbda", "cdba", "bcad"]
    # d is as heavy as c after b, and rarer; unless one step is all that counts.
    assert listed(SequentialRules(0, 10, "same"), train, "b") == ["dcba"]
    assert listed(SequentialRules(0, 1, "same"), train, "b") == ["cdba"]
    assert listed(SequentialRules(1, 10, "div"), train, "b") == ["cbad"]


#: One session a day; `ab` shares both items with the first, b with the second, a with the third.
DAYS = sessions("abc", "bd", "ae")


def test_sknn_by_hand():
    # Cosine .82, .5, .5; Jaccard 2/3, 1/3, 1/3.
    for similarity in ("cosine", "jaccard"):
        assert listed(SessionKnn(10, 10, True, similarity), DAYS, "ab", repeats=False) == ["ced."]
        assert listed(SessionKnn(10, 10, True, similarity), DAYS, "ab", k=5) == ["baced"]
        assert listed(SessionKnn(10, 10, False, similarity), DAYS, "ab", k=5) == ["cedab"]
        # The two most recent are equally similar, and the more recent counts.
        assert listed(SessionKnn(1, 2, True, similarity), DAYS, "ab", repeats=False) == ["ecd."]
        assert listed(SessionKnn(1, 3, True, similarity), DAYS, "ab", repeats=False) == ["cde."]
    # Cosine to ab: 1/2 and 2/√10 = .63; Jaccard: 1/3 and 2/5.
    train = sessions("ac", "abdef")
    assert listed(SessionKnn(1, 9, True, "cosine"), train, "ab", repeats=False)[0][0] == "f"
    assert listed(SessionKnn(1, 9, True, "jaccard"), train, "ab", repeats=False)[0][0] == "f"
    # With two more items in the second: 2/√14 = .53, but 2/7.
    assert listed(SessionKnn(1, 9, True, "cosine"), sessions("ac", "abdefgh"), "ab", repeats=False)[0][0] == "h"
    assert listed(SessionKnn(1, 9, True, "jaccard"), sessions("ac", "abdefgh"), "ab", repeats=False)[0][0] == "c"


def test_vsknn_by_hand():
    # a weighs 1/4 and b 1: similarities 1.25, 1, .25; what the third says counts 1/4, as its a is a step away.
    setting: dict[str, Any] = {"weighting": "quadratic", "weighting_score": "quadratic"}
    assert listed(VectorSessionKnn(10, 10, **setting), DAYS, "ab", repeats=False) == ["cde."]
    assert listed(VectorSessionKnn(1, 2, **setting), DAYS, "ab", repeats=False) == ["dce."]
    # Two sessions for e, of weight .25 · .25 · 2 < 1, but same weights make it 2 against 1.
    train = sessions("ae", "ae", "bd")
    assert listed(VectorSessionKnn(10, 10, **setting), train, "ab", repeats=False) == ["de.."]
    assert listed(VectorSessionKnn(10, 10, True, "same", "same"), train, "ab", repeats=False) == ["ed.."]
    # ln(3 sessions ÷ 1 event) ÷ ln(3 ÷ 2) = 2.7: with idf the rarer d beats e's two.
    assert listed(VectorSessionKnn(10, 10, True, "same", "same", idf=10), train, "ab", repeats=False) == ["de.."]


def test_stan_by_hand():
    # The first: (1 + e^-1) / √3 = .79 for c; the second 1 / √2 = .71 for d; the third e^-1 / √2 = .26 for e.
    assert listed(Stan(10, 10, spw=1, snh=1000, inh=1000), DAYS, "ab", repeats=False) == ["cde."]
    # Half a day: e^-4 and e^-2 of the first two are left.
    assert listed(Stan(10, 10, spw=1, snh=0.5, inh=1000), DAYS, "ab", repeats=False) == ["edc."]
    # c is two positions from the last shared item, d one before it, e at the end: only the nearest remains.
    assert listed(Stan(10, 10, spw=1, snh=1000, inh=0.1), sessions("dagce"), "a", k=3, repeats=False) == ["gdc"]
    # The prefix's last item alone counts.
    assert listed(Stan(1, 10, spw=0.00001, snh=1000, inh=2), DAYS, "ba", repeats=False)[0][0] == "e"


def test_vstan_by_hand():
    # STAN says .79 and .71 as above, and of two sessions with e .52; one step away leaves e^-2 of that.
    train = sessions("abc", "bd", "ae", "ae", "ae", "ae")
    plain: dict[str, Any] = {"spw": 1, "snh": 1000, "inh": 1000}
    assert listed(Vstan(10, 10, **plain, ipw=1000, idf=0), train, "ab", repeats=False) == ["ecd."]
    assert listed(Vstan(10, 10, **plain, ipw=0.5, idf=0), train, "ab", repeats=False) == ["cde."]
    # ln 6 = 1.8 for c and d against ln(6 / 4) = .4 for e.
    assert listed(Vstan(10, 10, **plain, ipw=1000, idf=10), train, "ab", repeats=False) == ["cde."]


def test_ease_by_hand():
    # Of a session's items alone: a says b, b says c as often as d. The penalty shrinks, and changes no order here.
    train = sessions("ab", "ab", "bc", "bd", "ef")
    for penalty in (0.1, 1, 10):
        assert [row[0] for row in listed(Ease(penalty), train, "a", "e", repeats=False)] == ["b", "f"]
    weights = Ease(1)
    weights.fit(train, None)
    seen = np.array([[1, 1, 0, 0, 0, 0]] * 2 + [[0, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1]])[
        :, weights._item
    ]
    found = weights._weights
    for item in range(6):  # each column is the ridge regression of an item on all others
        others = [other for other in range(6) if other != item]
        x, y = seen[:, others], seen[:, item]
        assert found[others, item] == pytest.approx(np.linalg.solve(x.T @ x + np.eye(5), x.T @ y))
        assert found[item, item] == 0


def of_shoppers(log: Interactions, *users: int) -> Interactions:
    return replace(log, user=np.array(users), users=[f"u{number}" for number in range(9)])


def test_personal_by_hand():
    train = of_shoppers(sessions("ab", "bc", "de"), 0, 0, 1)
    personal = Personal()
    personal.fit(train, None)
    names = personal.predict(of_shoppers(sessions("e", "a", "d"), 0, 1, 7), 3, repeats=False)
    assert ["".join(LETTERS[item] for item in row) for row in names] == ["bca", "edb", "bac"]


def test_tifuknn_by_hand():
    # In one group of two, ab counts .5 ÷ 2 and bc 1 ÷ 2; in groups of one, .5 and 1, both ÷ 2 groups.
    train = of_shoppers(sessions("ab", "bc", "ad", "ce"), 0, 0, 1, 2)
    for groups in (1, 2):
        own = TifuKnn(1, groups, 0.5, 0.5, 1.0)
        own.fit(train, None)
        weight = dict(zip(own._item, own._histories.toarray()[0], strict=True))
        assert [weight[LETTERS.index(letter)] for letter in "abcde"] == pytest.approx([0.25, 0.75, 0.5, 0, 0])
    # The nearest shopper of each is the shopper; with two, u1 is nearer to u0 by a than u2 is by nothing but c.
    blended = TifuKnn(2, 1, 1.0, 1.0, 0.5)
    blended.fit(train, None)
    names = blended.predict(of_shoppers(sessions("h", "h"), 1, 7), 5, repeats=False)
    expected = 0.5 * np.array([1, 0, 0, 1, 0]) + 0.25 * (np.array([1, 0, 0, 1, 0]) + np.array([0.5, 1, 0.5, 0, 0]))
    by_score = sorted(range(5), key=lambda item: -expected[item])
    assert names[0, :2].tolist() == by_score[:2]
    assert (names[1] >= 0).all()


def test_tiny_scores_keep_their_order():
    # A hundred unknown items after a: e^-200 is left of what the first session says, and c is still before b.
    far = Vstan(10, 10, spw=1, snh=1000, inh=1, ipw=0.5, idf=0)
    assert listed(far, sessions("acb", "bd"), "a" + 100 * "h", repeats=False) == ["cbd."]


def test_single_item_sessions_are_no_neighbours():
    assert listed(SessionKnn(1, 1, True, "cosine"), sessions("ab", "a"), "a", repeats=False) == ["b..."]


def test_unknown_items_get_popular_ones():
    for kind in (kind for kind in BASELINES if not issubclass(kind, Shoppers)):
        assert listed(published(kind), SHOP, "h", "hg", k=8) == ["bcade..."] * 2, kind.name


def scores_by_formula(contender: Any, train: Interactions, prefix: list[int]) -> dict[int, float]:
    """{item: score}: by the formulas of sknn, vsknn, stan and vstan, one session and one item at a time."""
    past = [train.item[slice(*train.offsets[n : n + 2])].tolist() for n in range(len(train))]
    past = [(end, items) for end, items in zip(train.end.tolist(), past, strict=True) if len(items) > 1]
    events = Counter(item for _, items in past for item in items)
    length = len(prefix)
    last_in_prefix = {item: position for position, item in enumerate(prefix, 1)}
    stan = isinstance(contender, Stan)
    weight = dict.fromkeys(prefix, 1.0)
    if stan:
        weight = {item: math.exp((at - length) / contender.spw) for item, at in last_in_prefix.items()}
    elif isinstance(contender, VectorSessionKnn):
        rule = BY_POSITION[contender.weighting]
        weight = {
            item: float(rule(np.array(float(at)), np.array(float(length)))) for item, at in last_in_prefix.items()
        }
    sharing = [(end, items) for end, items in past if set(items) & set(prefix)][-contender.sample :]
    similar = []
    for end, items in sharing:
        similarity = sum(weight[item] for item in set(items) & set(prefix))
        if isinstance(contender, SessionKnn):
            both = math.sqrt(len(set(items)) * len(set(prefix)))
            similarity /= both if contender.similarity == "cosine" else len(set(items) | set(prefix))
        if stan:
            similarity *= math.exp((end - sharing[-1][0]) / DAY_MS / contender.snh) / math.sqrt(len(set(items)))
        similar.append((round(similarity, 9), end, items))  # 1/3 + 2/3 is 1
    score: dict[int, float] = defaultdict(float)
    for similarity, _, items in sorted(similar)[::-1][: contender.k]:
        steps = length - max(last_in_prefix[item] for item in items if item in last_in_prefix) + 1
        last = {item: position for position, item in enumerate(items)}
        anchor = max(last[item] for item in items if item in last_in_prefix)
        for item in set(items) - (set() if contender.remind else set(prefix)):
            value = similarity
            if isinstance(contender, VectorSessionKnn):
                value *= float(BY_STEPS[contender.weighting_score](np.array(float(steps))))
            if isinstance(contender, Vstan):
                value *= math.exp((1 - steps) / contender.ipw)
            if stan:
                value *= math.exp(-abs(last[item] - anchor) / contender.inh)
            if isinstance(contender, VectorSessionKnn | Vstan):
                value *= 1 + contender.idf * math.log(len(past) / events[item])
            score[item] += value
    return score


@pytest.mark.parametrize(
    "contender",
    [
        SessionKnn(7, 20, True, "cosine"),
        SessionKnn(20, 100, True, "jaccard"),
        VectorSessionKnn(7, 20, True, "div", "quadratic", 0),
        VectorSessionKnn(30, 100, True, "linear", "log", 2),
        VectorSessionKnn(30, 15, True, "log", "linear", 1),
        Stan(7, 20, True, 0.5, 3, 1),
        Stan(50, 100, True, 4, 20, 0.5),
        Vstan(7, 20, False, 1, 5, 2, 0.5, 2),
        Vstan(50, 100, True, 8, 40, 4, 2, 1),
    ],
    ids=str,
)
def test_neighbours_follow_their_formulas(contender: Baseline):
    rng = np.random.default_rng(5)
    words = ["".join(rng.choice(list(LETTERS), rng.integers(1, 7), p=np.arange(1, 9) / 36)) for _ in range(120)]
    train = sessions(*words[:80], gap=DAY_MS // 3)
    positions = Positions.every(sessions(*words[80:]))
    contender.fit(train, None)
    prefixes = positions.prefixes()
    lists = contender.predict(prefixes, 8, repeats=True)
    assert len(lists) > 80
    for number, named in enumerate(lists.tolist()):
        expected = scores_by_formula(
            contender, train, prefixes.item[slice(*prefixes.offsets[number : number + 2])].tolist()
        )
        assert sorted(named) == list(range(8))
        scores = [expected[item] for item in named]
        assert scores == pytest.approx(sorted(scores, reverse=True), rel=1e-5)
        assert scores[0] > 0


@pytest.mark.parametrize("kind", BASELINES, ids=lambda kind: kind.name)
def test_lists_are_independent_of_batch(kind: type[Baseline], shop_folder: Path):
    split = read_split(shop_folder, repeats=False)
    contender = published(kind)
    contender.fit(split.train, split.catalog)
    positions = Positions.every(split.test).take(slice(0, 300))
    together = predictions(contender, positions, repeats=False)
    alone = [contender.predict(part.prefixes(), 20, repeats=False) for part in positions.chunks(1)]
    assert np.array_equal(together, np.concatenate(alone))
    prefixes = positions.prefixes()
    for number, named in enumerate(together):
        assert not set(named) & set(prefixes.item[slice(*prefixes.offsets[number : number + 2])])
    assert (split.counts[together] > 0).all()


def test_trials_start_with_published_setting():
    for kind in (kind for kind in BASELINES if kind.space):
        settings = trial_settings(kind.space, 16, seed=0)
        assert settings[0] == published(kind).parameters
        assert len({tuple(setting.values()) for setting in settings}) == len(settings)
        assert len(settings) == min(16, math.prod(map(len, kind.space.values())))
        assert all(value in kind.space[name] for setting in settings for name, value in setting.items())
        assert settings == trial_settings(kind.space, 16, seed=0)
        assert set(kind.space) == {field.name for field in fields(kind)}
    assert trial_settings(Vstan.space, 16, seed=0) != trial_settings(Vstan.space, 16, seed=1)


def test_published_ranking_is_reproduced(clicks: Path):
    """On another day: VSTAN .685/.375 (HR@20/MRR@20), V-SKNN .681/.369, SKNN .655/.321, AR .634/.326, SR .618/.347."""
    split = read_split(clicks, repeats=True)
    positions = Positions.every(split.test).sample(6000, seed=0)
    hr, mrr = {}, {}
    for kind in (AssociationRules, SequentialRules, SessionKnn, VectorSessionKnn, Vstan):
        contender = published(kind)
        contender.fit(split.train, None)
        gained = gains(ranks(predictions(contender, positions, repeats=True), positions.target)).mean(axis=0)
        hr[kind.name], mrr[kind.name] = gained[METRICS.index("hr_20")], gained[METRICS.index("mrr_20")]
    assert sorted(hr, key=lambda name: -hr[name]) == ["vstan", "vsknn", "sknn", "ar", "sr"]
    assert mrr["vstan"] > mrr["vsknn"] > max(mrr["sr"], mrr["sknn"]) > mrr["ar"]
    assert hr["vstan"] == pytest.approx(0.65, abs=0.02)
    assert mrr["vstan"] == pytest.approx(0.37, abs=0.02)
