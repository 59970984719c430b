"""Reads catalogs from CSV, TSV, JSON lines and Parquet files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from udfs.core.arrays import Ints
from udfs.core.errors import ShopstreamError
from udfs.events.casting import cast, refuse_nulls
from udfs.events.files import RETAIL_CLEAN, clean_retail
from udfs.events.formats import TEXT, column_names, raw_batches
from udfs.events.mapping import columns_of
from udfs.events.presets import recognise

CATALOG = pa.schema(
    [(name, TEXT) for name in ("item_id", "title", "description", "category", "brand")]
    + [("price", pa.float64()), ("in_stock", pa.bool_()), ("locale", TEXT)]
)

_RETAIL_ITEMS = {"item_id": "StockCode", "title": "Description", "price": "UnitPrice"}


def read_catalog(
    path: Path | str, *, mapping: Mapping[str, str] | None = None, preset: str = "auto"
) -> tuple[pa.Table, int]:
    """Read a file's items, schema `CATALOG`, one row per item_id; return also how many rows had no title.

    Rows without a title are dropped. `mapping` and `preset` are those of `read_events`. The last record of an item_id
    wins; items are ordered by first appearance; in_stock is true unless given. `online_retail` gives one item per
    StockCode of the clean lines, with its most frequent Description (on a tie the first) and its median UnitPrice.

    Raises ShopstreamError if the file cannot be read, does not fit, or has no titles at all (`yoochoose`).
    """
    path, mapping = Path(path), mapping or {}
    names = column_names(path)
    preset = recognise(path, names, mapping, preset)
    if preset == "yoochoose":
        raise ShopstreamError(f"{path}: a yoochoose file has ids only; a catalog needs a column with titles")
    retail = preset == "online_retail"
    columns = _RETAIL_ITEMS if retail else columns_of(path, names, CATALOG, mapping, ["item_id", "title"])
    needed = dict.fromkeys([*columns.values(), *(RETAIL_CLEAN if retail else ())])
    parts = []
    for first, raw in raw_batches(path, list(needed)):
        kept = raw.filter(clean_retail(path, raw, first)) if retail else raw
        parts.append(pa.record_batch([cast(path, kept, columns, field, first) for field in CATALOG], schema=CATALOG))
    table = pa.Table.from_batches(parts, CATALOG)
    if retail:
        return _retail_items(table), 0
    titled = table.filter(pc.not_equal(pc.fill_null(pc.utf8_trim_whitespace(table["title"]), ""), ""))
    refuse_nulls(path, titled, ["item_id"], columns, 0)
    in_stock = pc.fill_null(titled["in_stock"], True)
    titled = titled.set_column(CATALOG.get_field_index("in_stock"), "in_stock", in_stock)
    return titled.take(_last_rows(titled["item_id"])), table.num_rows - titled.num_rows


def _last_rows(item_id: pa.ChunkedArray) -> Ints:
    """Return the row of each item's last record, int64 [items], in order of first appearance."""
    codes = item_id.combine_chunks().dictionary_encode().indices.to_numpy()
    last = np.zeros(codes.max(initial=-1) + 1, np.int64)
    np.maximum.at(last, codes, np.arange(len(codes)))
    return last


def _retail_items(lines: pa.Table) -> pa.Table:
    """Return one row per item_id, by first appearance, with its most frequent title and its median price."""
    seen = lines.select(["item_id", "title", "price"]).to_pandas()
    seen["title"] = seen["title"].str.strip()
    counts = seen.groupby(["item_id", "title"], sort=False).size().sort_values(ascending=False, kind="stable")
    titles = counts.reset_index().drop_duplicates("item_id").set_index("item_id")["title"]
    items = seen.groupby("item_id", sort=False)["price"].median().to_frame().join(titles).reset_index()
    items = items.assign(in_stock=True).reindex(columns=CATALOG.names)
    return pa.Table.from_pandas(items, CATALOG, preserve_index=False)
