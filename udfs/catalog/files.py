"""Catalogs from CSV, TSV, JSON lines and Parquet files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
    """The items of a file, schema `CATALOG`, one row per item_id, and the number of rows dropped for want of a title.

    `mapping` and `preset` as in `read_events`. The last record of an item_id wins; items stand in the order in which
    they first appear; in_stock is true unless said otherwise. `online_retail` makes one item per StockCode of the
    clean lines: its most frequent Description (ties: the first seen) and its median UnitPrice.

    Raises ShopstreamError for what cannot be read, does not fit, or has no titles at all (`yoochoose`).
    """
    path, mapping = Path(path), mapping or {}
    names = column_names(path)
    preset = recognise(path, names, mapping, preset)
    if preset == "yoochoose":
        raise ShopstreamError(f"{path}: a yoochoose file has ids only; a catalogue needs a column with titles")
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
    titled = table.filter(pc.greater(pc.utf8_length(pc.fill_null(pc.utf8_trim_whitespace(table["title"]), "")), 0))
    refuse_nulls(path, titled, ["item_id"], columns, 0)
    in_stock = pc.fill_null(titled["in_stock"], True)
    titled = titled.set_column(CATALOG.get_field_index("in_stock"), "in_stock", in_stock)
    codes = titled["item_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    last = np.zeros(codes.max(initial=-1) + 1, np.int64)
    np.maximum.at(last, codes, np.arange(len(codes)))
    return titled.take(last), table.num_rows - titled.num_rows


def _retail_items(lines: pa.Table) -> pa.Table:
    """One row per item_id in the order first seen: its most frequent title (ties: the first seen), its median price."""
    seen = lines.select(["item_id", "title", "price"]).to_pandas()
    seen["title"] = seen["title"].str.strip()
    counts = seen.groupby(["item_id", "title"], sort=False).size().sort_values(ascending=False, kind="stable")
    titles = counts.reset_index().drop_duplicates("item_id").set_index("item_id")["title"]
    items = seen.groupby("item_id", sort=False)["price"].median().to_frame().join(titles).reset_index()
    items = items.assign(in_stock=True).reindex(columns=CATALOG.names)
    return pa.Table.from_pandas(items, CATALOG, preserve_index=False)
