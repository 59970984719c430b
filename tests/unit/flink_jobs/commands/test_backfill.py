"""What a backfill takes of a file: what the job would take of `clickstream`, tested against its parser."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flink_jobs.commands.backfill import check_days, write_recorded
from flink_jobs.sql.lake import recorded_schema
from udfs.contracts.clickstream import PROPERTIES
from udfs.contracts.fields import MAX_ID, MAX_QUERY, MAX_TIME_MS, MIN_TIME_MS
from udfs.core.errors import ShopstreamError
from udfs.events.columns import EVENTS
from udfs.events.parsing import parse_event

GOOD = {"event_id": "e", "event_type": "view", "user_id": "u", "event_time": 1, "item_id": "i"}
CHANGES: dict[str, list[Any]] = {
    "event_id": ["", "x", "é" * MAX_ID, "x" * (MAX_ID + 1)],
    "event_type": ["search", "stare", "purchase"],
    "user_id": ["", "x", "é" * MAX_ID, "x" * (MAX_ID + 1)],
    "event_time": [MIN_TIME_MS - 1, MIN_TIME_MS, MAX_TIME_MS, MAX_TIME_MS + 1],
    "item_id": [None, "", "x", "é" * MAX_ID, "x" * (MAX_ID + 1)],
    "query": ["", "q", "é" * MAX_QUERY, "x" * (MAX_QUERY + 1)],
    "price": [-1.0, 0.0, 1e308, float("inf")],
    "quantity": [-1, 0, 1, 2**63 - 1],
    "rating": [0.5, 1.0, 5.0, 5.1],
    "dwell_ms": [-1, 0, 2**63 - 1],
    "device": ["é" * MAX_ID, "x" * (MAX_ID + 1)],
}
SEARCH = {"event_type": "search"}


@pytest.mark.parametrize(
    "row",
    [GOOD | {name: value} for name, values in CHANGES.items() for value in values]
    + [GOOD | SEARCH | {"query": query, "item_id": item} for query in (None, "", "q") for item in (None, "", "i")],
    ids=lambda row: str(row)[:200],
)
def test_backfill_accepts_what_the_parser_reads(row: dict[str, Any], tmp_path: Path):
    fields = {name: value for name, value in row.items() if value is not None}
    fields["properties"] = {name: fields.pop(name) for name in PROPERTIES if name in fields}
    said = json.dumps(fields).replace("Infinity", "1e999")
    read = parse_event(said.encode())
    of_file = row | {"item_id": row.get("item_id") or None}  # as read_events gives an empty one
    written = write_recorded([pa.RecordBatch.from_pylist([of_file], schema=EVENTS)], tmp_path / "events.parquet")
    assert written == ((1, 0) if read[0] is None else (0, 1))
    table = pq.read_table(tmp_path / "events.parquet")
    assert table.schema.equals(recorded_schema())
    if read[0] is None:
        assert tuple(table.to_pylist()[0].values()) == read[2:-2]  # all but further line items and the cookie


@pytest.mark.parametrize(
    ("first", "last", "says"),
    [
        ("2026-02-30", None, "--from '2026-02-30' should be a day"),
        (None, "20260201", "--to '20260201' should be a day"),
        ("2026-02-02", "2026-02-01", "--from 2026-02-02 is after --to 2026-02-01"),
    ],
)
def test_invalid_days_are_refused(first: str | None, last: str | None, says: str):
    with pytest.raises(ShopstreamError, match=says):
        check_days(first, last)


def test_days_may_be_open_or_equal():
    for first, last in ((None, None), ("2026-02-01", None), ("2026-02-01", "2026-02-01")):
        check_days(first, last)
