import json
import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import numpy_helper
from support import another_bundle

from flink_jobs.jobs.recommend import options as recommend_options
from flink_jobs.settings.loading import load_settings
from udfs.bundles.bundle import CURRENT, current_id, open_bundle, set_current
from udfs.bundles.changes import FOLDER, SCHEMA
from udfs.bundles.forgotten import ErasureList
from udfs.core.errors import ShopstreamError
from udfs.core.hashing import shopper_hash
from udfs.encoder.encoder import WARM_UP, Encoder, open_encoder
from udfs.encoder.options import EncoderOptions
from udfs.features.registry import FEATURES
from udfs.ranking.options import RankOptions
from udfs.recommend.options import RecommendOptions
from udfs.recommend.recommender import Recommender
from udfs.sessions.columns import Sessions


@pytest.fixture
def folder(bundles: Path, tmp_path: Path) -> Path:
    """A copy of the shop's bundles, to be changed."""
    shutil.copytree(bundles, tmp_path / "bundles")
    return tmp_path / "bundles"


@pytest.fixture
def recommender(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Recommender:
    monkeypatch.setattr("udfs.bundles.watcher.CHECK_S", 0.0)
    return Recommender(RecommendOptions(folder, EncoderOptions(provider="cpu", threads=1)))


def answer(
    recommender: Recommender,
    kind: str = "search",
    item: str | None = None,
    query: str = "stoneware mug",
    user: str = "u",
) -> dict[str, Any]:
    (found,) = answers(recommender, [(kind, item, query)], user)
    return found


def answers(
    recommender: Recommender, triggers: Sequence[tuple[str, str | None, str]], user: str = "u"
) -> list[dict[str, Any]]:
    """Answers to triggers of one batch: a type, item and query each, and a session of its own."""
    count = len(triggers)
    kinds, items, texts = ([np.array([value], object) for value in column] for column in zip(*triggers, strict=True))
    sessions = Sessions.from_arrays(
        [5] * count, [5] * count, [1] * count, event_time=[[5]] * count, event_type=kinds, item_id=items, query=texts
    )
    values = recommender.recommend([user] * count, [f"e{index}" for index in range(count)], [5] * count, sessions)
    return [json.loads(value) for value in values]


def test_answer_joins_its_trigger(recommender: Recommender, folder: Path):
    found = answer(recommender)
    assert found["recommendation_id"] == "u/e0"
    assert found["session_id"] == "u/5"
    assert found["trigger_event_id"] == "e0"
    assert found["event_time"] == 5
    assert found["model"] == current_id(folder)
    assert len(found["items"]) == 10


def test_explored_answers_say_so(folder: Path):
    options = RecommendOptions(folder, EncoderOptions(provider="cpu", threads=1), RankOptions(k=5, explore=0.5))
    found = answers(Recommender(options), [("search", None, "stoneware mug")] * 40)
    explored = [each for each in found if each.get("explored")]
    assert 5 < len(explored) < 35
    plain = next(each for each in found if "explored" not in each)
    assert [item["propensity"] for item in plain["items"]] == [0.55] * 5
    for each in explored:
        assert len(each["items"]) == 5
        assert {item["propensity"] for item in each["items"]} <= {0.05, 0.55}
    plain_recommender = Recommender(RecommendOptions(folder))
    assert all("propensity" not in item for item in answer(plain_recommender)["items"])
    assert plain_recommender.stats.items == 10


def test_cut_answers_have_no_propensities(folder: Path):
    options = RecommendOptions(
        folder, EncoderOptions(provider="cpu", threads=1), RankOptions(explore=0.5), max_bytes=3_000
    )
    recommender = Recommender(options)
    found = answer(recommender)
    assert recommender.stats.cut == 1
    assert 0 < len(found["items"]) < recommender.stats.items == 10
    assert all("propensity" not in item for item in found["items"])


def test_too_large_answer_loses_its_last_items(recommender: Recommender, folder: Path, caplog: Any):
    whole = answer(recommender)
    size = len(json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode())
    options = RecommendOptions(folder, EncoderOptions(provider="cpu", threads=1), max_bytes=size - 1)
    limited = Recommender(options)
    assert answer(limited) == whole | {"items": whole["items"][:5]}
    assert limited.stats.cut == 1
    assert caplog.messages[-1].startswith(f"an answer of {size} bytes is cut to ")
    assert answer(Recommender(replace(options, max_bytes=size))) == whole
    assert answer(Recommender(replace(options, max_bytes=1))) == whole | {"items": [], "session": {}}


def test_erased_users_become_unknown_without_restart(recommender: Recommender, folder: Path, shop: Path):
    def items(user: str) -> object:
        return answer(recommender, user=user)["items"]

    lines = (shop / "sessions.jsonl").read_text().splitlines()
    users = dict.fromkeys(json.loads(line)["user_id"] for line in lines)
    unknown = items("nobody")
    user = next(user for user in users if items(user) != unknown)
    ErasureList.read(folder).with_more([shopper_hash(user)], 2**62).write(folder)
    assert items(user) == unknown
    set_current(folder, another_bundle(folder))
    assert items(user) == items("nobody")


def test_features_use_the_bundles_items(recommender: Recommender, folder: Path):
    items = open_bundle(folder).items()
    found = answer(recommender, "view", items.ids[3])["session"]
    assert found["centre_cosine"] == pytest.approx(1)
    assert found["centre_spread"] == pytest.approx(0, abs=1e-12)
    assert found["distinct_categories"] == found["distinct_brands"] == found["top_category_share"] == 1
    assert found["category_entropy"] == 0
    elsewhere = answer(recommender, "view", "unknown")["session"]
    assert elsewhere["distinct_categories"] == 0
    assert elsewhere["centre_cosine"] is None


def test_own_features_come_with_the_setting(bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(FEATURES, "twice", None)  # removed again after the test
    del FEATURES["twice"]
    (tmp_path / "shop_features.py").write_text(
        "from udfs.features import feature\n\n@feature('int64')\ndef twice(e):\n    return e.count * 2\n"
    )
    assignments = ["features.modules=shop_features", "encoder.provider=cpu", f"bundles={bundles}"]
    options = recommend_options(load_settings(None, assignments))
    assert options.feature_modules == ("shop_features",)
    assert answer(Recommender(options))["session"]["twice"] == 2
    missing = recommend_options(load_settings(None, [*assignments[1:], "features.modules=json, not_there"]))
    with pytest.raises(ShopstreamError, match=r"features\.modules names 'not_there', which cannot be imported"):
        Recommender(missing)


def test_new_bundle_is_loaded_without_restart(recommender: Recommender, folder: Path):
    answer(recommender)
    new = another_bundle(folder)
    assert answer(recommender)["model"] != new
    set_current(folder, new)
    found = answer(recommender)
    assert found["model"] == new
    assert len(found["items"]) == 1


@pytest.mark.parametrize(
    "broken",
    ["items.parquet", "manifest.json", "no manifest", "no folder", "encoder/int8.onnx", "../elsewhere", "", "\xff\0"],
)
def test_broken_bundle_is_skipped_and_logged_once(
    recommender: Recommender, folder: Path, caplog: pytest.LogCaptureFixture, broken: str
):
    before = answer(recommender)
    new, good = another_bundle(folder), another_bundle(folder, kept=2)
    if broken == "encoder/int8.onnx":
        new = another_bundle(folder, b"no model, but with its right hash")
    elif broken == "no manifest":
        (folder / new / "manifest.json").unlink()
    elif broken == "no folder":
        shutil.rmtree(folder / new)
    elif broken.endswith((".parquet", ".json")):
        content = (folder / new / broken).read_bytes()
        (folder / new / broken).write_bytes(content[: len(content) // 2])
    if broken in ("../elsewhere", "", "\xff\0"):
        (folder / CURRENT).write_text(broken, encoding="latin-1")
    else:
        set_current(folder, new)
    with caplog.at_level(logging.ERROR):
        assert [answer(recommender) for _ in range(3)] == [before] * 3
    assert caplog.text.count("staying with bundle") == 1
    assert recommender.bundle_status.refused == 3
    set_current(folder, good)
    assert answer(recommender)["model"] == good
    assert (recommender.bundle_status.reloads, recommender.bundle_status.refused) == (1, 3)


def test_items_change_while_a_bundle_is_broken(recommender: Recommender, folder: Path):
    first = answer(recommender)["items"][0]["item_id"]
    (folder / CURRENT).write_text("broken")
    (folder / FOLDER).mkdir()
    gone = pa.Table.from_pylist([{"item_id": first, "written": 1, "offset": 0}], SCHEMA)
    pq.write_table(gone, folder / FOLDER / "one")
    assert first not in [item["item_id"] for item in answer(recommender)["items"]]


def test_no_batch_mixes_two_bundles(recommender: Recommender, folder: Path, monkeypatch: pytest.MonkeyPatch):
    old, new = current_id(folder), another_bundle(folder)
    encode = Encoder.encode_given

    def encode_as_current_changes(encoder: Encoder, texts: Sequence[str]) -> Any:
        set_current(folder, new)
        return encode(encoder, texts)

    monkeypatch.setattr(Encoder, "encode_given", encode_as_current_changes)
    batch = [("search", None, f"mug {number}") for number in range(300)]
    assert {record["model"] for record in answers(recommender, batch)} == {old}
    assert {record["model"] for record in answers(recommender, batch)} == {new}


@pytest.mark.parametrize("fault", ["no row for its token", "not a number"])
def test_failing_text_leaves_the_batch_whole(folder: Path, fault: str, caplog: pytest.LogCaptureFixture):
    """A model with fewer tokens than its tokenizer, and one with a vector that is not finite."""
    bundle = open_bundle(folder)
    options = RecommendOptions(folder, EncoderOptions(variant="fp32", provider="cpu", threads=1))
    encoder = open_encoder(bundle, options.encoder)
    token = max(encoder.token_ids(["beige"])[0])
    assert token > max(max(tokens) for tokens in encoder.token_ids(WARM_UP))
    model = onnx.load(bundle.variant_file("fp32"))
    embeddings = max(model.graph.initializer, key=lambda tensor: math.prod(tensor.dims))  # of words, the largest by far
    table = numpy_helper.to_array(embeddings).copy()
    if fault == "not a number":
        table[token] = np.nan
    else:
        table = table[:token]
    embeddings.CopyFrom(numpy_helper.from_array(table, embeddings.name))
    batch = [("search", None, "stoneware mug"), ("search", None, "beige mug"), ("search", None, "mug")] * 40
    whole = answers(Recommender(options), batch)
    set_current(folder, another_bundle(folder, model.SerializeToString(), variant="fp32"))
    recommender = Recommender(options)
    found = answers(recommender, batch)
    assert recommender.encoder_stats.failed == 1  # once per text: the result is kept
    assert caplog.text.count("has no vector") == 1
    for index, (before, after) in enumerate(zip(whole, found, strict=True)):
        assert after.pop("model") != before.pop("model")
        assert len(after["items"]) == 10
        assert (after == before) == (index % 3 != 1)


def test_repaired_bundle_is_loaded_on_retry(recommender: Recommender, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("udfs.bundles.watcher.RETRY_S", 0.0)
    new = another_bundle(folder)
    (folder / new).rename(folder / "on its way")
    set_current(folder, new)
    assert answer(recommender)["model"] != new
    (folder / "on its way").rename(folder / new)
    assert answer(recommender)["model"] == new
