import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from histories import VECTORS, catalog, encode, walks

from export.bundle.options import ExportOptions
from export.bundle.ranker import learn_ranker
from export.ranker.train import Shop
from udfs.core.errors import ShopstreamError

SHOP = Shop(walks(300, 2), catalog(), VECTORS, encode)
FEW = replace(SHOP, log=SHOP.log.part(0, 12))
OPTIONS = ExportOptions(Path("items.csv"), Path("none"), sessions=Path("clicks.csv"), learn=True)


def test_shop_without_sessions_gets_the_prior(tmp_path: Path):
    learned, warnings = learn_ranker(SHOP, tmp_path, replace(OPTIONS, sessions=None))
    assert learned.info.prior
    assert (learned.info.quality, warnings) == ({}, [])


def test_few_sessions_get_the_prior_and_a_warning(tmp_path: Path):
    learned, (warning,) = learn_ranker(FEW, tmp_path, OPTIONS)
    assert learned.info.prior
    assert "12 past sessions are too few" in warning
    for options in ({"recommend_seen": True}, {"tune_minutes": 0.01}, {"gate": {"hr_20": 0.1}}):
        with pytest.raises(ShopstreamError, match=r"too few|hr_20 was not measured"):
            learn_ranker(FEW, tmp_path, replace(OPTIONS, **options))  # type: ignore[arg-type]


def test_prior_does_not_replace_a_learned_ranker(bundles: Path, tmp_path: Path):
    shutil.copytree(bundles, tmp_path / "bundles")
    with pytest.raises(ShopstreamError, match="12 past sessions are too few"):
        learn_ranker(FEW, tmp_path, replace(OPTIONS, out=tmp_path / "bundles"))


def test_sessions_of_another_shop_are_refused(tmp_path: Path):
    with pytest.raises(ShopstreamError, match=r"clicks\.csv has no interaction with an item of items\.csv"):
        learn_ranker(replace(SHOP, log=SHOP.log.part(0, 0)), tmp_path, OPTIONS)


def test_gate_refuses_a_ranker(tmp_path: Path):
    with pytest.raises(ShopstreamError, match=r"fails the gate: mrr_20 0\.\d+ < 0\.99\. Nothing was published"):
        learn_ranker(SHOP, tmp_path, replace(OPTIONS, gate={"mrr_20": 0.99, "hr_20": 0.01}))
