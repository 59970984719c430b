"""Click events from CSV, TSV, JSON lines and Parquet files, in batches of bounded size."""

import functools
import operator
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from udfs.contracts.clickstream import EVENT_FIELDS
from udfs.events.casting import cast, refuse_nulls
from udfs.events.columns import EVENTS
from udfs.events.formats import TEXT, column_names, file_kind, raw_batches
from udfs.events.mapping import columns_of
from udfs.events.presets import PRESETS, recognise

RETAIL_CLEAN = ("InvoiceNo", "Quantity", "CustomerID")


def read_events(
    path: Path | str, *, mapping: Mapping[str, str] | None = None, preset: str = "auto"
) -> Iterator[pa.RecordBatch]:
    """Click events of a file as batches of at most `BATCH_ROWS` rows of the schema `EVENTS`, in the file's order.

    `mapping` is {contract field: column in the file}; fields it leaves out are looked for under their own names.
    `preset` is `events` (contract names), `online_retail` (clean purchase lines only), `yoochoose` (clicks) or `auto`,
    which goes by the file's columns. event_time is integer epoch ms or RFC 3339 with a zone; in a column that `mapping`
    names, times without a zone are UTC. A file without event ids gets `<file stem>-<line>`, a preset's
    `<invoice or session>-<line>`, where line 1 is the header or, in JSON lines and Parquet, the first record.

    Raises ShopstreamError: at once for a file that cannot be opened, a wrong mapping or a required column that is not
    there; while iterating for values that do not fit and for damaged files.
    """
    path, mapping = Path(path), mapping or {}
    names = column_names(path)
    preset = recognise(path, names, mapping, preset)
    known = PRESETS.get(preset)
    required = ["event_type", "user_id", "event_time", "item_id"] if known is None else []
    columns = columns_of(path, names, EVENTS, known.mapping if known else mapping, required)
    return _event_batches(path, columns, preset, naive_is_utc=known is not None or "event_time" in mapping)


def _event_batches(
    path: Path, columns: Mapping[str, str], preset: str, *, naive_is_utc: bool
) -> Iterator[pa.RecordBatch]:
    known = PRESETS.get(preset)
    needed = list(dict.fromkeys(columns.values()))
    header_lines = int(file_kind(path) == "csv")
    for first, raw in raw_batches(path, needed):
        lines = pa.array(np.arange(first, first + raw.num_rows) + 1 + header_lines).cast(TEXT)
        if preset == "online_retail":
            clean = clean_retail(path, raw, first)
            raw, lines = raw.filter(clean), lines.filter(clean)
        if preset == "yoochoose":
            raw = _with_column(raw, "Time", _milliseconds(path, raw, first))
        arrays = {f.name: cast(path, raw, columns, f, first, naive_is_utc=naive_is_utc) for f in EVENTS}
        if known is not None:
            arrays["event_type"] = pa.repeat(known.event_type, raw.num_rows)
            arrays["event_id"] = pc.binary_join_element_wise(arrays["event_id"], lines, "-")
        elif "event_id" not in columns:
            arrays["event_id"] = pc.binary_join_element_wise(path.name.split(".")[0], lines, "-")
        batch = pa.record_batch(list(arrays.values()), schema=EVENTS)
        refuse_nulls(path, batch, ["event_id", "event_type", "user_id", "event_time"], columns, first)
        if batch.num_rows:
            yield batch


def in_contract() -> pc.Expression:
    """Select the rows of EVENTS that parse_event would read if they came as JSON."""
    searches = pc.field("event_type") == "search"
    rules = [pc.if_else(searches, pc.utf8_length(pc.field("query")) >= 1, pc.field("item_id").is_valid())]
    for field in EVENT_FIELDS:
        column = pc.field(field.name)
        size = pc.utf8_length(column) if field.sql == "STRING" else column
        most = sys.float_info.max if field.most is None and field.sql == "DOUBLE" else field.most
        own = [column.isin(field.choices)] if field.choices else []
        own += [] if field.least is None else [size >= field.least]
        own += [] if most is None else [size <= most]
        rules += own if field.required else [column.is_null() | rule for rule in own]
    return functools.reduce(operator.and_, rules)


def clean_retail(path: Path, raw: pa.RecordBatch, first: int) -> pa.Array:
    """Which lines are purchases by a known customer: no cancellation (InvoiceNo C…), a quantity above nought."""
    quantity = cast(path, raw, {"quantity": "Quantity"}, EVENTS.field("quantity"), first)
    cancelled = pc.starts_with(raw["InvoiceNo"].cast(TEXT), "C")
    clean = pc.and_(pc.and_not(pc.greater(quantity, 0), cancelled), pc.is_valid(raw["CustomerID"]))
    return pc.fill_null(clean, False)


def _milliseconds(path: Path, raw: pa.RecordBatch, first: int) -> pa.Array:
    seconds = cast(path, raw, {"price": "Time"}, EVENTS.field("price"), first)
    return pc.round(pc.multiply(seconds, 1000.0)).cast(pa.int64())


def _with_column(batch: pa.RecordBatch, name: str, array: pa.Array) -> pa.RecordBatch:
    names = batch.schema.names
    return pa.record_batch([array if n == name else batch[n] for n in names], names)
