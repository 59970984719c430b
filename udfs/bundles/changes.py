"""Catalogue changes between bundles: Parquet files in a folder beside the bundles, a row a change.

    <bundles>/segments/   written by the catalogue job, read by whatever follows CURRENT

A file whose name begins with `.` or `_` is not there yet. Of an item's changes the one with the latest Kafka timestamp
holds, of equal ones the one with the highest offset; so a file may be read again, and several may become one.
"""

import fcntl
import logging
import uuid
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
        ("encoder", pa.string()),  # whose vector it is: udfs.bundle.Bundle.space
        ("written", pa.int64()),  # the Kafka record's timestamp, epoch ms
        ("offset", pa.int64()),  # the Kafka record's
    ]
)

#: Files of less than SMALL bytes become one when there are MANY of them.
MANY = 64

SMALL = 16 * 1024 * 1024


class Segments:
    """Reads the changes beside the bundles of a folder as they come, each change of an item once at most."""

    def __init__(self, bundles: Path) -> None:
        self._folder = bundles / FOLDER
        self.files_read = 0  #: by the last call of `new`
        self._read: set[str] = set()
        self._versions: dict[str, tuple[int, int]] = {}

    def new(self) -> pa.Table:
        """Changes since the last call, columns of SCHEMA: the latest of each item."""
        present = {file.name for file in files(self._folder)}
        tables = [self._table(name) for name in sorted(present - self._read)]
        self.files_read = len(tables)
        self._read &= present
        table = pa.concat_tables([SCHEMA.empty_table(), *tables])
        latest: dict[str, int] = {}
        columns = (table[name].to_pylist() for name in ("item_id", "written", "offset"))
        for row, (item, *version) in enumerate(zip(*columns, strict=True)):
            if item not in self._versions or tuple(version) > self._versions[item]:
                self._versions[item] = (version[0], version[1])
                latest[item] = row
        return table.take(pa.array(sorted(latest.values()), pa.int64()))

    def _table(self, name: str) -> pa.Table:
        try:
            table = pq.read_table(self._folder / name, schema=SCHEMA)
        except FileNotFoundError:  # it has become part of another one, which the next call finds
            return SCHEMA.empty_table()
        except (pa.ArrowException, OSError) as error:
            log.error("%s cannot be read and is left out: %s", self._folder / name, error)
            table = SCHEMA.empty_table()
        self._read.add(name)
        return table


def files(folder: Path) -> list[Path]:
    """The segments that are there."""
    return [file for file in folder.glob("[!._]*") if file.is_file()] if folder.is_dir() else []


def compact(bundles: Path) -> int:
    """Make one file of the small ones, if there are MANY; how many there were. One process at a time does it.

    The new file is there before the old ones go: a reader that finds both takes nothing twice.
    """
    folder = bundles / FOLDER
    if len(files(folder)) < MANY:
        return 0
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        small = [file for file in files(folder) if file.stat().st_size < SMALL]
        if len(small) < MANY:
            return 0
        reader = Segments(bundles)
        reader._read = {file.name for file in files(folder)} - {file.name for file in small}
        merged, name = reader.new(), f"merged-{uuid.uuid4().hex}.parquet"
        pq.write_table(merged, folder / f".{name}")
        (folder / f".{name}").rename(folder / name)
        for file in small:
            file.unlink()
    return len(small)
