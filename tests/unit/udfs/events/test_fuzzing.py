"""Whatever bytes come: each record gives a row or a reason, each file and setting gives what it says or one line."""

import gzip
import json
import os
import random
import string
import subprocess
import sys
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
from support import ROOT
from unreadable import ITEM, check_item, check_rows, good, refused

from flink_jobs.cli import main
from flink_jobs.commands.backfill import write_recorded
from flink_jobs.commands.check import expected_ids
from flink_jobs.commands.dlq import ReplayState, is_replayable, reason_of
from flink_jobs.settings.loading import load_settings, settings_table
from flink_jobs.settings.settings import Settings
from udfs.catalog.files import read_catalog
from udfs.core.errors import ShopstreamError
from udfs.events.columns import EVENT_COLUMNS
from udfs.events.files import read_events


@given(st.lists(st.binary(max_size=300) | st.none(), max_size=30))
def test_any_bytes_are_row_or_reason(values: list[bytes | None]):
    check_rows(values)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=5
) | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)


@given(ANY_JSON, st.sampled_from([*EVENT_COLUMNS, "properties"]))
def test_any_json_is_row_or_reason(content: Any, field: str):
    fields = json.loads(good(1)[0][1]) | {field: content}
    check_rows([json.dumps(fields).encode(), json.dumps(content).encode()])


@pytest.mark.parametrize("how", MUTATIONS)
def test_hostile_events_are_row_or_reason(how: str):
    chance = random.Random(how)
    values = [MUTATIONS[how](chance, value) for _, value, _ in good(300)]
    assert values != [value for _, value, _ in good(300)]
    check_rows(values)


def test_most_hostile_events_are_refused():
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


@given(st.binary(max_size=30) | st.none(), st.binary(max_size=200) | st.none())
@example(b"a", None)
def test_any_catalog_bytes_are_item_or_reason(key: bytes | None, value: bytes | None):
    check_item(key, value)


@given(st.sampled_from([*ITEM, "updated_at", "new"]), ANY_JSON)
def test_any_catalog_json_is_item_or_reason(field: str, content: Any):
    check_item(b"a", json.dumps(ITEM | {field: content}).encode())


def fuzz(cwd: Path, *before: str) -> "subprocess.CompletedProcess[str]":
    """Run tests/fuzz.py after these lines of Python."""
    pytest.importorskip("atheris", reason="has no package for this platform")
    lines = [*before, "import runpy", f"runpy.run_path({str(ROOT / 'tests' / 'fuzz.py')!r}, run_name='__main__')"]
    command = [sys.executable, "-c", "\n".join(lines), "--runs", "20000", "--seed", "1"]
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    # Linux counts the memory that the process before had at its most as a child's, and the fuzzer has a limit: a shell
    # stands between, as pytest may have had more.
    command = ["sh", "-c", '"$@"; exit $?', "sh", *command]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def test_fuzzer_finds_no_fault(tmp_path: Path):
    ran = fuzz(tmp_path)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "Done 20000 runs" in ran.stderr


def test_fuzzer_finds_a_faulty_parser(tmp_path: Path):
    """About an item with a member that only events have: the fuzzer has to change the one item that it begins with."""
    wrong = """import atheris
with atheris.instrument_imports(include=["udfs"]):
    import udfs.catalog.parsing
right = udfs.catalog.parsing.parse_item
udfs.catalog.parsing.parse_item = lambda key, value: ("", None) if b'"rating":' in value else right(key, value)"""
    ran = fuzz(tmp_path, *wrong.splitlines())
    assert ran.returncode == 77
    (crash,) = tmp_path.iterdir()
    assert b'"rating":' in crash.read_bytes()


# --- settings ---------------------------------------------------------------------------------------------------------

NAMES = [name for name, _, _ in settings_table()]
ANY_SETTING = st.one_of(
    st.text(max_size=40),
    st.builds("{}={}".format, st.sampled_from(NAMES) | st.text("abc.", max_size=12), st.text(max_size=30)),
    st.builds("{}={}".format, st.sampled_from(NAMES), st.integers() | st.floats()),
)


@examples(max_examples=300)
@given(st.lists(ANY_SETTING, max_size=3))
def test_any_setting_is_taken_or_refused(assignments: list[str]):
    assert refused(lambda: load_settings(None, assignments), ShopstreamError) != ""


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=120) | st.text(string.printable, max_size=120).map(str.encode))
@example(b"[rank]\nk = 3\n[rank]\nk = 4\n")
@example(b"kafka = 3\n")
@example(b"parallelism = 1979-05-27\n")
@example(b"x = " + b"[" * 2000)
@example(b"parallelism = " + b"9" * 5000)
def test_any_settings_file_is_taken_or_refused(tmp_path: Path, content: bytes):
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
def test_any_file_is_read_or_refused(file: tuple[str, bytes], mapping: dict[str, str]):
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
    "half.jsonl": JSON_LINES.partition(b"\n")[0][:-20],
    "number.jsonl": b'{"event_id": ' + b"9" * 5000 + b"}\n",
    "magic.parquet": b"PAR1PAR1",
    "cut.parquet": parquet()[:-5],
    "what.xls": b"",
}


@pytest.mark.parametrize("command", [("check",), ("catalog", "send")], ids=" ".join)
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_one_line_error(
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
def test_any_dead_letter_has_a_reason(headers: list[tuple[str, bytes | None]], key: bytes | None, value: bytes | None):
    class Letter:
        pass

    letter: Any = Letter()
    letter.headers, letter.key, letter.value = headers, key, value
    reason = reason_of(headers)
    assert str(reason)
    assert is_replayable(letter) <= bool(reason.topic)


@given(st.integers(0, 2**62), st.text(min_size=1, max_size=60))
@example(5, "bm90IG91cnM=")
@example(5, "eJwDAAAAAAE=")
def test_foreign_offset_metadata_is_refused(offset: int, metadata: str):
    line = refused(lambda: ReplayState.committed(OffsetAndMetadata(offset, metadata, -1)), ShopstreamError)
    assert line is None or "another client" in line


@given(st.integers(0, 1000), st.sets(st.integers(0, 2000)))
def test_committed_progress_is_restored(first: int, sent: set[int]):
    state = ReplayState(first, {offset for offset in sent if offset >= first})
    assert ReplayState.committed(state.to_commit()) == state
