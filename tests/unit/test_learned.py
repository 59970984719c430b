import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from histories import DIMENSIONS, IDS, ITEMS, VECTORS, bundle_of, catalog, encode, of_letters, tiny, trained, walks

from export.history.files import write_past
from export.history.interactions import Interactions
from export.ranker.positions import bare_manifest, candidates, prefixes, query_of, sessions_of
from export.ranker.train import TrainedRanker
from udfs.bundles.bundle import INDEX, Bundle
from udfs.bundles.forgotten import ErasureList
from udfs.bundles.manifest import FileEntry
from udfs.candidates.content import ContentSimilarity
from udfs.candidates.generator import CandidateGenerator
from udfs.candidates.listing import _listed_by
from udfs.candidates.source import Pairs
from udfs.catalog.index import VectorIndex, build_index
from udfs.catalog.items import LiveItems
from udfs.core.arrays import top_k_per_group, unique_inverse
from udfs.core.errors import ShopstreamError
from udfs.core.exact import SCORE_SCALE
from udfs.core.hashing import shopper_hash
from udfs.ranking.learned import LearnedRanker
from udfs.ranking.options import RankOptions
from udfs.sessions.signals import signals_of


@pytest.fixture(scope="module")
def made() -> TrainedRanker:
    return trained()


@pytest.fixture(scope="module")
def learned(made: TrainedRanker, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with a ranker, without an encoder."""
    folder = tmp_path_factory.mktemp("learned")
    write_past(folder, walks(900, 1), catalog(7), VECTORS)
    (folder / "ranker.onnx").write_bytes(made.model)
    return Bundle(folder, msgspec.structs.replace(bare_manifest(DIMENSIONS), ranker=made.info))


@pytest.fixture(scope="module")
def sofar() -> Interactions:
    log = walks(60, 2)
    return prefixes(log, np.flatnonzero(np.arange(len(log.item)) > log.offsets[:-1][log.session]))


def users(log: Interactions) -> list[str]:
    return [log.users[number] for number in log.user]


def answers(bundle: Bundle, log: Interactions, **options: object) -> list[list[object]]:
    ranker = LearnedRanker(bundle, LiveItems(bundle), RankOptions(**options))  # type: ignore[arg-type]
    return [
        [msgspec.to_builtins(item) for item in ranked] for ranked in ranker.answer(users(log), sessions_of(log), encode)
    ]


# --- sources ----------------------------------------------------------------------------------------------------------


def test_columns_of_a_pair_by_hand(tmp_path: Path):
    log = tiny(("u", "abc"), ("v", "adb"), ("w", "ef"))
    finder = bundle_of(tmp_path, log)
    found = candidates(finder, tiny(("v", "a")), of_letters)
    row = {
        item: dict(zip(finder.columns, values, strict=True))
        for item, values in zip(found.item.tolist(), found.columns, strict=True)
    }
    assert 0 not in row  # seen
    step, root = np.exp(-1 / 3), np.sqrt(3)
    assert row[1]["similar_own"] == pytest.approx(step**2 / root)
    assert row[2]["similar_own"] == 0
    assert row[1]["similar"] == pytest.approx((step + step**2) / root * np.log(3 / 2))
    assert row[3]["similar_share"] == pytest.approx(
        step * np.log(3) / max(step * np.log(3), step**2 * np.log(3), (step + step**2) * np.log(1.5))
    )
    assert row[1]["follows_last"] == 1.5
    assert row[3]["follows_last"] == 1
    assert row[1]["history"] == 1
    assert row[1]["history_days"] == pytest.approx(0, abs=1e-3)
    assert row[2]["history"] == 0
    assert row[1]["popularity"] == pytest.approx(np.log1p(2))
    assert row[4]["session_events"] == 1
    assert row[4]["content_last"] == 0
    assert row[1]["price"] == pytest.approx(np.log(2))
    assert row[1]["price_against_session"] == 0  # what a costs is unknown
    assert row[4]["listed_step"] == 4
    assert row[4]["listed_near"] == pytest.approx(1 / (1 + 4))
    assert row[4]["listed_direction"] == 0


def test_a_forgotten_shopper_is_a_stranger(tmp_path: Path):
    def described(user: str) -> np.ndarray:
        return candidates(finder, tiny((user, "a")), of_letters).columns

    finder = bundle_of(tmp_path, tiny(("u", "abc"), ("v", "adb"), ("w", "ef"), ("u", "ad")))
    strangers, before = described("x"), {user: described(user) for user in "uv"}
    assert not any(np.array_equal(known, strangers) for known in before.values())
    hour = 3_600_000
    forgotten = ErasureList.read(tmp_path).with_more(map(shopper_hash, "uvy"), 2 * hour)
    finder.forget(forgotten.at_of)
    assert np.array_equal(described("v"), strangers)
    assert np.array_equal(described("u"), before["u"])  # has come back since: the bundle was made later
    finder.forget(forgotten.with_more([shopper_hash("u")], 4 * hour).at_of)
    assert np.array_equal(described("u"), strangers)


def test_prices_are_compared_with_those_of_the_session(tmp_path: Path):
    finder = bundle_of(tmp_path, tiny(("u", "abc"), ("v", "adb"), ("w", "ef")))
    found = candidates(finder, tiny(("v", "abc")), of_letters)
    against = found.columns[:, finder.columns.index("price_against_session")]
    assert found.item.tolist() == [3, 4, 5]
    assert against.tolist() == pytest.approx([np.log(8 / np.sqrt(2 * 4))] * 3)


def test_categories_and_brands_of_a_pair_by_hand(tmp_path: Path):
    log = tiny(("v", "aabd"), ("w", "ceec"))
    kinds = {"category": ["x", "x", "y", "y", "x", None], "brand": ["s", None, "t", None, "t", "t"]}
    finder = bundle_of(tmp_path, log, **kinds)
    query = query_of(finder, tiny(("v", "acb")), of_letters)
    found = finder.find(query)
    assert found.item.tolist() == [3, 4, 5]
    d, e, f = (dict(zip(finder.columns, values, strict=True)) for values in found.columns)
    assert [row["category_age"] for row in (d, e, f)] == [1, 0, 999]
    assert [row["brand_age"] for row in (d, e, f)] == [999, 1, 1]
    weights = np.array([0.8**2, 0.8, 1])  # of a, c and b
    in_x, of_t = 1 - 0.8 / weights.sum(), 0.8 / weights[:2].sum()
    assert [row["category_share"] for row in (d, e, f)] == pytest.approx([1 - in_x, in_x, 0])
    assert [row["brand_share"] for row in (d, e, f)] == pytest.approx([0, of_t, of_t])
    # Of v's four events before, three were in x and one in y; of brands, both were of s.
    assert [row["category_own"] for row in (d, e, f)] == [0.25, 0.75, 0]
    assert [row["brand_own"] for row in (d, e, f)] == [0, 0, 0]
    newest = finder.because(query, found.session, found.item)["category"].tolist()
    assert [query.item[place] if place >= 0 else None for place in newest] == [2, 1, 2]  # f is of c's brand


def test_the_best_of_the_newest_category_and_of_the_main_one_are_proposed(tmp_path: Path):
    ids = [f"i{number}" for number in range(60)]
    log = replace(tiny(*[("u", "a")] * 60), items=ids, item=np.arange(60))  # the later, the more of late
    category: list[str | None] = [*["x", "y", "z"] * 10, *[None] * 30]
    finder = bundle_of(tmp_path, log, category=category)
    source = dict(finder._sources)["category"]

    def proposed(*items: int) -> list[int]:
        sofar = replace(tiny(("new", "a" * len(items))), items=ids, item=np.array(items))
        finder.find(query_of(finder, sofar, lambda texts: np.zeros((len(texts), 60), np.float32)))
        return sorted(source.propose().tolist())

    of_x, of_y = list(range(0, 30, 3)), list(range(1, 30, 3))
    assert proposed(0) == of_x
    assert proposed(3, 0, 6, 1) == sorted(of_x + of_y)
    assert proposed(59) == []
    new = {"item_id": ["n1", "n2"], "title": ["new", "newer"], "in_stock": [True, True], "price": [1.0, 1.0]}
    rest = {"category": ["x", "w"], "brand": [None] * 2, "encoder": ["other"] * 2, "vector": [None] * 2}
    finder.items.apply(pa.table(new | rest), lambda titles: np.zeros((len(titles), 60), np.float32))
    ids += ["n1", "n2"]
    assert proposed(61) == []  # not yet refreshed
    finder.items.in_stock[27] = False
    finder.refresh()
    assert proposed(0) == sorted({*of_x, 60} - {27})
    assert proposed(61) == [61]


def listed(finder: CandidateGenerator, letters: str) -> dict[str, list[float]]:
    """The columns of the order of ids, by candidate."""
    sofar = tiny(("u", letters)) if letters else replace(tiny(("u", "a")), item=np.array([99]))
    sofar = replace(sofar, items=[*finder.items.ids, *[""] * 100][:100])
    query = query_of(finder, sofar, lambda texts: np.zeros((len(texts), 6), np.float32))
    found = finder.find(query)
    columns = [finder.columns.index(f"listed_{name}") for name in ("step", "near", "direction")]
    named = finder.because(query, found.session, found.item)["listing"]
    assert (named >= 0).tolist() == (found.columns[:, columns[1]] >= 1 / (1 + 5)).tolist()
    return {
        finder.items.ids[item]: [*values, query.item[place] if place >= 0 else -1]
        for item, values, place in zip(found.item.tolist(), found.columns[:, columns].tolist(), named, strict=True)
    }


def test_items_are_listed_by_their_ids_and_new_ones_among_them(tmp_path: Path):
    ids = ["i10", "i9", "i2", "ä1", "i100", "i11"]  # in order: i2, i9, i10, i11, i100, ä1
    finder = bundle_of(tmp_path, replace(tiny(("u", "af"), ("v", "bcde")), items=ids))
    last = 5  # i11, after i10
    assert listed(finder, "af") == {
        "i9": [-2, pytest.approx(1 / 2), 1, 0],
        "i2": [-3, pytest.approx(1 / 3), 1, 0],
        "ä1": [2, pytest.approx(1 / 3), 1, last],
        "i100": [1, pytest.approx(1 / 2), 1, last],
    }
    assert {tuple(values[:3]) for values in listed(finder, "").values()} == {(0, 0, 0)}
    new = {"item_id": ["i012", "h1"], "title": ["new", "newer"], "in_stock": [True, True], "price": [1.0, 1.0]}
    unknown = {"category": [None] * 2, "brand": [None] * 2, "encoder": ["other"] * 2, "vector": [None] * 2}
    finder.items.apply(pa.table(new | unknown), lambda titles: np.zeros((len(titles), 6), np.float32))
    finder.refresh()
    assert listed(finder, "af")["i012"] == [1, pytest.approx(1 / 2), 1, last]
    assert listed(finder, "af")["i100"] == [2, pytest.approx(1 / 3), 1, last]
    assert listed(finder, "af")["h1"] == [-4, pytest.approx(1 / 4), 1, 0]
    finder.items.in_stock[[3, 5]] = False  # ä1 and i11, which stands where i012 does
    finder.refresh()
    assert listed(finder, "af")["i012"] == [0, 1, 1, last]
    assert listed(finder, "af")["i100"] == [1, pytest.approx(1 / 2), 1, last]
    assert "ä1" not in listed(finder, "d")


def test_changes_that_fail_half_way_do_not_stop_the_order_of_ids(tmp_path: Path):
    finder = bundle_of(tmp_path, replace(tiny(("u", "af"), ("v", "bcde")), items=["i1", "i2", "i3", "i4", "i5", "i6"]))
    new = {"item_id": ["i7"], "title": ["new"], "in_stock": [True], "price": [1.0]}
    unknown = {"category": [None], "brand": [None], "encoder": ["other"], "vector": [None]}
    with pytest.raises(RuntimeError):
        finder.items.apply(pa.table(new | unknown), refuse)
    assert {"i4", "i5"} < listed(finder, "f").keys()


def refuse(titles: list[str]) -> np.ndarray:
    raise RuntimeError(f"no vectors for {titles}")


def test_ids_are_in_the_order_of_their_numbers():
    ids = [
        "1", "9", "10", "0012", "1000", "999999999999", "1000000000000", "sku-2024-0001-blue-1", "sku-2024-0001-blue-2",
        "sku-2024-0001-blue-10", "sku-2024-0002-blue-1", "t",
    ]  # fmt: skip
    assert sorted(np.random.default_rng(0).permutation(ids).tolist(), key=_listed_by) == ids


def test_listed_items_are_known_to_all(tmp_path: Path):
    ids = ["i10", "i9", "i2", "ä1", "i100", "i11"]
    finder = bundle_of(tmp_path, replace(tiny(("u", "af"), ("v", "bcde")), items=ids))
    assert listed(finder, "d").keys() == {"i10", "i9", "i2", "i100", "i11"}


def test_a_source_names_the_items_that_speak_for_a_pair(learned: Bundle, sofar: Interactions):
    finder = LearnedRanker(learned, LiveItems(learned), RankOptions()).finder
    query = query_of(finder, sofar, encode)
    found = finder.find(query)
    named = finder.because(query, found.session, found.item)
    for name in ("similar_sessions", "co_visit"):
        place = named[name]
        column = found.columns[:, finder.columns.index("similar" if name == "similar_sessions" else "co_visit_items")]
        assert (place[column > 0] >= 0).all()
    assert (named["popularity"] == -1).all()
    assert len(query) == len(sofar)


# --- the ranker -------------------------------------------------------------------------------------------------------


def test_it_learns_what_comes_next(learned: Bundle):
    log = walks(150, 3)
    places = np.flatnonzero(np.arange(len(log.item)) > log.offsets[:-1][log.session])
    ranked = answers(learned, prefixes(log, places))
    hits = [IDS[target] == row[0]["item_id"] for target, row in zip(log.item[places], ranked, strict=True)]  # type: ignore[index]
    assert np.mean(hits) > 0.45  # seven of ten steps go to the next number; one of them is sold out, some are seen
    assert learned.manifest.ranker is not None
    assert learned.manifest.ranker.quality["hr_20"] > 0.6


def test_reasons_add_up_and_scores_fall(learned: Bundle, sofar: Interactions):
    for ranked in answers(learned, sofar, diversity=0.5):
        assert [item["rank"] for item in ranked] == list(range(1, len(ranked) + 1))  # type: ignore[index]
        scores = [item["score"] for item in ranked]  # type: ignore[index]
        assert scores == sorted(scores, reverse=True)
        for item in ranked:
            weights = [reason["weight"] for reason in item["reasons"]]  # type: ignore[index]
            assert round(sum(weights) * SCORE_SCALE) == round(item["score"] * SCORE_SCALE)  # type: ignore[index]
            assert weights == sorted(weights, reverse=True)


def test_an_answer_does_not_depend_on_the_sessions_beside_it(learned: Bundle, sofar: Interactions):
    together = answers(learned, sofar)
    alone = [answers(learned, sofar.part(number, number + 1))[0] for number in range(0, len(sofar), 7)]
    assert json.dumps(together[::7]) == json.dumps(alone)
    ranker = LearnedRanker(learned, LiveItems(learned), RankOptions())
    ranker.finder.most_sessions = 5
    given = users(sofar), sessions_of(sofar), encode
    assert msgspec.to_builtins(ranker.answer(*given)) == together


def test_settings_of_the_blend_change_no_answer(learned: Bundle, sofar: Interactions):
    """Trees fit the features that they were trained on: no setting may give them others."""
    assert answers(learned, sofar, recent=3, decay=0.3) == answers(learned, sofar)


def test_sold_out_and_seen_items_are_left_out(learned: Bundle, sofar: Interactions):
    for ranked, first, last in zip(answers(learned, sofar, k=50), sofar.offsets, sofar.offsets[1:], strict=False):
        named = {item["item_id"] for item in ranked}  # type: ignore[index]
        assert len(named) == len(ranked) > 10
        assert not named & {IDS[item] for item in sofar.item[first:last]} | named & {"i007"}


def test_caps_and_diversity(learned: Bundle, sofar: Interactions):
    def like(ranked: list[object]) -> float:
        rows = [IDS.index(item["item_id"]) for item in ranked]  # type: ignore[index]
        likeness = VECTORS[rows] @ VECTORS[rows].T
        return float(likeness[np.triu_indices(len(rows), 1)].mean())

    for ranked in answers(learned, sofar, k=6, per_category=1):
        categories = [IDS.index(item["item_id"]) % 6 for item in ranked]  # type: ignore[index]
        assert len(set(categories)) == len(categories) >= 5
    plain, diverse = answers(learned, sofar, k=8), answers(learned, sofar, k=8, diversity=2.0)
    assert np.mean(list(map(like, diverse))) < np.mean(list(map(like, plain))) - 0.02
    assert any(reason["source"] == "diversity" for ranked in diverse for item in ranked for reason in item["reasons"])  # type: ignore[index]


def test_a_session_that_says_nothing_gets_what_is_popular(learned: Bundle, sofar: Interactions):
    sessions = sessions_of(sofar.part(0, 1))
    nothing = replace(sessions, item_id=np.full(len(sessions.item_id), "unheard of", dtype=object))
    (ranked,) = LearnedRanker(learned, LiveItems(learned), RankOptions()).answer(["nobody"], nothing, encode)
    assert len(ranked) == 10


def test_popular_items_that_are_sold_out_make_room_for_others(tmp_path: Path):
    log = walks(300, 8)
    popular = np.argsort(-np.bincount(log.item, minlength=ITEMS))[:40].tolist()
    write_past(tmp_path, log, catalog(*popular), VECTORS)
    bundle = Bundle(tmp_path, bare_manifest(DIMENSIONS))
    finder = CandidateGenerator(bundle, LiveItems(bundle), repeats=False)
    nothing = replace(sessions_of(prefixes(log, np.array([1]))), item_id=np.array(["unheard of"], dtype=object))
    rows = np.array([-1])
    signals = signals_of(nothing, rows, finder.items.titles, RankOptions().recent, RankOptions().decay)
    found = finder.find(finder.query(["nobody"], nothing, rows, signals, np.zeros((0, DIMENSIONS), np.float32)))
    assert len(found.item) >= 20
    assert not set(found.item) & set(popular)


def test_caps_leave_no_place_empty_while_there_are_items(learned: Bundle, sofar: Interactions):
    for ranked in answers(learned, sofar, k=6, per_category=1):
        assert len(ranked) == 6


def test_a_ranker_that_does_not_fit_is_refused(learned: Bundle):
    with pytest.raises(ShopstreamError, match="train with --repeats"):
        LearnedRanker(learned, LiveItems(learned), RankOptions(exclude_seen=False))
    info = learned.manifest.ranker
    assert info is not None
    for wrong in (
        {"columns": info.columns[1:]},
        {"sources": ("magic", *info.sources[1:])},
        {"sources": info.sources[1:]},
    ):
        manifest = msgspec.structs.replace(learned.manifest, ranker=msgspec.structs.replace(info, **wrong))
        with pytest.raises(ShopstreamError, match="another version"):
            LearnedRanker(Bundle(learned.path, manifest), LiveItems(learned), RankOptions())


AGES = {"category_age", "brand_age"}  # unknown is not 0


def test_without_past_sessions_there_is_content_alone(tmp_path: Path):
    finder = bundle_of(tmp_path, tiny(("u", "a")).part(0, 0))
    found = candidates(finder, tiny(("v", "a")), of_letters)
    assert found.item.tolist() == [1, 2, 3, 4, 5]
    told = {name for name, column in zip(finder.columns, found.columns.T, strict=True) if column.any()}
    assert told == {"seen_age", "history_days", "session_events", "price", "listed_step", "listed_near", *AGES}


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("group_of", [lambda n: n // 7, lambda n: n * 10**6])  # packed into whole numbers, and not
def test_the_best_of_each_group_are_those_that_sorting_gives(group_of: Callable[[Any], Any], later: bool):
    rng = np.random.default_rng(5)
    group = group_of(np.sort(rng.integers(0, 700, 5000)))
    score = np.rint(rng.normal(size=5000) * 3) * rng.choice([1e-7, 1.0, 1e6], 5000)
    score[rng.random(5000) < 0.01] = -np.inf
    place = np.arange(5000)
    expected = []
    for each in np.unique(group):
        inside = place[group == each].tolist()
        inside.sort(key=lambda n: (-np.float32(score[n]), -n if later else n))
        expected += sorted(inside[:4])
    assert top_k_per_group(group, score, 4, later=later).tolist() == expected
    assert top_k_per_group(group[:0], score[:0], 4, later=later).tolist() == []


@pytest.mark.parametrize("size", [1000, 10**6])  # marked in an array, and sorted
def test_keys_are_numbered_and_found_alike_whatever_their_range(size: int):
    rng = np.random.default_rng(6)
    keys = rng.integers(0, size, 2000)
    different, place = unique_inverse(keys, size)
    assert different.tolist() == sorted(set(keys.tolist()))
    assert (different[place] == keys).all()
    pairs = Pairs(different[::2], different[::2], different[::2], size)
    hit, at = pairs.places(keys)
    assert (pairs.key[at] == keys[hit]).all()
    assert set(keys[np.setdiff1d(np.arange(2000), hit)]) == set(different[1::2])
    assert pairs.found(different, [different])[0].tolist() == pairs.key.tolist()


# --- a large catalog ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def indexed(learned: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same bundle with an index."""
    folder = tmp_path_factory.mktemp("indexed")
    shutil.copytree(learned.path, folder, dirs_exist_ok=True)
    build_index(VECTORS, folder / INDEX)
    manifest = msgspec.structs.replace(learned.manifest, files={INDEX: FileEntry("0" * 64, 1)})
    return Bundle(folder, manifest)


def test_an_index_finds_what_is_nearest(tmp_path: Path):
    rng = np.random.default_rng(7)
    vectors = np.repeat(rng.normal(size=(200, 32)), 20, axis=0) + 0.3 * rng.normal(size=(4000, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    build_index(vectors, tmp_path / INDEX)
    index = VectorIndex(tmp_path / INDEX)
    queries = vectors[::40] * 3
    found = index.nearest(queries, 20)
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    assert np.mean([len(np.intersect1d(*rows)) for rows in zip(found, exact, strict=True)]) > 9.8
    fresh = -vectors[:40:20]  # nothing like them was there
    index.add(np.array([9_000, 9_001]), fresh)
    assert index.nearest(fresh, 1)[:, 0].tolist() == [9_000, 9_001]
    assert (index.nearest(queries, 6000) == -1).any()  # no more than it looked through


def test_with_an_index_the_same_items_are_recommended(learned: Bundle, indexed: Bundle, sofar: Interactions):
    exact, found = answers(learned, sofar), answers(indexed, sofar)
    ids = [[{item["item_id"] for item in ranked} for ranked in every] for every in (exact, found)]  # type: ignore[index]
    assert np.mean([len(one & other) / len(one) for one, other in zip(*ids, strict=True)]) > 0.97
    assert not any("i007" in each for each in ids[1])
    alone = [answers(indexed, sofar.part(number, number + 1))[0] for number in range(0, len(sofar), 7)]
    assert json.dumps(found[::7]) == json.dumps(alone)


def test_where_all_is_sold_out_nothing_is_recommended(learned: Bundle, sofar: Interactions):
    items = LiveItems(learned)
    items.in_stock[:] = False
    few = sofar.part(0, 3)
    assert LearnedRanker(learned, items, RankOptions()).answer(users(few), sessions_of(few), encode) == [[], [], []]


def test_an_index_is_asked_for_more_while_sold_out_items_leave_too_few(indexed: Bundle, sofar: Interactions):
    items = LiveItems(indexed)
    items.in_stock[:ITEMS] = np.arange(ITEMS) % 4 == 0
    source = ContentSimilarity(items)
    query = query_of(CandidateGenerator(indexed, items, repeats=False), sofar, encode)
    source.load(query)
    session, item = np.divmod(source.propose(), query.items)
    assert items.in_stock[item].all()
    known = np.flatnonzero(query.last_text.any(axis=1))
    nearest = np.where(items.in_stock[:ITEMS], query.last_text[known] @ items.vectors[:ITEMS].T, -np.inf)
    best = np.argsort(-nearest, axis=1)[:, :3]
    there = [np.isin(rows, item[session == one]).mean() for one, rows in zip(known, best, strict=True)]
    assert np.mean(there) > 0.9
