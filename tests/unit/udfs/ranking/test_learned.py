import json

import msgspec
import numpy as np
import pytest
from histories import IDS, VECTORS, encode, walks

from export.history.interactions import Interactions
from export.ranker.positions import prefixes, request_of
from udfs.bundles.bundle import Bundle
from udfs.catalog.items import LiveItems
from udfs.core.errors import ShopstreamError
from udfs.core.exact import SCORE_SCALE
from udfs.ranking.learned import LearnedRanker
from udfs.ranking.options import RankOptions
from udfs.ranking.ranker import RankRequest
from udfs.sessions.columns import Sessions


def answers(bundle: Bundle, log: Interactions, **options: object) -> list[list[object]]:
    ranker = LearnedRanker(bundle, LiveItems(bundle), RankOptions(**options))  # type: ignore[arg-type]
    return msgspec.to_builtins(ranker.rank(request_of(log), encode))  # type: ignore[no-any-return]


def test_ranker_predicts_the_next_item(learned: Bundle):
    log = walks(150, 3)
    positions = np.flatnonzero(np.arange(len(log.item)) > log.offsets[:-1][log.session])
    ranked = answers(learned, prefixes(log, positions))
    hits = [IDS[target] == row[0]["item_id"] for target, row in zip(log.item[positions], ranked, strict=True)]  # type: ignore[index]
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


def test_answers_do_not_depend_on_the_batch(learned: Bundle, sofar: Interactions):
    together = answers(learned, sofar)
    alone = [answers(learned, sofar.part(number, number + 1))[0] for number in range(0, len(sofar), 7)]
    assert json.dumps(together[::7]) == json.dumps(alone)
    ranker = LearnedRanker(learned, LiveItems(learned), RankOptions())
    ranker.generator.max_sessions = 5
    assert msgspec.to_builtins(ranker.rank(request_of(sofar), encode)) == together


def test_blend_settings_change_no_answer(learned: Bundle, sofar: Interactions):
    """Trees fit the features that they were trained on: no setting may give them others."""
    assert answers(learned, sofar, recent=3, decay=0.3) == answers(learned, sofar)


def test_sold_out_and_seen_items_are_left_out(learned: Bundle, sofar: Interactions):
    for ranked, first, last in zip(answers(learned, sofar, k=50), sofar.offsets, sofar.offsets[1:], strict=False):
        ids = {item["item_id"] for item in ranked}  # type: ignore[index]
        assert len(ids) == len(ranked) > 10
        assert not ids & {*(IDS[item] for item in sofar.item[first:last]), "i007"}


def test_caps_and_diversity(learned: Bundle, sofar: Interactions):
    def similarity(ranked: list[object]) -> float:
        rows = [IDS.index(item["item_id"]) for item in ranked]  # type: ignore[index]
        cosines = VECTORS[rows] @ VECTORS[rows].T
        return float(cosines[np.triu_indices(len(rows), 1)].mean())

    for ranked in answers(learned, sofar, k=6, per_category=1):
        categories = [IDS.index(item["item_id"]) % 6 for item in ranked]  # type: ignore[index]
        assert len(set(categories)) == len(categories) >= 5
    plain, diverse = answers(learned, sofar, k=8), answers(learned, sofar, k=8, diversity=2.0)
    assert np.mean(list(map(similarity, diverse))) < np.mean(list(map(similarity, plain))) - 0.02
    assert any(reason["source"] == "diversity" for ranked in diverse for item in ranked for reason in item["reasons"])  # type: ignore[index]


def test_sessions_without_signals_get_items(learned: Bundle):
    nothing = Sessions.from_arrays([0], [0], [1], event_time=[[0]], event_type=[["view"]], item_id=[["unknown"]])
    ranker = LearnedRanker(learned, LiveItems(learned), RankOptions())
    (ranked,) = ranker.rank(RankRequest(["nobody"], nothing), encode)
    assert len(ranked) == 10


def test_caps_still_fill_the_list(learned: Bundle, sofar: Interactions):
    for ranked in answers(learned, sofar, k=6, per_category=1):
        assert len(ranked) == 6


def test_fresh_leaves_places_for_items_without_a_past(learned: Bundle, sofar: Interactions):
    items = LiveItems(learned)
    items.popularity[::4] = 0
    new = {IDS[row] for row in range(0, len(IDS), 4)}

    def ranked(**options: int) -> list[list[str]]:
        ranker = LearnedRanker(learned, items, RankOptions(**options))  # type: ignore[arg-type]
        return [[item.item_id for item in row] for row in ranker.rank(request_of(sofar), encode)]

    plain, fresh = ranked(k=8, per_category=8), ranked(k=8, fresh=3)
    assert {len(row) for row in ranked(k=5, fresh=4, per_category=1)} == {5}  # filled up with others
    assert min(len(new & set(row)) for row in plain) < 3
    for before, after in zip(plain, fresh, strict=True):
        assert len(after) == 8
        assert len(new & set(after)) >= 3
        known = [item for item in after if item not in new]
        assert known == [item for item in before if item not in new][: len(known)]  # the lowest ones have made way
    assert all(set(row) <= new for row in ranked(k=8, fresh=20))


def test_exploring_ranker_returns_a_pool_that_begins_as_before(learned: Bundle, sofar: Interactions):
    for rules in ({}, {"diversity": 1.0}, {"per_category": 2}, {"fresh": 3}):
        plain, pool = answers(learned, sofar, **rules), answers(learned, sofar, explore=0.1, **rules)
        assert [row[:10] for row in pool] == plain
        assert {len({item["item_id"] for item in row}) for row in pool} == {20}  # type: ignore[index]


def test_unfit_rankers_are_refused(learned: Bundle):
    with pytest.raises(ShopstreamError, match="train with --repeats"):
        LearnedRanker(learned, LiveItems(learned), RankOptions(exclude_seen=False))
    info = learned.manifest.ranker
    assert info is not None
    for wrong in (
        {"feature_names": info.feature_names[1:]},
        {"sources": ("magic", *info.sources[1:])},
        {"sources": info.sources[1:]},
    ):
        manifest = msgspec.structs.replace(learned.manifest, ranker=msgspec.structs.replace(info, **wrong))
        with pytest.raises(ShopstreamError, match="another version"):
            LearnedRanker(Bundle(learned.path, manifest), LiveItems(learned), RankOptions())


def test_index_leads_to_the_same_items(learned: Bundle, indexed: Bundle, sofar: Interactions):
    exact, found = answers(learned, sofar), answers(indexed, sofar)
    ids = [[{item["item_id"] for item in ranked} for ranked in every] for every in (exact, found)]  # type: ignore[index]
    assert np.mean([len(one & other) / len(one) for one, other in zip(*ids, strict=True)]) > 0.97
    assert not any("i007" in ranked for ranked in ids[1])
    alone = [answers(indexed, sofar.part(number, number + 1))[0] for number in range(0, len(sofar), 7)]
    assert json.dumps(found[::7]) == json.dumps(alone)


def test_sold_out_shop_recommends_nothing(learned: Bundle, sofar: Interactions):
    items = LiveItems(learned)
    items.in_stock[:] = False
    few = sofar.part(0, 3)
    assert LearnedRanker(learned, items, RankOptions()).rank(request_of(few), encode) == [[], [], []]
