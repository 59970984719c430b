from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from udfs.bundles.changes import FOLDER, SCHEMA, ChangeReader, change_files, compact, read_changes


def write(bundles: Path, name: str, *rows: dict[str, object]) -> None:
    (bundles / FOLDER).mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), SCHEMA), bundles / FOLDER / name)


def change(item: str, title: str | None, written: int = 1, offset: int = 0) -> dict[str, object]:
    return {"item_id": item, "title": title, "written": written, "offset": offset}


def read(reader: ChangeReader) -> dict[str, str | None]:
    """The titles of the items that changed since the last call."""
    with reader.unread() as changes:
        return dict(zip(changes["item_id"].to_pylist(), changes["title"].to_pylist(), strict=True))


def test_latest_change_is_read_once(tmp_path: Path):
    reader = ChangeReader(tmp_path)
    assert read(reader) == {}
    write(tmp_path, "part-2", change("a", "newer", 5, 9), change("b", "first", 3, 1), change("b", "second", 3, 2))
    write(tmp_path, ".part-9", change("c", "not yet"))
    assert read(reader) == {"a": "newer", "b": "second"}
    assert read(reader) == {}
    write(tmp_path, "part-1", change("a", "older", 4, 10), change("d", "new", 1))
    assert read(reader) == {"d": "new"}
    (tmp_path / FOLDER / "part-3").write_bytes(b"broken")
    write(tmp_path, "part-4", change("a", None, 6))
    assert read(reader) == {"a": None}


def test_failed_changes_are_read_again(tmp_path: Path):
    reader = ChangeReader(tmp_path)
    write(tmp_path, "part-1", change("a", "apple", 1))

    def fail() -> None:
        with reader.unread() as changes:
            assert changes["title"].to_pylist() == ["apple"]
            raise RuntimeError

    for _ in range(2):
        with pytest.raises(RuntimeError):
            fail()
    write(tmp_path, "part-2", change("a", "apples", 2), change("b", "bread"))
    assert read(reader) == {"a": "apples", "b": "bread"}
    assert reader.files_read == 2
    assert read(reader) == {}


def test_small_files_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("udfs.bundles.changes.MANY", 5)
    early, late = ChangeReader(tmp_path), ChangeReader(tmp_path)
    for number in range(4):
        write(tmp_path, f"part-{number}", change(f"i{number % 3}", f"version {number}", number))
    assert compact(tmp_path) == 0
    assert len(read(early)) == 3
    write(tmp_path, "part-4", change("i1", None, 9))
    assert compact(tmp_path) == 5
    (merged,) = change_files(tmp_path)
    assert merged.name.startswith("merged-")
    assert read(early) == {"i1": None}
    assert read(late) == {"i0": "version 3", "i1": None, "i2": "version 2"}
    found = read_changes(tmp_path).sort_by("item_id")
    assert found["written"].to_pylist() == [3, 9, 2]


def test_file_merged_meanwhile_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, "part-1", change("a", "apple"))
    reader = ChangeReader(tmp_path)
    gone = [tmp_path / FOLDER / "gone"]
    monkeypatch.setattr("udfs.bundles.changes.change_files", lambda _: gone)
    assert read(reader) == {}
    monkeypatch.undo()
    assert read(reader) == {"a": "apple"}
