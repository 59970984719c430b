"""Reads catalogs from CSV, TSV, JSON lines and Parquet files, by the rules of udfs.events. docs/input.md has them."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from udfs.core.arrays import Ints
from udfs.core.errors import ShopstreamError
from udfs.events.casting import Caster, Refusals, shown
from udfs.events.files import without_left_out
from udfs.events.formats import TEXT, Source, open_source, raw_rows
from udfs.events.mapping import Plan, plan_of
from udfs.events.options import BY_CONTENT
from udfs.events.presets import recognise
from udfs.events.rejected import Rejected
from udfs.events.values import ITEM_RULES

CATALOG = pa.schema(
    [(name, TEXT) for name in ("item_id", "title", "description", "category", "brand")]
    + [("price", pa.float64()), ("in_stock", pa.bool_()), ("locale", TEXT)]
)


def read_catalog(
    path: Path | str,
    *,
    mapping: Mapping[str, str] | None = None,
    preset: str = "auto",
    options: Mapping[str, object] | None = None,
    rejected: Rejected | None = None,
) -> tuple[pa.Table, int]:
    """Read a file's items, schema `CATALOG`, one row per item_id; return also how many rows had no title.

    Rows without a title are dropped. The arguments are those of `read_events`. The last record of an item_id wins;
    items are ordered by first appearance; in_stock is true unless given. `online_retail` gives one item per StockCode
    of the clean lines, with its most frequent Description (on a tie the first) and its median UnitPrice.

    Raises ShopstreamError if the file cannot be read, does not fit, or has no titles at all (`yoochoose`).
    """
    source, plan = plan_catalog(Path(path), mapping=mapping, preset=preset, options=options)
    table = pa.Table.from_batches(items_in(source, plan, rejected or Rejected(strict=True)), CATALOG)
    if plan.tell_repeats:
        return _retail_items(table), 0
    if plan.variants:
        table = _with_stock_of_variants(table)
    titled = table.filter(_is_titled(table["title"]))
    in_stock = pc.fill_null(titled["in_stock"], True)
    titled = titled.set_column(CATALOG.get_field_index("in_stock"), "in_stock", in_stock)
    return titled.take(_last_rows(titled["item_id"])), table.num_rows - titled.num_rows


def items_in(source: Source, plan: Plan, rejected: Rejected) -> Iterator[pa.RecordBatch]:
    """Yield the rows of an opened file, schema CATALOG, also those without a title."""
    caster = Caster(plan, CATALOG, ITEM_RULES)
    for raw in raw_rows(source, plan, rejected):
        rows = without_left_out(raw, plan, caster, rejected)
        refusals = Refusals()
        batch = pa.record_batch([caster.cast(rows, name, refusals) for name in CATALOG.names], schema=CATALOG)
        lacks_id = pc.and_(batch["item_id"].is_null(), _is_titled(batch["title"]))
        for row in _indices(lacks_id):
            refusals.add(row, "no item_id", f"there is no '{plan.column_of('item_id')}'; item_id is required")
        for row in _indices(pc.less(batch["price"], 0)):
            said = f"column '{plan.column_of('price')}': {shown(batch['price'][row])} is below 0"
            refusals.add(row, "price: below 0", said)
        for row, (reason, said) in sorted(refusals.of_row.items()):
            rejected.reject(rows.part.label, int(rows.line[row]), reason, said, partial(rows.raw, row))
        if refusals.of_row:
            batch = batch.take(pa.array(np.delete(np.arange(len(batch)), list(refusals.of_row))))
        rejected.read += len(batch)
        yield batch
    if rejected.rejected and not rejected.read:
        raise rejected.nothing_read(source.path)


def _is_titled(title: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.not_equal(pc.fill_null(pc.utf8_trim_whitespace(title), ""), "")


def _indices(mask: pa.Array) -> list[int]:
    found: list[int] = np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False)).tolist()
    return found


def plan_catalog(
    path: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    preset: str = "auto",
    options: Mapping[str, object] | None = None,
) -> tuple[Source, Plan]:
    """Return a file, opened, and how read_catalog reads it."""
    source = open_source(path, BY_CONTENT.updated(options or {}))
    if preset == "auto" and recognise(path, source.names, source.first_line, preset, items=False)[0] == "yoochoose":
        raise ShopstreamError(f"{path}: a yoochoose file has ids only; a catalog needs a column with titles")
    found = recognise(path, source.names, source.first_line, preset, items=True)
    required = ["item_id", "title"]
    plan = plan_of(path, source.names, CATALOG, mapping or {}, required, options or {}, found, nested=source.nested)
    return source, plan


def _last_rows(item_id: pa.ChunkedArray) -> Ints:
    """Return the row of each item's last record, int64 [items], in order of first appearance."""
    codes = item_id.combine_chunks().dictionary_encode().indices.to_numpy()
    last = np.zeros(codes.max(initial=-1) + 1, np.int64)
    np.maximum.at(last, codes, np.arange(len(codes)))
    return last


def _with_stock_of_variants(table: pa.Table) -> pa.Table:
    """Return rows with in_stock of all rows of their item: true if one is in stock, null if none says."""
    codes = pc.fill_null(table["item_id"], "").combine_chunks().dictionary_encode().indices.to_numpy()
    known = table["in_stock"].is_valid().to_numpy()
    stocked = pc.fill_null(table["in_stock"], False).to_numpy()
    says, has = (np.bincount(codes, mask, minlength=codes.max(initial=-1) + 1) > 0 for mask in (known, stocked))
    in_stock = pa.array(has[codes], pa.bool_(), mask=~says[codes])
    return table.set_column(CATALOG.get_field_index("in_stock"), "in_stock", in_stock)


def _retail_items(lines: pa.Table) -> pa.Table:
    """Return one row per item_id, by first appearance, with its most frequent title and its median price."""
    seen = lines.select(["item_id", "title", "price"]).to_pandas()
    seen["title"] = seen["title"].str.strip()
    counts = seen.groupby(["item_id", "title"], sort=False).size().sort_values(ascending=False, kind="stable")
    titles = counts.reset_index().drop_duplicates("item_id").set_index("item_id")["title"]
    items = seen.groupby("item_id", sort=False)["price"].median().to_frame().join(titles).reset_index()
    items = items.assign(in_stock=True).reindex(columns=CATALOG.names)
    return pa.Table.from_pandas(items, CATALOG, preserve_index=False)
