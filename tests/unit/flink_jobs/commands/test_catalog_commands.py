"""What `shopstream catalog` sends, and what it counts in the files of the catalog job."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flink_jobs.commands.catalog import CatalogChanges, catalog_changes, remove_items, send_items
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from udfs.bundles.changes import FOLDER, SCHEMA


def change(item: str, written: int, title: str | None = "a title", in_stock: bool | None = True) -> dict[str, object]:
    return {"item_id": item, "title": title, "in_stock": in_stock, "written": written, "offset": written}


def test_latest_changes_are_counted(tmp_path: Path):
    settings = load_settings(None, [f"bundles={tmp_path}"])
    assert catalog_changes(settings) == CatalogChanges(0, 0, 0, 0, 0)
    folder = tmp_path / FOLDER
    folder.mkdir()
    first = [change("kept", 1), change("gone", 2), change("sold", 3, in_stock=False), change("back", 4, in_stock=False)]
    second = [change("gone", 5, None, None), change("back", 6)]
    for name, rows in (("part-1", first), ("part-2", second)):
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / name)
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert catalog_changes(settings) == CatalogChanges(changed=4, removed=1, sold_out=1, files=2, bytes=size)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes, bytes | None]]:
    records: list[tuple[str, bytes, bytes | None]] = []

    @contextmanager
    def sending(_: Settings) -> Iterator[tuple[Callable[..., None], None]]:
        yield lambda topic, key, value: records.append((topic, key, value)), None

    monkeypatch.setattr("flink_jobs.commands.catalog.sending", sending)
    monkeypatch.setattr("flink_jobs.commands.catalog.require_topics", lambda *_: None)
    return records


def test_items_are_sent_without_empty_fields(sent: list[tuple[str, bytes, bytes | None]], tmp_path: Path):
    file = tmp_path / "items.jsonl"
    file.write_text('{"item_id": "a", "title": "A mug", "brand": null}\n{"item_id": "b", "title": "Ü", "price": 2.5}\n')
    settings = load_settings(None, ["topics.catalog=items"])
    assert send_items(settings, file, mapping={}, preset="auto") == 2
    assert [(topic, key) for topic, key, _ in sent] == [("items", b"a"), ("items", b"b")]
    values = [json.loads(value or b"") for _, _, value in sent]
    assert [value["title"] for value in values] == ["A mug", "Ü"]
    assert "brand" not in values[0]
    assert values[1]["price"] == 2.5


def test_removals_are_tombstones(sent: list[tuple[str, bytes, bytes | None]]):
    remove_items(load_settings(), ["a", "é"])
    assert sent == [("catalog", b"a", None), ("catalog", "é".encode(), None)]
