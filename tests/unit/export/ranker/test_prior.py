from dataclasses import replace
from pathlib import Path

import pytest
from histories import IDS, VECTORS, catalog, encode, walks

from export.ranker.positions import request_of
from export.ranker.prior import FILE, PRIOR_SOURCES, learn_prior, open_prior
from export.ranker.train import Shop
from udfs.catalog.items import LiveItems
from udfs.core.errors import ShopstreamError
from udfs.ranking.learned import LearnedRanker
from udfs.ranking.options import RankOptions

SHOP = Shop(walks(300, 2), catalog(), VECTORS, encode)


def hits(file: Path, folder: Path) -> float:
    """How often the prior in a file ranks the next item of the walks first, in a shop without sessions."""
    (folder / "learning").mkdir(parents=True)
    trained = open_prior(SHOP, folder / "learning", file)
    bundle = SHOP.bundle(SHOP.log.part(0, 0), folder, trained)
    ranker = LearnedRanker(bundle, LiveItems(bundle), RankOptions())
    firsts = SHOP.log.offsets[:-1]
    sofar = replace(
        SHOP.log,
        offsets=SHOP.log.offsets[:1].repeat(len(firsts) + 1) + range(len(firsts) + 1),
        **{name: getattr(SHOP.log, name)[firsts] for name in ("item", "time", "type_code")},
    )
    ranked = ranker.rank(request_of(sofar), encode)
    assert {reason.source for row in ranked for item in row for reason in item.reasons} <= PRIOR_SOURCES
    nexts = [IDS[item] for item in SHOP.log.item[firsts + 1]]
    return sum(row[0].item_id == target for row, target in zip(ranked, nexts, strict=True)) / len(nexts)


def test_packaged_prior_ranks_a_shop_without_sessions(tmp_path: Path):
    assert hits(FILE, tmp_path) > 0.1  # their titles mean nothing, but their ids are next to each other


def test_prior_learns_how_sessions_go_on(tmp_path: Path):
    file = tmp_path / "prior.txt"
    file.write_text(learn_prior([SHOP, SHOP], tmp_path))
    assert hits(file, tmp_path / "shop") > 0.6
    assert learn_prior([SHOP, SHOP], tmp_path) == file.read_text()


def test_prior_with_other_features_is_refused(tmp_path: Path):
    file = tmp_path / "prior.txt"
    file.write_text(FILE.read_text().replace("listed_near", "listed_far"))
    with pytest.raises(ShopstreamError, match="make it again"):
        open_prior(SHOP, tmp_path, file)
    file.write_text("no trees")
    with pytest.raises(ShopstreamError, match="is no ranker"):
        open_prior(SHOP, tmp_path, file)
