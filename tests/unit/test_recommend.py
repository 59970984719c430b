import json
import logging
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flink_jobs.settings import load_settings
from udfs import features, following
from udfs.bundle import MANIFEST, FileEntry, current_id, open_bundle, set_current
from udfs.candidates import shopper_hash
from udfs.checksum import sha256
from udfs.encoder import EncoderOptions
from udfs.errors import ShopstreamError
from udfs.forgotten import Forgotten
from udfs.recommend import Recommender, RecommendOptions
from udfs.sessions import Sessions


@pytest.fixture
def folder(bundles: Path, tmp_path: Path) -> Path:
    """A copy of the shop's bundles, to be changed."""
    shutil.copytree(bundles, tmp_path / "bundles")
    return tmp_path / "bundles"


@pytest.fixture
def recommender(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Recommender:
    monkeypatch.setattr(following, "CHECK_S", 0.0)
    return Recommender(RecommendOptions(folder, EncoderOptions(provider="cpu", threads=1)))


def another_bundle(folder: Path, model: bytes | None = None) -> str:
    """The current bundle with nothing in stock but its first item, or another int8 model, under an id of its own."""
    bundle = open_bundle(folder)
    changed = folder / "changed"
    shutil.copytree(bundle.path, changed)
    table = bundle.items().table
    stock = pa.array([row == 0 for row in range(len(table))])
    table = table.set_column(table.schema.get_field_index("in_stock"), "in_stock", stock)
    pq.write_table(table, changed / "items.parquet")
    if model is not None:
        (changed / "encoder" / "int8.onnx").write_bytes(model)
    names = ("items.parquet", "encoder/int8.onnx")
    entries = {name: FileEntry(sha256(changed / name), (changed / name).stat().st_size) for name in names}
    manifest = msgspec.structs.replace(bundle.manifest, files=bundle.manifest.files | entries)
    manifest = msgspec.structs.replace(manifest, id=manifest.content_id())
    (changed / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    changed.rename(folder / manifest.id)
    return manifest.id


def answer(
    recommender: Recommender, kind: str = "search", item: str | None = None, user: str = "u"
) -> dict[str, object]:
    unknown = [np.array([np.nan])]
    text = [np.array(["stoneware mug"], object)]
    kinds, items = [np.array([kind], object)], [np.array([item], object)]
    sessions = Sessions.from_arrays([5], [5], [1], [np.array([5])], kinds, items, text, *[unknown] * 4)
    (value,) = recommender.recommend([user], ["e"], [5], sessions)
    return dict(json.loads(value))


def test_an_answer_joins_its_trigger(recommender: Recommender, folder: Path):
    found = answer(recommender)
    assert found["recommendation_id"] == "u/e"
    assert found["session_id"] == "u/5"
    assert found["trigger_event_id"] == "e"
    assert found["event_time"] == 5
    assert found["model"] == current_id(folder)
    assert len(found["items"]) == 10


def test_forgotten_shoppers_become_strangers_without_a_restart(recommender: Recommender, folder: Path, shop: Path):
    def items(user: str) -> object:
        return answer(recommender, user=user)["items"]

    lines = (shop / "sessions.jsonl").read_text().splitlines()
    users = dict.fromkeys(json.loads(line)["user_id"] for line in lines)
    stranger = items("nobody")
    user = next(user for user in users if items(user) != stranger)
    Forgotten.read(folder).with_more([shopper_hash(user)], 2**62).write(folder)
    assert items(user) == stranger
    set_current(folder, another_bundle(folder))
    assert items(user) == items("nobody")


def test_features_know_the_bundles_items(recommender: Recommender, folder: Path):
    items = open_bundle(folder).items()
    found = answer(recommender, "view", items.ids[3])["session"]
    assert found["centre_cosine"] == pytest.approx(1)
    assert found["centre_spread"] == pytest.approx(0, abs=1e-12)
    assert found["distinct_categories"] == found["distinct_brands"] == found["top_category_share"] == 1
    assert found["category_entropy"] == 0
    elsewhere = answer(recommender, "view", "unheard of")["session"]
    assert elsewhere["distinct_categories"] == 0
    assert elsewhere["centre_cosine"] is None


def test_features_of_ones_own_come_with_the_setting(bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(features, "FEATURES", dict(features.FEATURES))
    (tmp_path / "shop_features.py").write_text(
        "from udfs.features import feature\n\n@feature('int64')\ndef twice(e):\n    return e.count * 2\n"
    )
    assignments = ["features.modules=shop_features", "encoder.provider=cpu", f"bundles={bundles}"]
    options = load_settings(None, assignments).recommend_options()
    assert options.feature_modules == ("shop_features",)
    assert answer(Recommender(options))["session"]["twice"] == 2
    missing = load_settings(None, [*assignments[1:], "features.modules=json, not_there"]).recommend_options()
    with pytest.raises(ShopstreamError, match=r"features\.modules names 'not_there', which cannot be imported"):
        Recommender(missing)


def test_a_new_bundle_is_taken_up_without_a_restart(recommender: Recommender, folder: Path):
    answer(recommender)
    new = another_bundle(folder)
    assert answer(recommender)["model"] != new
    set_current(folder, new)
    found = answer(recommender)
    assert found["model"] == new
    assert len(found["items"]) == 1


@pytest.mark.parametrize("broken", ["items.parquet", "manifest.json", "CURRENT", "encoder/int8.onnx"])
def test_a_broken_bundle_is_passed_over_and_said(
    recommender: Recommender, folder: Path, caplog: pytest.LogCaptureFixture, broken: str
):
    before = answer(recommender)
    new = another_bundle(folder)
    if broken == "CURRENT":
        (folder / "CURRENT").write_text("../elsewhere\n")
    elif broken == "encoder/int8.onnx":
        set_current(folder, another_bundle(folder, b"no model, but with its right hash"))
    else:
        (folder / new / broken).write_bytes(b"broken")
        set_current(folder, new)
    with caplog.at_level(logging.ERROR):
        assert answer(recommender) == before
    assert "staying with bundle" in caplog.text


def test_a_bundle_that_was_mended_is_taken_up_later(
    recommender: Recommender, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(following, "RETRY_S", 0.0)
    new = another_bundle(folder)
    (folder / new).rename(folder / "on its way")
    set_current(folder, new)
    assert answer(recommender)["model"] != new
    (folder / "on its way").rename(folder / new)
    assert answer(recommender)["model"] == new
