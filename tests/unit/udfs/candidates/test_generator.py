from pathlib import Path

import numpy as np
import pytest
from histories import DIMENSIONS, ITEMS, VECTORS, bundle_of, catalog, encode, of_letters, tiny, walks

from export.history.files import write_past
from export.history.interactions import Interactions
from export.ranker.positions import bare_manifest, candidates, context_of
from udfs.bundles.bundle import Bundle
from udfs.bundles.forgotten import ErasureList
from udfs.candidates.generator import CandidateGenerator, Candidates
from udfs.catalog.items import LiveItems
from udfs.core.hashing import shopper_hash
from udfs.sessions.columns import Sessions
from udfs.sessions.requests import RankInputs, RankRequest

#: Ages of what never was are not 0.
AGES = {"category_age", "brand_age"}


def by_item(generator: CandidateGenerator, found: Candidates) -> dict[int, dict[str, float]]:
    """The features by name of the candidates of one session."""
    return {
        item: dict(zip(generator.feature_names, values, strict=True))
        for item, values in zip(found.item.tolist(), found.features, strict=True)
    }


def test_features_by_hand(tmp_path: Path):
    generator = bundle_of(tmp_path, tiny(("u", "abc"), ("v", "adb"), ("w", "ef")))
    row = by_item(generator, candidates(generator, tiny(("v", "a")), of_letters))
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


def test_erased_shoppers_are_unknown(tmp_path: Path):
    def features(user: str) -> np.ndarray:
        return candidates(generator, tiny((user, "a")), of_letters).features

    generator = bundle_of(tmp_path, tiny(("u", "abc"), ("v", "adb"), ("w", "ef"), ("u", "ad")))
    of_unknown, before = features("x"), {user: features(user) for user in "uv"}
    assert not any(np.array_equal(known, of_unknown) for known in before.values())
    hour = 3_600_000
    erased = ErasureList.read(tmp_path).with_more(map(shopper_hash, "uvy"), 2 * hour)
    generator.erase(erased)
    assert np.array_equal(features("v"), of_unknown)
    assert np.array_equal(features("u"), before["u"])  # has come back since: the bundle was made later
    generator.erase(erased.with_more([shopper_hash("u")], 4 * hour))
    assert np.array_equal(features("u"), of_unknown)


def test_without_past_sessions_content_remains(tmp_path: Path):
    generator = bundle_of(tmp_path, tiny(("u", "a")).part(0, 0))
    found = candidates(generator, tiny(("v", "a")), of_letters)
    assert found.item.tolist() == [1, 2, 3, 4, 5]
    known = {name for name, values in zip(generator.feature_names, found.features.T, strict=True) if values.any()}
    assert known == {"seen_age", "history_days", "session_events", "price", "listed_step", "listed_near", *AGES}


def test_sold_out_popular_items_are_replaced(tmp_path: Path):
    log = walks(300, 8)
    popular = np.argsort(-np.bincount(log.item, minlength=ITEMS))[:40].tolist()
    write_past(tmp_path, log, catalog(*popular), VECTORS)
    bundle = Bundle(tmp_path, bare_manifest(DIMENSIONS))
    generator = CandidateGenerator(bundle, LiveItems(bundle), recommend_seen=False)
    sessions = Sessions.from_arrays([0], [0], [1], event_time=[[0]], event_type=[["view"]], item_id=[["unknown"]])
    inputs = RankInputs.of(RankRequest(["nobody"], sessions), generator.items, encode, recent=10, decay=0.8)
    found = generator.generate(generator.context(inputs))
    assert len(found.item) >= 20
    assert not set(found.item) & set(popular)


def test_sources_name_evidence(learned: Bundle, sofar: Interactions):
    generator = CandidateGenerator(learned, LiveItems(learned), recommend_seen=False)
    found = candidates(generator, sofar, encode)
    evidence = generator.evidence(found, found.session, found.item)
    for source, feature in (("similar_sessions", "similar"), ("co_visit", "co_visit_items")):
        values = found.features[:, generator.feature_names.index(feature)]
        assert (evidence[source][values > 0] >= 0).all()
    assert "popularity" not in evidence
    shuffled = np.random.default_rng(0).permutation(len(found.item))
    again = generator.evidence(found, found.session[shuffled], found.item[shuffled])
    assert all((again[source] == index[shuffled]).all() for source, index in evidence.items())


def test_too_many_sessions_are_refused(learned: Bundle, sofar: Interactions):
    generator = CandidateGenerator(learned, LiveItems(learned), recommend_seen=False)
    generator.max_sessions = len(sofar) - 1
    with pytest.raises(ValueError, match=f"{len(sofar)} sessions in one context"):
        generator.generate(context_of(generator, sofar, encode))


def test_batches_do_not_mix(learned: Bundle, sofar: Interactions):
    """What a source prepares belongs to its batch: another batch in between changes nothing."""
    generator = CandidateGenerator(learned, LiveItems(learned), recommend_seen=False)
    first = candidates(generator, sofar.part(0, 20), encode)
    before = generator.evidence(first, first.session, first.item)
    candidates(generator, sofar.part(20, 60), encode)
    after = generator.evidence(first, first.session, first.item)
    assert all((before[source] == after[source]).all() for source in before)
