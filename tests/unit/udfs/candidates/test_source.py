"""A source is added by one file in udfs/candidates: the worked example of CONTRIBUTING.md."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from histories import IDS, ITEMS, VECTORS, catalog, encode, walks
from support import ROOT

import udfs.candidates
from export.history.interactions import Interactions
from export.ranker.positions import prefixes, request_of
from export.ranker.train import Recipe, Shop, train_ranker
from udfs.bundles.bundle import Bundle
from udfs.candidates.source import all_sources
from udfs.catalog.items import LiveItems
from udfs.ranking.learned import LearnedRanker
from udfs.ranking.options import RankOptions

#: Numbers of features are positions in this order: released bundles rely on it, so that a change needs new rankers.
RELEASED = (
    "similar", "similar_share", "similar_plain_share", "similar_own", "similar_after_share",
    "co_visit", "co_visit_share", "co_visit_last", "co_visit_last_share", "co_visit_second", "co_visit_third",
    "co_visit_most", "co_visit_items",
    "beside", "beside_share", "beside_last", "beside_last_share", "beside_second", "beside_third", "beside_most",
    "beside_items",
    "follows", "follows_share", "follows_last", "follows_last_share", "follows_second", "follows_third", "follows_most",
    "follows_items",
    "content_last", "content", "content_second", "popularity", "popularity_recent", "trend",
    "history", "history_days", "history_items",
    "category_age", "category_share", "category_own", "brand_age", "brand_share", "brand_own",
    "listed_step", "listed_near", "listed_direction", "price", "price_against_session",
    "seen", "seen_age", "session_events", "last_popularity",
)  # fmt: skip

#: The worked example, new_arrivals.py.
(EXAMPLE,) = (
    block
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    if "CandidateSource" in block
)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example as a module of the package."""
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "new_arrivals.py").write_text(EXAMPLE)
    monkeypatch.setattr(udfs.candidates, "__path__", [*udfs.candidates.__path__, str(tmp_path / "sources")])
    monkeypatch.delitem(sys.modules, "udfs.candidates.new_arrivals", raising=False)
    monkeypatch.delattr(udfs.candidates, "new_arrivals", raising=False)


def ranker_of(folder: Path, log: Interactions) -> LearnedRanker:
    """A ranker trained on some sessions, and opened as a job opens it."""
    (folder / "learning").mkdir()
    shop = Shop(log, catalog(), VECTORS, encode)
    bundle = shop.bundle(log, folder, train_ranker(shop, folder / "learning", Recipe()))
    return LearnedRanker(bundle, LiveItems(bundle), RankOptions(k=ITEMS))


def test_features_keep_their_numbers():
    assert tuple(name for source in all_sources() for name in source.feature_names) == RELEASED


def test_sources_are_declared_whole():
    for source in all_sources():
        assert source.name
        assert source.default_reason
        assert len(set(source.feature_names)) == len(source.feature_names) > 0
    assert len({source.order for source in all_sources()}) == len(all_sources())


@pytest.mark.usefixtures("example")
def test_one_file_adds_a_source(tmp_path: Path):
    log = walks(400, 4)
    ranker = ranker_of(tmp_path, log)
    assert ranker.generator.feature_names == (*RELEASED, "newness")
    (ranked,) = ranker.rank(request_of(prefixes(log, np.array([1]))), encode)
    reasons = {(reason.source, reason.because) for item in ranked for reason in item.reasons}
    assert ("new_arrivals", "new in this shop") in reasons
    assert set(IDS[-5:]) <= {item.item_id for item in ranked}


@pytest.mark.usefixtures("example")
def test_earlier_rankers_leave_an_added_source_out(learned: Bundle):
    assert LearnedRanker(learned, LiveItems(learned), RankOptions()).generator.feature_names == RELEASED
