"""Next-item prediction: metrics and baselines by hand, data that are counted, and the command."""

import json
import math
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
import scipy.sparse as sp
from support import ROOT, data_file

from bench.__main__ import main
from bench.baselines import (
    BASELINES,
    BY_POSITION,
    BY_STEPS,
    AssociationRules,
    Baseline,
    Popularity,
    SequentialRules,
    SessionKnn,
    Stan,
    VectorSessionKnn,
    Vstan,
    published,
)
from bench.quality import (
    METRICS,
    NAMES,
    Contender,
    Options,
    Positions,
    Race,
    Row,
    diversity,
    draws,
    gains,
    intervals,
    latency,
    novelty,
    predictions,
    ranks,
    run,
    traits_of,
)
from bench.quality_data import COLUMNS, prepare, read_split
from export.interactions import Interactions, Ints, interactions
from flink_jobs.simulation.simulate import write_shop
from udfs.datasets import read_catalog, read_events
from udfs.errors import ShopstreamError

DAY_MS = 86_400_000
LETTERS = "abcdefgh"


def sessions(*items: str, gap: int = DAY_MS) -> Interactions:
    """A session for each word, a letter an item and a second, the next one starting `gap` ms after the one before."""
    lengths = [len(word) for word in items]
    time = [gap * place + 1000 * step for place, word in enumerate(items) for step in range(len(word))]
    return Interactions(
        items=list(LETTERS),
        users=[f"u{place}" for place in range(len(items))],
        offsets=np.concatenate(([0], np.cumsum(lengths))),
        user=np.arange(len(items)),
        item=np.array([LETTERS.index(letter) for letter in "".join(items)]),
        time=np.array(time),
        type_code=np.zeros(sum(lengths), dtype=np.int8),
    )


def listed(contender: Baseline, train: Interactions, *prefixes: str, k: int = 4, repeats: bool = True) -> list[str]:
    """What a baseline names after each prefix, as words; `.` fills up."""
    contender.fit(train, None)
    found = contender.predict(sessions(*prefixes), k, repeats=repeats)
    return ["".join("." if item < 0 else LETTERS[item] for item in row) for row in found]


# --- metrics ----------------------------------------------------------------------------------------------------------


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
def test_a_rank_counts_up_to_the_cut(rank: int, counts: tuple[int, ...]):
    assert tuple(gains(np.array([rank]))[0, :3]) == counts


def test_intervals_draw_sessions_and_not_positions():
    # Two sessions: one of 99 hits, one of a single miss. One resample in four has only the second, or only the first.
    hits, session = np.ones(100), np.array([0] * 99 + [1])
    hits[99] = 0
    low, high = intervals(hits[:, None], session, seed=1)
    assert (low[0], high[0]) == (0, 1)
    alone = intervals(hits[:, None], np.arange(100), seed=1)  # as if every position were a session of its own
    assert 0.96 <= alone[0, 0] < 0.99 < alone[1, 0] == 1


def test_intervals_are_those_of_a_mean():
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


# --- positions --------------------------------------------------------------------------------------------------------


def test_every_position_has_its_prefix_and_target():
    positions = Positions.every(sessions("abca", "d", "ed"))
    assert len(positions) == 4
    prefixes = positions.prefixes()
    words = ["".join(LETTERS[item] for item in prefixes.item[slice(*prefixes.offsets[n : n + 2])]) for n in range(4)]
    assert list(zip(words, [LETTERS[item] for item in positions.target], strict=True)) == [
        ("a", "b"), ("ab", "c"), ("abc", "a"), ("e", "d"),
    ]  # fmt: skip
    assert prefixes.end.tolist() == [0, 1000, 2000, 2 * DAY_MS]
    assert prefixes.user.tolist() == [0, 0, 0, 2]


def test_a_sample_is_of_whole_sessions():
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


class Stubborn:
    """Names the same items whatever happens."""

    name = "stubborn"

    def __init__(self, *items: int) -> None:
        self.items, self.prefixes = items, list[int]()

    def fit(self, train: Interactions, catalog: pa.Table | None) -> None:
        """There is nothing to learn."""

    def predict(self, sofar: Interactions, k: int, *, repeats: bool) -> Ints:  # noqa: ARG002
        self.prefixes.append(len(sofar))
        return np.tile(self.items, (len(sofar), 1))


def test_a_contender_that_breaks_the_rules_is_refused():
    positions = Positions.every(sessions("ab", "cd"))
    allowed: Contender = Stubborn(*range(18), -1, -1)
    assert predictions(allowed, positions, repeats=True).shape == (2, 20)
    for wrong in (Stubborn(*range(19)), Stubborn(*range(19), 3)):
        with pytest.raises(ValueError, match="stubborn must name 20 different items"):
            predictions(wrong, positions, repeats=True)


def test_latency_is_of_one_prediction_at_a_time():
    contender = Stubborn(*range(20))
    assert latency(contender, Positions.every(sessions("abc", "de")), 30, 0, repeats=True).shape == (30,)
    assert contender.prefixes == [1] * 50


# --- baselines by hand ------------------------------------------------------------------------------------------------

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
        # The two most recent are equally similar, and the more recent speaks.
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
    # c is two places from the last common item, d one before it, e at the end: only the nearest remains.
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


def test_scores_may_be_very_small():
    # A hundred unknown items after a: e^-200 is left of what the first session says, and c is still before b.
    far = Vstan(10, 10, spw=1, snh=1000, inh=1, ipw=0.5, idf=0)
    assert listed(far, sessions("acb", "bd"), "a" + 100 * "h", repeats=False) == ["cbd."]


def test_sessions_of_one_item_are_no_neighbours():
    assert listed(SessionKnn(1, 1, True, "cosine"), sessions("ab", "a"), "a", repeats=False) == ["b..."]


def test_prefixes_of_unknown_items_get_what_is_popular():
    for kind in BASELINES:
        assert listed(published(kind), SHOP, "h", "hg", k=8) == ["bcade..."] * 2, kind.name


# --- baselines against their formulas, written out --------------------------------------------------------------------


def neighbours_say(contender: Any, train: Interactions, prefix: list[int]) -> dict[int, float]:
    """{item: score}: what sknn, vsknn, stan and vstan say, one session and one item at a time."""
    past = [train.item[slice(*train.offsets[n : n + 2])].tolist() for n in range(len(train))]
    past = [(end, items) for end, items in zip(train.end.tolist(), past, strict=True) if len(items) > 1]
    events = Counter(item for _, items in past for item in items)
    length = len(prefix)
    place = {item: position for position, item in enumerate(prefix, 1)}
    stan = isinstance(contender, Stan)
    weight = dict.fromkeys(prefix, 1.0)
    if stan:
        weight = {item: math.exp((at - length) / contender.spw) for item, at in place.items()}
    elif isinstance(contender, VectorSessionKnn):
        rule = BY_POSITION[contender.weighting]
        weight = {item: float(rule(np.array(float(at)), np.array(float(length)))) for item, at in place.items()}
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
        steps = length - max(place[item] for item in items if item in place) + 1
        last = {item: position for position, item in enumerate(items)}
        anchor = max(last[item] for item in items if item in place)
        for item in set(items) - (set() if contender.remind else set(prefix)):
            said = similarity
            if isinstance(contender, VectorSessionKnn):
                said *= float(BY_STEPS[contender.weighting_score](np.array(float(steps))))
            if isinstance(contender, Vstan):
                said *= math.exp((1 - steps) / contender.ipw)
            if stan:
                said *= math.exp(-abs(last[item] - anchor) / contender.inh)
            if isinstance(contender, VectorSessionKnn | Vstan):
                said *= 1 + contender.idf * math.log(len(past) / events[item])
            score[item] += said
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
def test_neighbours_say_what_the_formulas_say(contender: Baseline):
    rng = np.random.default_rng(5)
    words = ["".join(rng.choice(list(LETTERS), rng.integers(1, 7), p=np.arange(1, 9) / 36)) for _ in range(120)]
    train, met = sessions(*words[:80], gap=DAY_MS // 3), Positions.every(sessions(*words[80:]))
    contender.fit(train, None)
    prefixes = met.prefixes()
    lists = contender.predict(prefixes, 8, repeats=True)
    assert len(lists) > 80
    for place, named in enumerate(lists.tolist()):
        said = neighbours_say(contender, train, prefixes.item[slice(*prefixes.offsets[place : place + 2])].tolist())
        assert sorted(named) == list(range(8))
        scores = [said[item] for item in named]
        assert scores == pytest.approx(sorted(scores, reverse=True), rel=1e-5)
        assert scores[0] > 0


@pytest.mark.parametrize("kind", BASELINES, ids=lambda kind: kind.name)
def test_lists_do_not_depend_on_what_is_asked_beside(kind: type[Baseline], shop_folder: Path):
    split = read_split(shop_folder, repeats=False)
    contender = published(kind)
    contender.fit(split.train, split.catalog)
    positions = Positions.every(split.test).at(slice(0, 300))
    together = predictions(contender, positions, repeats=False)
    alone = [contender.predict(part.prefixes(), 20, repeats=False) for part in positions.chunks(1)]
    assert np.array_equal(together, np.concatenate(alone))
    prefixes = positions.prefixes()
    for place, named in enumerate(together):
        assert not set(named) & set(prefixes.item[slice(*prefixes.offsets[place : place + 2])])
    assert (split.counts[together] > 0).all()


def test_draws_begin_with_what_is_published_and_never_repeat():
    for kind in BASELINES[1:]:
        settings = draws(kind.space, 16, seed=0)
        assert settings[0] == published(kind).parameters
        assert len({tuple(setting.values()) for setting in settings}) == len(settings)
        assert len(settings) == min(16, math.prod(map(len, kind.space.values())))
        assert all(value in kind.space[name] for setting in settings for name, value in setting.items())
        assert settings == draws(kind.space, 16, seed=0)
        assert set(kind.space) == {field.name for field in fields(kind)}
    assert draws(Vstan.space, 16, seed=0) != draws(Vstan.space, 16, seed=1)


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command reads, of a small simulated shop."""
    folder = tmp_path_factory.mktemp("quality")
    write_shop(folder, events=1, sessions=1500, items=120, shoppers=80)
    events = pa.Table.from_batches([batch.select(COLUMNS) for batch in read_events(folder / "sessions.jsonl")])
    pacsv.write_csv(events, folder / "sessions.csv")
    catalog = read_catalog(folder / "catalog.jsonl")[0].select(["item_id", "title", "category", "brand", "price"])
    pacsv.write_csv(catalog, folder / "items.csv")
    return folder


def written(folder: Path, name: str, *lines: str) -> None:
    (folder / name).write_text("\n".join(lines) + "\n")


HEADER = "session_id,user_id,event_time,event_type,item_id"


def test_items_and_users_of_both_parts_have_the_same_numbers(tmp_path: Path):
    written(tmp_path, "sessions.csv", HEADER, "s2,u,900,view,q", "s1,v,5,view,p", "s1,v,6,view,p", "s2,u,901,view,p")
    written(tmp_path, "test_sessions.csv", HEADER, "t,w,1000,view,new", "t,w,1001,view,p", "t2,u,2000,view,q")
    written(tmp_path, "items.csv", "item_id,title,category", "q,a,", "never,b,c", "p,d,c")
    split = read_split(tmp_path, repeats=True)
    assert split.train.items == split.test.items == ["p", "q", "new", "never"]
    assert [split.test.items[item] for item in split.test.item] == ["new", "p", "q"]
    assert [split.train.users[user] for user in split.train.user] == ["v", "u"]
    assert [split.test.users[user] for user in split.test.user] == ["w", "u"]
    assert split.train.users == split.test.users
    assert split.counts.tolist() == [3, 1, 0, 0]
    assert split.known.tolist() == [True, True, False, True]
    assert len(read_split(tmp_path, repeats=False).train.item) == 3
    by, traits = traits_of(split)
    assert (by, traits.toarray().tolist()) == ("category", [[1], [0], [0], [1]])
    (tmp_path / "items.csv").unlink()
    assert traits_of(read_split(tmp_path, repeats=True))[1].toarray().tolist() == [[1, 1], [0, 1], [0, 0]]


def test_items_that_are_not_in_training_count(tmp_path: Path):
    written(tmp_path, "sessions.csv", HEADER, "s,u,1,view,p", "s,u,2,view,q")
    written(tmp_path, "test_sessions.csv", HEADER, "t,u,5,view,p", "t,u,6,view,new", "t2,u,7,view,q", "t2,u,8,view,p")
    written(tmp_path, "items.csv", "item_id,title", "never,a", "q,b")
    race = Race.of(Options(tmp_path, quick=True), read_split(tmp_path, repeats=True))
    assert race.split.train.items == ["p", "q", "new", "never"]
    row = race.measure("stubborn", Stubborn(3, 2, *[-1] * 18), 0, None)
    assert (row.hr_20, row.mrr_20, row.cold_hr_20, row.cold_share) == (0.5, 0.25, 1, 0.5)
    assert row.coverage == pytest.approx(1 / 3, abs=1e-6)  # never, of p, q and never
    assert row.novelty == pytest.approx(math.log2(6), abs=1e-6)  # 1 of 2 + 4
    assert (row.diversity, row.parameters, row.valid_mrr_20) == (1, {}, None)
    everything = race.measure("stubborn", Stubborn(0, 1, *[-1] * 18), 0, None)
    assert (everything.coverage, everything.cold_hr_20) == (pytest.approx(2 / 3, abs=1e-6), 0)
    assert everything.diversity == 0  # p and q were in the same sessions


def test_without_a_test_file_the_last_fifth_is_the_test(shop_folder: Path):
    split = read_split(shop_folder, repeats=True)
    whole = interactions(read_events(shop_folder / "sessions.csv"))
    assert 5 * len(split.test) == pytest.approx(len(whole), abs=3)
    assert len(split.train) + len(split.test) == len(whole) > 500
    assert split.train.start.max() <= split.test.start.min()
    known = np.unique(split.train.item)
    assert np.array_equal(known, np.arange(len(known)))
    assert set(split.train.items) >= set(split.catalog["item_id"].to_pylist())


def test_online_retail_is_what_it_was_counted_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = data_file("online_retail", "online_retail.csv.gz")
    monkeypatch.setenv("SHOPSTREAM_DATA", str(file.parents[1]))
    prepare("online_retail", tmp_path / "retail")
    split = read_split(tmp_path / "retail", repeats=True)
    assert len(split.train) + len(split.test) == 18_536
    assert len(split.train.item) + len(split.test.item) == 397_924
    assert len(split.train.users) == 4339
    assert split.catalog is not None
    assert len(split.catalog) == len(split.train.items) == 3665
    first = split.train.item[: split.train.offsets[1]]
    assert [split.train.items[item] for item in first] == [
        "85123A",
        "71053",
        "84406B",
        "84029G",
        "84029E",
        "22752",
        "21730",
    ]
    title = dict(zip(*(split.catalog[name].to_pylist() for name in ("item_id", "title")), strict=True))
    assert title["85123A"] == "WHITE HANGING HEART T-LIGHT HOLDER"


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder made of yoochoose_100k."""
    file = data_file("yoochoose_100k", "yoochoose-clicks-100k_train_tr.txt.gz")
    folder = tmp_path_factory.mktemp("clicks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOPSTREAM_DATA", str(file.parents[1]))
        prepare("yoochoose_100k", folder)
    return folder


def test_yoochoose_is_what_it_was_counted_to_be(clicks: Path):
    split = read_split(clicks, repeats=True)
    assert (len(split.train), len(split.train.item), len(split.train.items)) == (13_629, 53_254, 2873)
    assert (len(split.test), len(split.test.item)) == (4084, 16_539)
    assert len(Positions.every(split.test)) == 12_455
    assert split.catalog is None
    assert (split.counts > 0).all()


def test_the_published_parameters_rank_as_their_authors_have_it(clicks: Path):
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


# --- the command ------------------------------------------------------------------------------------------------------


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "quality", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_a_quick_run(shop_folder: Path, bundles: Path, tmp_path: Path):
    report = tmp_path / "report.md"
    options = ("--quick", "--no-repeats", "--bundles", str(bundles), "--json", "--report", str(report))
    ran = bench("--data", str(shop_folder), *options)
    assert ran.returncode == 0, ran.stderr
    rows = [Row(**row) for row in json.loads(ran.stdout)]
    assert {row.name for row in rows} == set(NAMES)
    assert [row.mrr_20 for row in rows] == sorted((row.mrr_20 for row in rows), reverse=True)
    by_name = {row.name: row for row in rows}
    assert by_name["pop"].mrr_20 < by_name["vstan"].mrr_20
    for row in rows:
        assert 0 <= row.mrr_5 <= row.mrr_10 <= row.mrr_20 <= row.ndcg_20 <= row.hr_20 <= 1
        assert row.hr_5 <= row.hr_10 <= row.hr_20
        low, high = row.intervals["hr_20"]
        assert low < row.hr_20 < high
        assert 0 < row.coverage <= 1
        assert 0 <= (row.diversity or 0) <= 1
        assert 0 < row.p50_ms <= row.p99_ms
        assert (row.positions, row.repeats, row.diversity_by) == (rows[0].positions, False, "category")
        assert (row.cold_hr_20 is None) == (row.cold_share == 0)
    assert by_name["vstan"].trials == 3
    assert by_name["vstan-published"].trials == 0
    assert by_name["vstan-published"].parameters == published(Vstan).parameters
    lines = report.read_text().splitlines()
    assert sum(line.startswith("| ") for line in lines) == 2 + len(NAMES)
    assert f"| {rows[0].name} |" in report.read_text()


def test_a_table_for_people(shop_folder: Path, capsys: pytest.CaptureFixture[str]):
    run(Options(shop_folder, only=("pop", "sr"), trials=2, positions=100), as_json=False)
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines() if line[1:4] in ("sr ", "pop")] == ["sr", "pop"]
    assert "best of 2 settings" in out
    assert "sessions drawn whole, seed 0; repeats stay" in out
    assert "next: --report FILE.md" in out
    assert "sr: HR@20 " in err


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"only": ("theirs",)}, "--only names theirs; the contenders are ours, ours-no-text, "),
        ({"report": Path("nowhere/report.md")}, "--report nowhere/report.md: there is no folder "),
        ({"data": Path("nowhere")}, "nowhere has no sessions.csv or sessions.csv.gz; --prepare makes one"),
    ],
)
def test_a_mistake_is_one_line(shop_folder: Path, options: dict[str, Any], error: str):
    with pytest.raises(ShopstreamError) as raised:
        run(Options(**{"data": shop_folder} | options), as_json=False)
    assert str(raised.value).startswith(error)


def test_sessions_that_leave_nothing_to_measure_are_refused(tmp_path: Path):
    written(tmp_path, "sessions.csv", HEADER, "s,u,1,view,p", "t,u,2,view,p", "t,u,3,view,p")
    with pytest.raises(ShopstreamError, match="one of two items or more to test"):
        read_split(tmp_path, repeats=False)
    written(tmp_path, "test_sessions.csv", HEADER, "t,u,2,view,p", "t,u,3,view,q")
    written(tmp_path, "sessions.csv", HEADER, "s,u,1,view,p")
    for name, error in (
        ("stan", "too few training sessions to tune on"),
        ("ours-no-text", "too few to learn a ranker"),
    ):
        with pytest.raises(ShopstreamError, match=error):
            run(Options(tmp_path, only=(name,)), as_json=False)


def test_what_cannot_be_prepared_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(ShopstreamError, match=r"^--prepare movies: choose online_retail or yoochoose_100k$"):
        prepare("movies", tmp_path)
    monkeypatch.setenv("SHOPSTREAM_DATA", str(tmp_path))
    with pytest.raises(ShopstreamError, match="SHOPSTREAM_DATA names the folder that holds online_retail"):
        prepare("online_retail", tmp_path / "out")
    with pytest.raises(SystemExit) as ended:
        main(["quality", "--data", str(tmp_path / "out"), "--prepare", "movies"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: --prepare movies: choose online_retail or yoochoose_100k\n"
