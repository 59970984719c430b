"""Files of many dialects, encodings and units: every row is read as it was written, or rejected; none is lost.

SHOPSTREAM_FUZZ_ROWS is the number of rows to generate; `make fuzz` takes 100,000.
"""

import csv
import gzip
import io
import json
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from udfs.contracts.fields import MAX_ID
from udfs.core.errors import ShopstreamError
from udfs.events import formats
from udfs.events.columns import EVENTS
from udfs.events.files import read_events
from udfs.events.rejected import Rejected

ROWS = int(os.environ.get("SHOPSTREAM_FUZZ_ROWS", "1000"))
PER_FILE = 30

#: Characters that mean something to a reader, and others.
CHARACTERS = st.sampled_from(
    ['"', "'", "\\", ",", ";", "\t", "|", "\n", "\r", " ", "a", "1", "é", "€", "0", ".", "e", "+", "&", "N"]
)
IDS = st.one_of(
    st.text(st.characters(categories=("L", "N", "P", "S"), include_characters=" "), min_size=1, max_size=8),
    st.text(CHARACTERS, min_size=1, max_size=6),
    st.integers(0, 10**15).map(str),
)
QUERIES = st.text(CHARACTERS, max_size=12) | st.text(max_size=8)
TYPES = st.sampled_from(["view", "search", "add_to_cart", "purchase", "cart", "VIEW", ""])


@st.composite
def times(draw: st.DrawFn) -> tuple[str, int]:
    """A time as someone may write it, and its epoch ms."""
    ms = draw(st.integers(1_000_000_000_000, 1_999_999_999_999))
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    second = ms // 1000 * 1000
    offset = timezone(timedelta(minutes=draw(st.integers(-14 * 60, 14 * 60))))
    local = moment.astimezone(offset)
    spelled = [
        (str(ms), ms), (str(ms // 1000), second), (str(ms * 1000 + 999), ms), (str(ms * 1_000_000 + 999_999), ms),
        (f"{ms}.0", ms), (f"{ms // 1000}.{ms % 1000:03}", ms), (f"{ms:.12E}", ms),
        (moment.isoformat(timespec="milliseconds"), ms), (local.isoformat(sep=" ", timespec="milliseconds"), ms),
        (local.strftime("%Y-%m-%d %H:%M:%S%z"), second), (moment.strftime("%Y-%m-%d %H:%M:%S UTC"), second),
        (moment.strftime("%Y-%m-%dT%H:%M:%SZ"), second), (moment.strftime("%Y-%m-%d %H:%M:%S+00"), second),
        (moment.strftime("%Y-%m-%d %H:%M GMT"), ms // 60_000 * 60_000),
    ]  # fmt: skip
    return draw(st.sampled_from(spelled))


BAD_TIMES = st.sampled_from(["", "soon", "2026-02-30T00:00:00Z", "2026-01-01 00:00", "12/1/2010", "20260131", "1e99"])
PRICES = st.one_of(
    st.integers(0, 10**9).map(lambda cents: (f"{cents // 100}.{cents % 100:02}", cents / 100)),
    st.integers(0, 10**6).map(lambda cents: (f"{cents // 100}.{cents % 100:02} USD", cents / 100)),
    st.sampled_from([("", None), ("NULL", None), (r"\N", None), ("NaN", None), ("1e3", 1000.0), ("7", 7.0)]),
    st.sampled_from(["cheap", "-1", "inf", "1e999", "1,234", "1.2.3", "0x10"]).map(lambda text: (text, ValueError)),
)
COUNTS = st.one_of(
    st.integers(1, 10**12).flatmap(lambda n: st.sampled_from([(str(n), n), (f"{n}.0", n)])),
    st.sampled_from([("", None), ("NULL", None)]),
    st.sampled_from(["-1", "0", "2.5", "many", "0x10"]).map(lambda text: (text, ValueError)),
)


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """The texts of a row, and under `read` what it should be read as, None for a row that is no event."""
    time, ms = draw(st.one_of(times(), times(), times(), BAD_TIMES.map(lambda text: (text, None))))
    price, cost = draw(PRICES)
    count, pieces = draw(COUNTS)
    texts = {
        "user_id": draw(IDS),
        "item_id": draw(IDS | st.just("")),
        "query": draw(QUERIES),
        "event_type": draw(TYPES),
    }
    read = texts | {"event_time": ms, "price": cost, "quantity": pieces}
    return {**texts, "event_time": time, "price": price, "quantity": count, "read": read}


def expected(row: dict[str, Any], missing: tuple[str, ...]) -> dict[str, Any] | None:
    """What an event should be, None if the row is to be rejected."""
    found = {name: None if value in missing else value for name, value in row["read"].items()}
    for name in ("user_id", "item_id"):
        found[name] = as_id(found[name])
        if found[name] is ValueError or (found[name] is not None and len(found[name]) > MAX_ID):
            return None
    lacks = not found["query"] if found["event_type"] == "search" else found["item_id"] is None
    if found["event_type"] not in ("view", "search", "add_to_cart", "purchase") or lacks:
        return None
    if ValueError in (found["price"], found["quantity"]) or None in (found["event_time"], found["user_id"]):
        return None
    return found


def as_id(text: str | None) -> Any:
    """The whole number that a float is, written out here on its own."""
    import re

    if text and (match := re.fullmatch(r"([0-9]+)\.0+", text)):
        return match[1]
    if text and (match := re.fullmatch(r"([0-9])(?:\.([0-9]+))?[eE]\+([0-9]{2,3})", text)):
        digits, power = match[1] + (match[2] or ""), int(match[3])
        if len(digits) - 1 < power or len(digits) > 17:
            return ValueError
        return digits if len(digits) == power + 1 else text
    return text


COLUMNS = ["event_type", "user_id", "event_time", "item_id", "query", "price", "quantity"]
MISSING = ("", "NULL", r"\N", "NaN")


def check(path: Path, given_rows: list[dict[str, Any]], missing: tuple[str, ...], **how: Any) -> None:
    """Every row is an event with the values that were written, or is rejected."""
    wanted = [expected(row, missing) for row in given_rows]
    taken = Rejected()
    try:
        read = pa.Table.from_batches(read_events(path, rejected=taken, **how), EVENTS).select(COLUMNS).to_pylist()
    except ShopstreamError:
        assert not any(wanted) or not given_rows
        return
    assert len(read) + taken.rejected.total() == len(given_rows)
    assert read == [{name: row[name] for name in COLUMNS} for row in wanted if row is not None]


many = examples(
    max_examples=max(ROWS // PER_FILE // 4, 5), deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


@st.composite
def some(draw: st.DrawFn) -> list[dict[str, Any]]:
    return draw(st.lists(rows(), min_size=PER_FILE // 2, max_size=PER_FILE * 3 // 2))


@many
@given(
    some(),
    st.sampled_from([",", "\t", ";", "|"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.booleans(),
)
def test_written_csv_is_read(
    given_rows: list[dict[str, Any]], delimiter: str, quoting: int, end: str, encoding: str, packed: bool
):
    """As Python's writer quotes: quotes are all closed, and may hold lines."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerow(COLUMNS)
    writer.writerows([row[name] for name in COLUMNS] for row in given_rows)
    content = text.getvalue().encode(encoding, "surrogatepass")
    with TemporaryDirectory() as folder:
        path = Path(folder, "e.csv.gz" if packed else "e.csv")
        path.write_bytes(gzip.compress(content) if packed else content)
        check(path, given_rows, MISSING, options={"quotes": "always"})


def joined(given_rows: list[dict[str, Any]], delimiter: str) -> bytes:
    """A file as joins of strings write it; what would end a value or a line becomes `_`, also in the rows."""
    for row in given_rows:
        for name in ("user_id", "item_id", "query"):
            for mark in (delimiter, "\n", "\r"):
                row["read"][name] = row[name] = row[name].replace(mark, "_")
    lines = [delimiter.join(row[name] for name in COLUMNS) for row in given_rows]
    return "\n".join([delimiter.join(COLUMNS), *lines]).encode()


@many
@given(some(), st.sampled_from(["\t", "|"]), st.sampled_from([64, 1000, 1 << 20]))
def test_unquoted_text_is_read(given_rows: list[dict[str, Any]], delimiter: str, block: int):
    """Quotes are characters, and nothing can hold a delimiter or a line."""
    content = joined(given_rows, delimiter)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "BLOCK_BYTES", block)
        path = Path(folder, "e.tsv")
        path.write_bytes(content)
        check(path, given_rows, MISSING, options={"quotes": "none"})


@many
@given(some(), st.sampled_from(["\t", ",", ";"]), st.sampled_from([64, 1000, 1 << 20]))
def test_lone_quotes_lose_no_row(given_rows: list[dict[str, Any]], delimiter: str, block: int):
    """Without an option: as many rows read and rejected as there are, and no query that is not one of the file's."""
    content = joined(given_rows, delimiter)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "BLOCK_BYTES", block)
        path = Path(folder, "e.txt")
        path.write_bytes(content)
        taken = Rejected()
        try:
            read = pa.Table.from_batches(read_events(path, rejected=taken), EVENTS).to_pylist()
        except ShopstreamError:
            return
        assert len(read) + taken.rejected.total() == len(given_rows)
        assert {row["query"] for row in read} <= {unquoted(row["query"]) for row in given_rows} | {None}


def unquoted(text: str) -> str:
    """A quoted field that is closed, as it is meant; any other text as it is."""
    inside = text[1:-1]
    if len(text) > 1 and text[0] == text[-1] == '"':
        if '"' not in inside.replace('""', ""):
            return inside.replace('""', '"')
        if '"' not in inside.replace("\\\\", "").replace('\\"', ""):
            return inside.replace('\\"', '"').replace("\\\\", "\\")
    return text


@many
@given(some(), st.booleans(), st.booleans())
def test_json_lines_are_read(given_rows: list[dict[str, Any]], mark: bool, odd: bool):
    """With numbers as numbers or texts, and at times a line that is none."""

    def line(row: dict[str, Any]) -> str:
        fields = {name: row[name] for name in COLUMNS if row[name] != "" or name == "query"}
        if row["event_time"].isdigit() and row["quantity"].isdigit():
            fields |= {"event_time": int(row["event_time"]), "quantity": int(row["quantity"])}
        return json.dumps(fields, ensure_ascii=odd)

    lines = [line(row) for row in given_rows]
    with TemporaryDirectory() as folder:
        path = Path(folder, "e.jsonl")
        path.write_bytes(b"\xef\xbb\xbf" * mark + "\n".join(lines).encode("utf-8", "surrogatepass"))
        for row in given_rows:
            for name in ("price", "quantity"):
                row["read"][name] = None if row[name] in ("NULL", "NaN", r"\N") else row["read"][name]
        check(path, given_rows, ("",))
