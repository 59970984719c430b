import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from udfs.bundles.changes import FOLDER, SCHEMA
from udfs.encoder.encoder import Encoder
from udfs.encoder.options import EncoderOptions
from udfs.recommend.options import RecommendOptions
from udfs.recommend.recommender import Recommender
from udfs.sessions.columns import Sessions

TITLE = "Porcelain anchor for harbour pilots"


def recommended(recommender: Recommender) -> list[str]:
    """Search for nearly TITLE, and return the items recommended."""
    sessions = Sessions.from_arrays(
        [5], [5], [1], event_time=[[5]], event_type=[["search"]], query=[[f"{TITLE}, blue"]]
    )
    (answer,) = recommender.recommend(["u"], ["e"], [5], sessions)
    return [item["item_id"] for item in json.loads(answer)["items"]]


def test_item_is_recommended_once_encoding_works(bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("udfs.bundles.watcher.CHECK_S", 0.0)
    folder = tmp_path / "bundles"
    shutil.copytree(bundles, folder)
    recommender = Recommender(RecommendOptions(folder, EncoderOptions(provider="cpu", threads=1)))
    before = recommended(recommender)
    encode, failed = Encoder.encode_given, list[Sequence[str]]()

    def fail_once(encoder: Encoder, texts: Sequence[str]) -> Any:
        if list(texts) == [TITLE] and not failed:
            failed.append(texts)
            raise RuntimeError("no memory")
        return encode(encoder, texts)

    monkeypatch.setattr(Encoder, "encode_given", fail_once)
    rows = [
        {"item_id": "new", "title": TITLE, "in_stock": True, "encoder": "another", "vector": b"", "written": 1},
        {"item_id": before[-1], "written": 1},
    ]
    (folder / FOLDER).mkdir()
    pq.write_table(pa.Table.from_pylist([row | {"offset": 0} for row in rows], SCHEMA), folder / FOLDER / "one")
    assert recommended(recommender) == before  # nothing of the changes, not even the removal
    assert failed
    after = recommended(recommender)
    assert after[0] == "new"
    assert before[-1] not in after
