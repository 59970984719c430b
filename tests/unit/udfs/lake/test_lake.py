"""Lakes of simulated sessions: read by all readers, old files and new; and every fault that check finds, planted."""

import base64
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from support import ROOT, run_command

from bench.features import as_sessions, make_events
from export.history.reading import read_past
from flink_jobs.cli.lake_table import parts_table
from flink_jobs.commands.lake import SMALL_FILES, Findings, check_lake, find_repeats, list_parts
from flink_jobs.simulation.catalog import make_catalog
from udfs.bundles.forgotten import ErasureList
from udfs.core.errors import ShopstreamError
from udfs.core.hashing import shopper_hash
from udfs.events.columns import EVENTS
from udfs.features.compute import compute_batch
from udfs.features.registry import FEATURES, feature
from udfs.lake.files import read
from udfs.lake.history import past_events
from udfs.lake.schema import DAY, TIME_OF, VERSION, events_schema, flink_columns, sessions_schema
from udfs.sessions.cleaning import clean

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def rows() -> dict[str, pa.Table]:
    """Both tables with `day`, of simulated sessions on three days."""
    frame = make_events(make_catalog(100), 600)
    frame["event_time"] += frame["session"] % len(DAYS) * DAY_MS
    whole, found = clean(as_sessions(frame))
    features = compute_batch(whole)
    ids = np.array([f"u{place}/{start}" for place, start in enumerate(whole.start)])
    told = {
        "schema_version": np.full(len(whole), VERSION), "session_id": ids,
        "user_id": [f"u{n}" for n in range(len(whole))], "session_start": whole.start, "session_end": whole.end,
        "session_events": whole.count,
        "repeats": found.duplicates, "repaired": found.repaired, "unknown_items": found.duplicates * 0,
        "bot": found.bot, "model": ["m"] * len(whole), **{name: features[name] for name in features.schema.names},
    }  # fmt: skip
    events = frame.drop_duplicates("event_id").assign(schema_version=VERSION, session_id=lambda e: ids[e["session"]])
    return {
        "sessions": with_day("sessions", pa.table([told[name] for name in told], sessions_schema())),
        "events": with_day("events", pa.Table.from_pandas(events, events_schema(), preserve_index=False)),
    }


def with_day(table: str, rows: pa.Table) -> pa.Table:
    day = np.datetime_as_string(rows[TIME_OF[table]].to_numpy().astype("M8[ms]").astype("M8[D]"))
    return rows.append_column(DAY, pa.array(day, DAY.type))


def put(folder: Path, table: str, rows: pa.Table, name: str = "part-0", **how: Any) -> None:
    """Rows as one file on each of their days, without a suffix as Flink names them."""
    for day in pc.unique(rows[DAY.name]).to_pylist():
        place = folder / table / f"day={day}"
        place.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.filter(pc.equal(rows[DAY.name], day)).drop_columns([DAY.name]), place / name, **how)


@pytest.fixture
def lake(rows: dict[str, pa.Table], tmp_path: Path) -> Path:
    """A sound lake of two files a day, with files that are still being written."""
    folder = tmp_path / "lake"
    for table, every in rows.items():
        half = every.num_rows // 2
        put(folder, table, every[:half], "part-0", write_page_checksum=True, compression="none")
        put(folder, table, every[half:], "part-1.parquet")
        (folder / table / f"day={DAYS[0]}" / ".part-2.inprogress.1").write_bytes(b"half a file")
        (folder / table / f"day={DAYS[0]}" / "_SUCCESS").touch()
        os.utime(folder / table / f"day={DAYS[0]}" / "_SUCCESS", (0, 0))
    return folder


def same(found: pa.Table, expected: pa.Table) -> bool:
    """Equal, whatever the order of rows; columns are the expected ones'."""
    key = "session_id" if "event_id" not in expected.schema.names else "event_id"
    return bool(found.select(expected.schema.names).sort_by(key).equals(expected.sort_by(key)))


# --- reading ----------------------------------------------------------------------------------------------------------


def test_read_returns_written_rows(lake: Path, rows: dict[str, pa.Table]):
    for table, every in rows.items():
        assert same(read(lake, table), every)
    assert read(lake, "sessions").schema.names == [*sessions_schema().names, "day"]
    some = read(lake, "events", days=DAYS[1:2], columns=["event_id", "day"])
    expected = rows["events"].filter(pc.equal(rows["events"]["day"], DAYS[1])).select(["event_id", "day"])
    assert same(some, expected)
    assert some.schema.names == ["event_id", "day"]
    assert read(lake, "events", days=["1999-01-01"]).num_rows == 0


def test_past_events_leave_out_bots(lake: Path, rows: dict[str, pa.Table], tmp_path: Path):
    sessions = rows["sessions"]
    bots = sessions["session_id"].to_pylist()[::7]
    column = sessions.schema.get_field_index("bot")
    marked = sessions.set_column(column, "bot", pc.is_in(sessions["session_id"], pa.array(bots)))
    shutil.rmtree(lake / "sessions")
    put(lake, "sessions", marked)
    expected = rows["events"].filter(pc.invert(pc.is_in(rows["events"]["session_id"], pa.array(bots))))
    assert 0 < len(expected) < len(rows["events"])
    found = pa.Table.from_batches(past_events(lake))
    assert found.equals(expected.sort_by([("event_time", "ascending"), ("event_id", "ascending")]).select(EVENTS.names))

    forgotten = found["user_id"][0].as_py()
    ErasureList.read(tmp_path).with_more([shopper_hash(forgotten)], 2**60).write(tmp_path)
    trained = pa.Table.from_batches(read_past(lake, {}, None, tmp_path))
    assert trained.equals(found.filter(pc.not_equal(found["user_id"], forgotten)))

    (tmp_path / "keys").write_text(f"k 2026-01-01T00:00:00Z {base64.b64encode(bytes(32)).decode()}")
    keyed = pa.Table.from_batches(read_past(lake, {}, tmp_path / "keys", tmp_path / "no"))
    assert keyed["event_id"].equals(found["event_id"])
    assert all(user.startswith("k:") for user in keyed["user_id"].to_pylist())


def test_past_events_need_required_values(lake: Path, rows: dict[str, pa.Table]):
    place = rows["events"].schema.get_field_index("user_id")
    nobody = pa.nulls(len(rows["events"]), pa.string())
    put(lake, "events", rows["events"].set_column(place, "user_id", nobody), "part-2")
    with pytest.raises(ShopstreamError, match=f"rows of {DAYS[0]} without user_id"):
        list(past_events(lake))


@pytest.fixture
def old_and_new(rows: dict[str, pa.Table], tmp_path: Path) -> tuple[Path, pa.Table]:
    """Sessions of which the first day lacks `visitor`, and what reading them should give."""
    every = rows["sessions"]
    old = pc.equal(every["day"], DAYS[0])
    put(tmp_path / "lake", "sessions", every.filter(old).drop_columns(["visitor"]))
    put(tmp_path / "lake", "sessions", every.filter(pc.invert(old)))
    (tmp_path / "lake" / "sessions" / f"day={DAYS[0]}" / ".part-2").write_bytes(b"half a file")
    place = every.schema.get_field_index("visitor")
    null = pc.if_else(old, pa.scalar(None, pa.string()), every["visitor"])
    assert 0 < null.null_count < len(null)
    return tmp_path / "lake", every.set_column(place, every.schema.field(place), null)


def test_columns_missing_in_old_files_are_null(old_and_new: tuple[Path, pa.Table]):
    folder, expected = old_and_new
    assert same(read(folder, "sessions"), expected)


def test_columns_unknown_today_are_left_out(lake: Path, rows: dict[str, pa.Table]):
    shutil.rmtree(lake)
    put(lake, "events", rows["events"].append_column("from_the_future", rows["events"]["price"]))
    found = read(lake, "events")
    assert same(found, rows["events"])
    assert "from_the_future" not in found.schema.names


def test_page_examples_read_old_and_new(old_and_new: tuple[Path, pa.Table], monkeypatch: pytest.MonkeyPatch):
    folder, expected = old_and_new
    monkeypatch.chdir(folder.parent)
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "lake.md").read_text(), re.DOTALL)
    assert len(examples) == 4
    wanted = expected.filter(pc.greater_equal(expected["day"], DAYS[1])).select(["session_id", "views", "visitor"])
    for example in examples:
        for days, want in ((DAYS[1], wanted), (DAYS[0], expected.select(["session_id", "views", "visitor"]))):
            found: dict[str, Any] = {}
            exec(example.replace(DAYS[1], days).replace(f'"{DAYS[2]}"]', f'"{DAYS[1]}", "{DAYS[2]}"]'), found)  # noqa: S102
            table = found["sessions"]
            table = pa.Table.from_pandas(table, preserve_index=False) if isinstance(table, pd.DataFrame) else table
            table = table.select(["session_id", "views", "visitor"]).cast(want.schema)
            assert same(table, want), example


def test_duckdb_pandas_and_pyarrow_agree(lake: Path, rows: dict[str, pa.Table]):
    price = pc.sum(rows["events"]["price"]).as_py()
    found = duckdb.read_parquet(f"{lake}/events/day=*/[!._]*").aggregate("count(*), sum(price)").fetchall()[0]
    frame = pd.read_parquet(lake / "events")
    arrow = ds.dataset(lake / "events", format="parquet", partitioning="hive").to_table()
    assert found[0] == len(frame) == arrow.num_rows == rows["events"].num_rows
    assert [found[1], frame["price"].sum(), pc.sum(arrow["price"]).as_py()] == pytest.approx([price] * 3)


@pytest.mark.parametrize(
    ("reads", "says"),
    [
        (lambda folder: read(folder, "clicks"), "no table 'clicks', only sessions and events"),
        (lambda folder: read(folder, "events", columns=["prize"]), "no column 'prize'"),
        (lambda folder: read(folder / "nowhere", "events"), "there is no folder .*nowhere/events"),
        (lambda folder: list_parts(folder / "nowhere"), "there is no lake in .*nowhere"),
        (lambda folder: check_lake(folder / "nowhere"), "there is no lake in .*nowhere"),
    ],
)
def test_missing_tables_and_columns_are_named(lake: Path, reads: Callable[[Path], object], says: str):
    with pytest.raises(ShopstreamError, match=says):
        reads(lake)


def test_newer_or_broken_files_are_refused(lake: Path, rows: dict[str, pa.Table]):
    put(
        lake,
        "events",
        rows["events"][:1].set_column(0, "schema_version", pa.array([VERSION + 1], pa.int32())),
        "part-2",
    )
    with pytest.raises(ShopstreamError, match=f"rows of version {VERSION + 1}, this package reads up to {VERSION}"):
        read(lake, "events", columns=["price"])
    (lake / "sessions" / f"day={DAYS[1]}" / "part-2").write_bytes(b"PAR1 no more")
    for reads in (lambda: read(lake, "sessions"), lambda: list_parts(lake)):
        with pytest.raises(ShopstreamError, match=r"part-2|parquet"):
            reads()


def test_feature_cannot_take_column_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(FEATURES, "bot", None)  # removed again after the test
    del FEATURES["bot"]
    feature("float64", name="bot", doc="How much of a bot.")(lambda e: e.price)
    with pytest.raises(ShopstreamError, match="feature 'bot' needs another name"):
        sessions_schema()


def test_ddl_columns_match_schema():
    lines = [line.strip().rstrip(",").split(" ") for line in flink_columns(sessions_schema()).split("\n")]
    assert [name.strip("`") for name, _ in lines] == sessions_schema().names
    some = {"schema_version": "INT", "bot": "BOOLEAN", "views": "BIGINT", "pace": "DOUBLE", "device": "STRING"}
    assert {name: kind for name, kind in lines if name.strip("`") in some} == {f"`{n}`": k for n, k in some.items()}


# --- looking after it -------------------------------------------------------------------------------------------------


def test_show_counts_rows_and_files(lake: Path, rows: dict[str, pa.Table]):
    parts = list_parts(lake)
    assert [(part.table, part.day) for part in parts] == [(table, day) for table in rows for day in DAYS]
    for part in parts:
        own = rows[part.table].filter(pc.equal(rows[part.table]["day"], part.day))[TIME_OF[part.table]]
        files = list((lake / part.table / f"day={part.day}").glob("part-*"))
        assert (part.rows, part.files, part.bytes) == (len(own), 2, sum(file.stat().st_size for file in files))
        assert (part.first, part.last) == (pc.min(own).as_py(), pc.max(own).as_py())
        assert part.oldest_version == part.newest_version == VERSION


def test_show_accepts_rows_without_time(lake: Path, rows: dict[str, pa.Table]):
    for name in ("part-0", "part-1.parquet"):
        change("event_time", lambda column: pa.nulls(len(column), pa.int64()), name)(lake)
    parts = list_parts(lake)
    (part,) = [part for part in parts if (part.table, part.day) == ("events", DAYS[1])]
    here = pc.sum(pc.equal(rows["events"]["day"], DAYS[1])).as_py()
    assert (part.rows, part.first, part.last, part.newest_version) == (here, None, None, VERSION)
    assert parts_table(lake, parts).row_count == 8


def test_commands_print_text_and_json(lake: Path, rows: dict[str, pa.Table]):
    shown = run_command("lake", "show", "--folder", str(lake)).out
    lines = [line.split() for line in shown.splitlines()]
    assert ["events", "all", f"{rows['events'].num_rows:,}", "6"] in [line[:4] for line in lines]
    assert max(map(len, shown.splitlines()[1:])) <= 80
    asked = run_command("lake", "show", "--set", f"lake.folder={lake}", "--json").json()
    assert sum(part["rows"] for part in asked["parts"]) == sum(every.num_rows for every in rows.values())
    (lake / "sessions" / "day=20260101").mkdir()
    shutil.rmtree(lake / "events" / f"day={DAYS[1]}")
    checked = run_command("lake", "check", "--folder", str(lake))
    assert checked.code == 1
    assert checked.out == (
        "wrong: sessions of 20260101: the folder's name is not day=YYYY-MM-DD\n"
        "note: events: days without rows: 1 of 3, the first of them 2026-01-02\n"
    )
    assert checked.err == f"error: faults in the lake in {lake}: 1\n"


def test_missing_days_and_sessions_are_notes(lake: Path, rows: dict[str, pa.Table]):
    shutil.rmtree(lake / "events" / f"day={DAYS[1]}")
    assert check_lake(lake) == Findings(
        wrong=[],
        notes=[
            "events: days without rows: 1 of 3, the first of them 2026-01-02",
            f"events: {read(lake, 'events').num_rows:,} rows, but the sessions have {rows['events'].num_rows:,} events",
        ],
    )


def test_sound_lake_passes_check(lake: Path):
    assert check_lake(lake) == Findings([], [])


def truncate(lake: Path) -> None:
    os.truncate(lake / "events" / f"day={DAYS[1]}" / "part-0", 1000)


def flip_a_bit(lake: Path) -> None:
    file = lake / "events" / f"day={DAYS[1]}" / "part-0"
    chunk = pq.read_metadata(file).row_group(0).column(events_schema().get_field_index("price"))
    data = bytearray(file.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 1
    file.write_bytes(data)


def double_a_file(lake: Path) -> None:
    shutil.copy(lake / "sessions" / f"day={DAYS[1]}" / "part-0", lake / "sessions" / f"day={DAYS[1]}" / "part-9")


def move(from_day: str, to_day: str) -> Callable[[Path], None]:
    """What moves a file of events to another day."""
    return lambda lake: (lake / "events" / f"day={from_day}" / "part-0").replace(
        lake / "events" / f"day={to_day}" / "part-9"
    )


def leave_a_file(lake: Path) -> None:
    os.utime(lake / "events" / f"day={DAYS[0]}" / ".part-2.inprogress.1", (0, 0))


def change(name: str, of: Callable[[pa.ChunkedArray], pa.Array], part: str = "part-0") -> Callable[[Path], None]:
    """What changes a column of a file of events."""

    def plant(lake: Path) -> None:
        file = lake / "events" / f"day={DAYS[1]}" / part
        found = pq.read_table(file)
        pq.write_table(found.set_column(found.schema.get_field_index(name), name, of(found[name])), file)

    return plant


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (truncate, r"events of 2026-01-02: part-0 cannot be read: .*[Pp]arquet.*"),
        (flip_a_bit, r"events of 2026-01-02: part-0 cannot be read: .*checksum.*"),
        (
            double_a_file,
            r"sessions of 2026-01-02: values of session_id that occur more than once: \d+, such as u\d+/\d+",
        ),
        (move(DAYS[1], DAYS[2]), r"events of 2026-01-03: rows with their event_time on another day or none: [\d,]+"),
        (move(DAYS[1], DAYS[0]), r"events of 2026-01-01: rows with their event_time on another day or none: [\d,]+"),
        (leave_a_file, r"events/day=2026-01-01/.part-2.inprogress.1: left behind by a writer .*"),
        (
            change("schema_version", lambda column: pa.array([VERSION + 1] * len(column), pa.int32())),
            r"events of 2026-01-02: rows of a newer version than 1, this package's: [\d,]+",
        ),
        (
            change("event_id", lambda column: pa.array([None, *column.to_pylist()[1:]])),
            r"events of 2026-01-02: rows without event_id: 1",
        ),
        (
            change("price", lambda column: column.cast(pa.string())),
            r"events of 2026-01-02: part-0 cannot be read: column price is string, not double",
        ),
        (
            change("event_time", lambda column: pa.nulls(len(column), pa.int64())),
            r"events of 2026-01-02: rows with their event_time on another day or none: [\d,]+",
        ),
    ],
)
def test_check_finds_every_fault(lake: Path, plant: Callable[[Path], None], says: str):
    plant(lake)
    (line,) = check_lake(lake).wrong
    assert re.fullmatch(says, line, re.DOTALL), line


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_repeated_ids_are_counted_in_chunks(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flink_jobs.commands.lake.MOST_IDS", most)
    ids = [f"e{place}" for place in range(40)]
    for name, some in {"a": ids, "b": ids[:3], "c": [*ids[2:5], "é"]}.items():
        pq.write_table(pa.table({"event_id": some}), tmp_path / name)
    repeated, example = find_repeats([tmp_path / name for name in "abc"], "event_id")
    assert repeated == 5
    assert example in ids[:5]
    assert find_repeats([tmp_path / "a"], "event_id") == (0, None)


def test_many_small_files_are_noted(lake: Path):
    place = lake / "events" / f"day={DAYS[1]}"
    found = pq.read_table(place / "part-0")
    for row in range(SMALL_FILES):
        pq.write_table(found[row : row + 1], place / f"more-{row}")
    pq.write_table(found[SMALL_FILES:], place / "part-0")
    (note,) = check_lake(lake).notes
    assert note == (
        "events: days with more than 24 files of less than 1 MiB: 1, the first of them 2026-01-02; "
        "a longer lake.interval makes fewer"
    )
