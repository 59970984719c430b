"""What `shopstream catalog show` counts, from the files of the catalog job."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flink_jobs.commands.catalog import CatalogChanges, catalog_changes
from flink_jobs.settings.loading import load_settings
from udfs.segments import FOLDER, SCHEMA


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
