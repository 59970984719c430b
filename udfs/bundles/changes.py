"""Catalog changes between bundles: Parquet files in a folder next to the bundles, one row per change.

    <bundles>/segments/   written by the catalog job, read by everything that watches CURRENT

A file whose name begins with `.` or `_` is still being written. Of an item's changes the one with the latest Kafka
timestamp holds, and of equal timestamps the one with the highest offset. So a file may be read twice, and several files
may be merged.
"""

import fcntl
import logging
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

log = logging.getLogger(__name__)

FOLDER = "segments"

SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),  # null: the item was removed
        ("category", pa.string()),
        ("brand", pa.string()),
        ("price", pa.float64()),
        ("in_stock", pa.bool_()),
        ("vector", pa.binary()),  # float32, little-endian, of the title; null: the item was removed
        ("encoder", pa.string()),  # the vector's space: Bundle.space
        ("written", pa.int64()),  # the Kafka record's timestamp, epoch ms
        ("offset", pa.int64()),  # the Kafka record's
    ]
)

#: Files smaller than SMALL bytes are merged once there are MANY files.
MANY = 64

SMALL = 16 * 1024 * 1024

#: By item id, the timestamp and the offset of its latest change.
Versions = dict[str, tuple[int, int]]


class ChangeReader:
    """Reads changes as their files appear. Each change of an item is given until it has been applied once."""

    def __init__(self, bundles: Path) -> None:
        self._bundles = bundles
        self.files_read = 0  #: files behind the table that `unread` gave last
        self._read: set[str] = set()
        self._versions: Versions = {}

    @contextmanager
    def unread(self) -> Iterator[pa.Table]:
        """Give the latest change of each item that changed, columns of SCHEMA.

        The files count as read once the block ends without an error; until then the next call gives them again.
        """
        present = {file.name for file in change_files(self._bundles)}
        tables = _tables(self._bundles, present - self._read)
        changes, versions = _latest(tables.values(), self._versions)
        self.files_read = len(tables)
        yield changes
        self._read = (self._read & present) | tables.keys()
        self._versions |= versions


def read_changes(bundles: Path) -> pa.Table:
    """Return the latest change of each item, columns of SCHEMA."""
    return _latest(_tables(bundles, (file.name for file in change_files(bundles))).values(), {})[0]


def change_files(bundles: Path) -> list[Path]:
    """List the finished files of changes."""
    folder = bundles / FOLDER
    return [file for file in folder.glob("[!._]*") if file.is_file()] if folder.is_dir() else []


def compact(bundles: Path) -> int:
    """Merge the small files into one if there are MANY, and return how many were merged.

    One process at a time does it. The new file appears before the old ones go: a reader that finds both applies no
    change twice.
    """
    folder = bundles / FOLDER
    if len(change_files(bundles)) < MANY:
        return 0
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        small = [file for file in change_files(bundles) if file.stat().st_size < SMALL]
        if len(small) < MANY:
            return 0
        merged, _ = _latest(_tables(bundles, (file.name for file in small)).values(), {})
        name = f"merged-{uuid.uuid4().hex}.parquet"
        pq.write_table(merged, folder / f".{name}")
        (folder / f".{name}").rename(folder / name)
        for file in small:
            file.unlink()
    return len(small)


def _tables(bundles: Path, names: Iterable[str]) -> dict[str, pa.Table]:
    """Read files, by name; one that has just been merged into another is left to the next call."""
    tables = {}
    for name in sorted(names):
        try:
            tables[name] = pq.read_table(bundles / FOLDER / name, schema=SCHEMA)
        except FileNotFoundError:
            continue
        except (pa.ArrowException, OSError) as error:
            log.error("%s cannot be read and is left out: %s", bundles / FOLDER / name, error)
            tables[name] = SCHEMA.empty_table()
    return tables


def _latest(tables: Iterable[pa.Table], known: Versions) -> tuple[pa.Table, Versions]:
    """Return the latest change of each item, in row order, of those newer than the known ones; and their versions."""
    table = pa.concat_tables([SCHEMA.empty_table(), *tables])
    versions = Versions()
    rows = dict[str, int]()
    columns = (table[name].to_pylist() for name in ("item_id", "written", "offset"))
    for row, (item, written, offset) in enumerate(zip(*columns, strict=True)):
        before = versions.get(item) or known.get(item)
        if before is None or (written, offset) > before:
            versions[item] = (written, offset)
            rows[item] = row
    return table.take(pa.array(sorted(rows.values()), pa.int64())), versions
