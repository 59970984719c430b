"""Whatever bytes come: each record gives a row or a reason, each file and setting gives what it says or one line."""

import gzip
import json
import random
import string
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import MUTATIONS, hostile
from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from kafka.structs import OffsetAndMetadata

from flink_jobs.backfill import write_recorded
from flink_jobs.check import expected_ids
from flink_jobs.cli import main
from flink_jobs.dlq import Place, can_go_back, reason_of
from flink_jobs.settings import Settings, load_settings, settings_table
from udfs.catalog import parse_item
from udfs.contracts import MAX_TIME_MS, MIN_TIME_MS, CatalogItem
from udfs.datasets import read_catalog, read_events
from udfs.errors import ShopstreamError
from udfs.events import EVENT_COLUMNS, parse_events

ARROW = {"STRING": pa.string(), "BIGINT": pa.int64(), "DOUBLE": pa.float64()}
ROWS = pa.schema([(name, ARROW[kind]) for name, kind in EVENT_COLUMNS.items()])


def good(count: int) -> list[tuple[bytes, bytes, int]]:
    """Views of a few shoppers, a second apart."""
    return [
        (
            b"u%d" % (number % 7),
            json.dumps(
                {
                    "event_id": f"e{number}",
                    "event_type": "view",
                    "user_id": f"u{number % 7}",
                    "event_time": 1_700_000_000_000 + 1000 * number,
                    "item_id": f"i{number % 50}",
                    "price": 2.5,
                    "properties": {"device": "phone"},
                }
            ).encode(),
            1_700_000_000_000 + 1000 * number,
        )
        for number in range(count)
    ]


def refused(call: Callable[[], object], errors: type[Exception] | tuple[type[Exception], ...]) -> str | None:
    """What the error says with which a call is refused; None where it is not."""
    try:
        call()
    except errors as error:
        return str(error)
    return None


def check_rows(values: list[bytes | None]) -> pa.Table:
    """A row a value, each readable or with its reason, and all of them as Flink will have them: in Arrow."""
    rows = parse_events(values)
    assert len(rows) == len(values)
    table = pa.table(list(zip(*rows, strict=True)) or [[] for _ in ROWS], schema=ROWS)
    table.validate(full=True)
    used = [row for row in rows if row[0] is None]
    dead = [row for row in rows if row[0] is not None]
    assert len(used) + len(dead) == len(values)
    for row in dead:
        assert row[1]
        assert row[2:] == (None,) * (len(EVENT_COLUMNS) - 2)
    for row in used:
        fields = dict(zip(EVENT_COLUMNS, row, strict=True))
        assert fields["event_id"]
        assert fields["user_id"]
        assert MIN_TIME_MS <= fields["event_time"] <= MAX_TIME_MS
    return table


@given(st.lists(st.binary(max_size=300) | st.none(), max_size=30))
def test_any_bytes_are_a_row_or_a_reason(values: list[bytes | None]):
    check_rows(values)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=5
) | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)


@given(ANY_JSON, st.sampled_from([*EVENT_COLUMNS, "properties"]))
def test_any_json_in_any_field_is_a_row_or_a_reason(content: Any, field: str):
    fields = json.loads(good(1)[0][1]) | {field: content}
    check_rows([json.dumps(fields).encode(), json.dumps(content).encode()])


@pytest.mark.parametrize("how", MUTATIONS)
def test_hostile_events_are_a_row_or_a_reason(how: str):
    chance = random.Random(how)
    values = [MUTATIONS[how](chance, value) for _, value, _ in good(300)]
    assert values != [value for _, value, _ in good(300)]
    check_rows(values)


def test_a_third_is_hostile_and_most_of_that_is_refused():
    """So that what is tested with these records is not tested with good ones alone."""
    records = list(hostile(good(5000), seed=3, large=(100_000,)))
    assert records == list(hostile(good(5000), seed=3, large=(100_000,)))
    assert len(records) == 5000
    strange = [record for record in records if record.how]
    assert 0.3 < len(strange) / len(records) < 0.37
    assert {record.how for record in strange} == {*MUTATIONS, "no_key", "tombstone", "repeated", "very_large"}
    table = check_rows([record.value for record in records])
    assert 0.3 < (table.num_rows - table["error"].null_count) / len(strange) < 0.8
    for record, error in zip(records, table["error"].to_pylist(), strict=True):
        assert record.how or error is None


ITEM = {"item_id": "a", "title": "Mug", "category": "Kitchen", "price": 3.5, "in_stock": True, "image_vector": [0]}


def check_item(key: bytes | None, value: bytes | None) -> None:
    """An item as Arrow can hold it, a removal, or one of the errors that become dead letters."""

    found: list[tuple[str, CatalogItem | None]] = []
    assert refused(lambda: found.append(parse_item(key, value)), (ValueError, RecursionError)) != ""
    for item_id, item in found:
        assert item_id.encode() == key
        assert (item is None) == (value is None)
        if item is not None:
            pa.array([item_id, item.title, item.category, item.brand], pa.string()).validate(full=True)
            pa.array([item.price], pa.float64()).validate(full=True)


@given(st.binary(max_size=30) | st.none(), st.binary(max_size=200) | st.none())
@example(b"a", None)
def test_any_catalogue_record_is_an_item_or_a_reason(key: bytes | None, value: bytes | None):
    check_item(key, value)


@given(st.sampled_from([*ITEM, "updated_at", "new"]), ANY_JSON)
def test_any_json_in_a_catalogue_record_is_an_item_or_a_reason(field: str, content: Any):
    check_item(b"a", json.dumps(ITEM | {field: content}).encode())


# --- settings ---------------------------------------------------------------------------------------------------------

NAMES = [name for name, _, _ in settings_table()]
ANY_SETTING = st.one_of(
    st.text(max_size=40),
    st.builds("{}={}".format, st.sampled_from(NAMES) | st.text("abc.", max_size=12), st.text(max_size=30)),
    st.builds("{}={}".format, st.sampled_from(NAMES), st.integers() | st.floats()),
)


@examples(max_examples=300)
@given(st.lists(ANY_SETTING, max_size=3))
def test_any_setting_is_taken_or_refused_in_one_line(assignments: list[str]):
    assert refused(lambda: load_settings(None, assignments), ShopstreamError) != ""


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=120) | st.text(string.printable, max_size=120).map(str.encode))
@example(b"[rank]\nk = 3\n[rank]\nk = 4\n")
@example(b"kafka = 3\n")
@example(b"parallelism = 1979-05-27\n")
@example(b"x = " + b"[" * 2000)
@example(b"parallelism = " + b"9" * 5000)
def test_any_settings_file_is_taken_or_refused_in_one_line(tmp_path: Path, content: bytes):
    file = tmp_path / "shop.toml"
    file.write_bytes(content)
    assert refused(lambda: load_settings(file), ShopstreamError) != ""


# --- files ------------------------------------------------------------------------------------------------------------

HEADER = b"event_id,event_type,user_id,event_time,item_id,price,query\n"
LINES = HEADER + b"e1,view,u1,1700000000000,i1,2.5,\ne2,search,u1,2023-11-14T22:13:20Z,,,mug\n"
CATALOGUE = b"item_id,title,price\na,Mug,2.5\nb,Tray,3\n"
JSON_LINES = b"\n".join(value for _, value, _ in good(3)) + b"\n"


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([json.loads(value) for _, value, _ in good(3)]), sink)
    return sink.getvalue().to_pybytes()


GOOD_FILES = [(".csv", LINES), (".tsv", LINES), (".jsonl", JSON_LINES), (".parquet", parquet()), (".csv", CATALOGUE)]


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A suffix, and what may be in such a file: anything, or a good file with some bytes changed, cut or gone."""
    suffix, content = draw(st.sampled_from(GOOD_FILES))
    kind = draw(st.sampled_from(["any", "changed", "cut", "whole"]))
    if kind == "any":
        content = draw(st.binary(max_size=200))
    elif kind == "cut":
        content = content[: draw(st.integers(0, len(content)))]
    elif kind == "changed":
        changed = bytearray(content)
        for place, byte in draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=6)):
            changed[place] = byte
        content = bytes(changed)
    if draw(st.booleans()) and suffix != ".parquet":
        suffix, content = suffix + ".gz", gzip.compress(content, mtime=0)[: draw(st.integers(0, 500))]
    return suffix, content


@examples(max_examples=500)
@given(files(), st.sampled_from([{}, {"event_time": "price"}, {"user_id": "item_id"}, {"title": "query"}]))
def test_any_file_is_read_or_refused_in_one_line(file: tuple[str, bytes], mapping: dict[str, str]):
    """By what check, replay, backfill and `catalog send` read files with."""
    suffix, content = file

    def events() -> None:
        rows = sum(len(batch) for batch in read_events(path, mapping=mapping))
        assert sum(write_recorded(read_events(path, mapping=mapping), Path(folder, "copy"))) == rows
        assert len(expected_ids(Settings(), path, mapping=mapping, preset="auto", limit=None)) <= rows

    with TemporaryDirectory() as folder:
        path = Path(folder, f"events{suffix}")
        path.write_bytes(content)
        for read in (events, lambda: read_catalog(path, mapping=mapping)):
            line = refused(read, ShopstreamError)
            assert line is None or str(path) in line or "--map" in line


#: Files that neither `check` nor `catalog send` can read, by name.
BAD_FILES = {
    "empty.csv": b"",
    "text.csv": b"\xff\xfe\x00",
    "cells.csv": HEADER + b"e1,view\n",
    "time.csv": HEADER + b"e1,view,u1,yesterday,i1,2,\n",
    "price.csv": HEADER + b"e1,view,u1,1,i1,dear,\n",
    "quote.csv": b'"' + b"x" * 1_000_000,
    "nul.tsv": b"\0\t\0\n\0\n",
    "cut.csv.gz": gzip.compress(LINES)[:-9],
    "list.jsonl": b"[1]\n",
    "deep.jsonl": b'{"event_id": ' + b"[" * 100_000 + b"\n",
    "half.jsonl": JSON_LINES[:-20],
    "number.jsonl": b'{"event_id": ' + b"9" * 5000 + b"}\n",
    "magic.parquet": b"PAR1PAR1",
    "cut.parquet": parquet()[:-5],
    "what.xls": b"",
}


@pytest.mark.parametrize("command", [("check",), ("catalog", "send")], ids=" ".join)
@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line_and_exit_code_1(
    name: str,
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / name).write_bytes(BAD_FILES[name])
    monkeypatch.setattr(sys, "argv", ["shopstream", *command, str(tmp_path / name)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (1, "")
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert name in said.err


# --- dead letters -----------------------------------------------------------------------------------------------------

ERROR_HEADERS = [f"__connect.errors.{name}" for name in ("topic", "partition", "offset", "stage", "exception.message")]


@given(
    st.lists(st.tuples(st.sampled_from(ERROR_HEADERS) | st.text(max_size=20), st.binary() | st.none()), max_size=8),
    st.binary(max_size=10) | st.none(),
    st.binary(max_size=10) | st.none(),
)
def test_any_letter_has_a_reason(headers: list[tuple[str, bytes | None]], key: bytes | None, value: bytes | None):
    class Letter:
        pass

    letter: Any = Letter()
    letter.headers, letter.key, letter.value = headers, key, value
    reason = reason_of(headers)
    assert str(reason)
    assert can_go_back(letter) <= bool(reason.topic)


@given(st.integers(0, 2**62), st.text(min_size=1, max_size=60))
@example(5, "bm90IG91cnM=")
@example(5, "eJwDAAAAAAE=")
def test_what_another_client_has_noted_is_refused_in_one_line(offset: int, metadata: str):
    line = refused(lambda: Place.committed(OffsetAndMetadata(offset, metadata, -1)), ShopstreamError)
    assert line is None or "another client" in line


@given(st.integers(0, 1000), st.sets(st.integers(0, 2000)))
def test_what_was_noted_is_found_again(first: int, sent: set[int]):
    place = Place(first, {offset for offset in sent if offset >= first})
    assert Place.committed(place.to_commit()) == place
