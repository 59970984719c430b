"""Erased users in the lake."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from flink_jobs.commands.lake import check_lake
from flink_jobs.commands.privacy import remove_rows, sweep
from flink_jobs.settings.loading import load_settings
from udfs.bundles.forgotten import FILE, ErasureList
from udfs.core.errors import ShopstreamError
from udfs.core.hashing import shopper_hash
from udfs.lake.files import read as lake_read
from udfs.lake.schema import ID_OF, TABLES, TIME_OF

DAY = 86_400_000
START = 1_700_000_000_000 // DAY * DAY
NOBODY = ErasureList.read(Path("no-such-folder"))
MOST = np.iinfo(np.int64).max


def erase(at: int, *users: str) -> ErasureList:
    return NOBODY.with_more(map(shopper_hash, users), at)


def rows_of(table: str, *rows: tuple[str, int]) -> pa.Table:
    """Rows of shoppers at times; a column that today's package does not have is the last."""
    time = TIME_OF[table]
    fields = [
        {"schema_version": 1, "user_id": user, time: at, ID_OF[table]: f"{user}/{at}", "session_events": 1}
        for user, at in rows
    ]
    found = pa.Table.from_pylist(fields, TABLES[table]())
    return found.append_column("from_the_future", pa.array([f"{user} {at}" for user, at in rows]))


def put(folder: Path, table: str, name: str, *rows: tuple[str, int]) -> Path:
    place = folder / table / f"day={np.datetime64(rows[0][1], 'ms').astype('M8[D]')}"
    place.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows_of(table, *rows), place / name, compression="snappy", row_group_size=2)
    return place / name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Both tables alike, on two days, with a file that a job is writing."""
    for table in TABLES:
        put(tmp_path, table, "part-0", *((user, START + place) for place, user in enumerate("uvwuv")))
        put(tmp_path, table, "compacted-part-1", ("w", START), ("w", START + 1))
        put(tmp_path, table, "part-2", ("u", START + DAY), ("u", START + DAY + 1))
        put(tmp_path, table, ".part-3.inprogress.1", ("u", START))
    return tmp_path


def stamps(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_ino for file in folder.rglob("*") if file.is_file()}


def test_erased_rows_are_removed(folder: Path):
    before = stamps(folder)
    removed = remove_rows(folder, erase(MOST, "u", "x"))
    assert removed == {shopper_hash("u"): 8}
    for table in TABLES:
        found = lake_read(folder, table)
        assert sorted(zip(*(found[name].to_pylist() for name in ("user_id", TIME_OF[table])), strict=True)) == [
            ("v", START + 1), ("v", START + 4), ("w", START), ("w", START + 1), ("w", START + 2)
        ]  # fmt: skip
    after = stamps(folder)
    assert {file.name for file in before.keys() - after.keys()} == {"part-2"}  # had nobody else
    assert {file.name for file in after if after[file] != before[file]} == {"part-0"}
    assert pq.read_table(folder / "events" / "day=2023-11-14" / "part-0", partitioning=None)[
        "from_the_future"
    ].to_pylist() == [f"v {START + 1}", f"w {START + 2}", f"v {START + 4}"]
    assert check_lake(folder).wrong == []
    assert remove_rows(folder, erase(MOST, "u", "x")) == {}
    assert stamps(folder) == after


def test_later_rows_are_kept(folder: Path):
    assert remove_rows(folder, erase(START + 3, "u")) == {shopper_hash("u"): 4}
    found = lake_read(folder, "events")
    mine = found.filter(pc.equal(found["user_id"], "u"))
    assert sorted(mine["event_time"].to_pylist()) == [START + DAY, START + DAY + 1]


def test_concurrent_readers_see_whole_files(tmp_path: Path):
    users = [f"u{number}" for number in range(30)]
    for part in range(5):
        put(tmp_path, "events", f"part-{part}", *((user, START) for user in [*users, "w"]))
    found, done = list[int](), threading.Event()

    def read() -> None:
        while not done.is_set():
            found.append(lake_read(tmp_path, "events", columns=["user_id"])["user_id"].to_pylist().count("w"))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for user in users:
            assert remove_rows(tmp_path, erase(MOST, user)) == {shopper_hash(user): 5}
        done.set()
        reading.result()
    assert set(found) == {5}


def test_failed_removal_keeps_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch):
    before = stamps(folder)

    def broken(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(pq.ParquetWriter, "write_batch", broken)
    with pytest.raises(ShopstreamError, match="part-0: no space left"):
        remove_rows(folder, erase(MOST, "u"))
    assert stamps(folder) == before


def test_lake_is_swept_after_state_expires(folder: Path):
    bundles = folder / "bundles"
    settings = load_settings(None, [f"lake.folder={folder}", f"bundles={bundles}"])
    assert sweep(settings) == {}
    at = START + DAY // 2
    erase(at, "u").write(bundles)
    # The first time all there is goes, even by a clock that is ahead.
    put(folder, "events", "ahead", ("u", at + 3650 * DAY))
    assert sweep(settings) == {shopper_hash("u"): 9}
    swept_at = ErasureList.read(bundles).swept_at[0]
    assert swept_at > at + settings.max_state_age_ms()
    put(folder, "events", "closed-late", ("u", at - 1))
    assert sweep(settings) == {}  # it is done with

    ErasureList(*(np.array([each]) for each in (shopper_hash("u"), at, at + settings.max_state_age_ms() - 1))).write(
        bundles
    )
    put(folder, "events", "came-back", ("u", at + 1))
    assert sweep(settings) == {shopper_hash("u"): 1}
    assert (
        lake_read(folder, "events", columns=["user_id", "event_time"])
        .to_pylist()
        .count({"user_id": "u", "event_time": at + 1})
    )
    assert [file.name for file in bundles.iterdir()] == [FILE]
