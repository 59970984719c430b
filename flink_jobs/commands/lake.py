"""`shopstream lake`: lists what is in the lake, and checks whether it is sound."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from udfs.core.clock import DAY_MS
from udfs.core.errors import ShopstreamError
from udfs.lake.files import data_files
from udfs.lake.schema import CONTENT_OF, DAY, ID_OF, TABLES, TIME_OF, VERSION, VERSION_COLUMN, columns_of

Hashes = npt.NDArray[np.uint64]
#: A table, its day and the day's files.
DayFiles = tuple[str, str, list[Path]]
Track = Callable[[Sequence[DayFiles]], Iterable[DayFiles]]
#: A hidden file that has not changed for this long is no longer being written.
LEFTOVER_S = 3600
#: A day with more files than this, each smaller than this many bytes, is slow to read.
SMALL_FILES, SMALL_BYTES = 24, 1 << 20
#: Ids of a day that are compared at a time, 8 bytes each; more ids take several readings.
MOST_IDS = 1 << 24


@dataclass(frozen=True)
class Part:
    """A day of a table. Times are epoch ms; they and the versions are None without rows."""

    table: str
    day: str
    rows: int
    files: int
    bytes: int
    oldest_version: int | None
    newest_version: int | None
    first: int | None
    last: int | None


def list_parts(folder: Path, track: Track = iter) -> list[Part]:
    """Lists every day of both tables, in order; raises ShopstreamError without a lake or for an unreadable file.

    track: iterates over the days; a caller that shows progress passes its own.
    """
    return [_part(*part) for part in track(_days(_tables(folder)))]


def _part(table: str, day: str, files: Sequence[Path]) -> Part:
    source = ds.dataset([str(file) for file in files], columns_of(table), format="parquet")
    rows = 0
    versions: list[int] = []
    times: list[int] = []
    try:
        for batch in source.to_batches(columns=[VERSION_COLUMN, TIME_OF[table]]):
            rows += batch.num_rows
            for ends, column in zip((versions, times), batch.columns, strict=True):
                ends += pc.min_max(column.drop_null()).as_py().values() if column.null_count < len(column) else ()
    except (pa.ArrowException, OSError) as error:
        raise ShopstreamError(f"{table} of {day}: {error}; `shopstream lake check` finds all that is wrong") from error
    size = sum(file.stat().st_size for file in files)
    (oldest, newest), (first, last) = ((min(ends, default=None), max(ends, default=None)) for ends in (versions, times))
    return Part(table, day, rows, len(files), size, oldest, newest, first, last)


@dataclass(frozen=True)
class Findings:
    """Lines about what is wrong, and about what is not wrong but may be worth knowing."""

    wrong: list[str]
    notes: list[str]


def check_lake(folder: Path, track: Track = iter) -> Findings:
    """Reads every row and finds unreadable files, rows on the wrong day, duplicate ids, leftovers and gaps.

    Days are checked one after the other, in memory that does not grow with them. Ids are compared by a hash of 64 bits:
    among ten million, two different ids have the same hash with a chance of 3 in a million.
    track: iterates over the days; a caller that shows progress passes its own.
    """
    tables = _tables(folder)
    wrong = list(chain.from_iterable(_wrong_in(*part) for part in track(_days(tables))))
    remarks = chain.from_iterable(_notes(table, days) for table, days in tables.items())
    balance = () if wrong else _balance(tables)
    return Findings([*wrong, *_leftovers(folder)], [*remarks, *balance])


def _tables(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """Returns the files by table and day."""
    found = {table: data_files(folder, table) for table in TABLES if (folder / table).is_dir()}
    if not any(found.values()):
        raise ShopstreamError(f"there is no lake in {folder}; a job or a backfill makes it")
    return found


def _days(tables: Mapping[str, Mapping[str, list[Path]]]) -> list[DayFiles]:
    return [(table, day, files) for table, days in tables.items() for day, files in days.items()]


def _wrong_in(table: str, day: str, files: Sequence[Path]) -> Iterator[str]:
    where = f"{table} of {day}"
    first_ms = _day_ms(day)
    if first_ms is None:
        yield f"{where}: the folder's name is not {DAY.name}=YYYY-MM-DD"
        return
    miswhered = nameless = newer = 0
    whole = []
    for file in files:
        try:
            for batch in _columns(file, table):
                time_ms = pc.fill_null(batch[TIME_OF[table]], first_ms - 1).to_numpy()
                miswhered += int(np.count_nonzero((time_ms < first_ms) | (time_ms >= first_ms + DAY_MS)))
                nameless += batch[ID_OF[table]].null_count
                newer += pc.sum(pc.greater(batch[VERSION_COLUMN], VERSION)).as_py() or 0
            whole.append(file)
        except (pa.ArrowException, OSError, ValueError) as error:
            yield f"{where}: {file.name} cannot be read: {error}"
    if miswhered:
        yield f"{where}: rows with their {TIME_OF[table]} on another day or none: {miswhered:,}"
    if nameless:
        yield f"{where}: rows without {ID_OF[table]}: {nameless:,}"
    if newer:
        yield f"{where}: rows of a newer version than {VERSION}, this package's: {newer:,}"
    repeated, example = find_repeats(whole, ID_OF[table], CONTENT_OF[table])
    if repeated:
        yield f"{where}: values of {ID_OF[table]} that occur more than once: {repeated:,}, such as {example}"


def _columns(file: Path, table: str) -> Iterator[pa.RecordBatch]:
    """Yields every batch of a file, with all checksums verified; raises ValueError for a column of another type."""
    with pq.ParquetFile(file, page_checksum_verification=True) as source:
        found = source.schema_arrow
        for field in columns_of(table):
            if field.name in found.names and found.field(field.name).type != field.type:
                raise ValueError(f"column {field.name} is {found.field(field.name).type}, not {field.type}")
        if missing := {VERSION_COLUMN, TIME_OF[table], ID_OF[table]} - set(found.names):
            raise ValueError(f"there is no column {min(missing)}")
        yield from source.iter_batches()


def find_repeats(files: Sequence[Path], column: str, content: Sequence[str] = ()) -> tuple[int, str | None]:
    """Returns how many values of a column occur more than once with the same `content`, and one of them.

    content: other columns; those that a file lacks are left out.
    """
    turns = sum(pq.read_metadata(file).num_rows for file in files) // MOST_IDS + 1
    repeated = 0
    example = None
    for turn in range(turns):  # each takes the hashes with another remainder
        hashes = [hashed[hashed % turns == turn] for _, hashed in _hashes(files, column, content)]
        ordered = np.sort(np.concatenate([np.empty(0, np.uint64), *hashes]))
        twice = np.unique(ordered[1:][np.diff(ordered) == 0])
        repeated += len(twice)
        if len(twice) and example is None:
            example = next(
                ids[hashed == twice[0]][0] for ids, hashed in _hashes(files, column, content) if twice[0] in hashed
            )
    return repeated, example


def _hashes(
    files: Sequence[Path], column: str, content: Sequence[str]
) -> Iterator[tuple[npt.NDArray[np.object_], Hashes]]:
    """Yields values of a string column, str [n], and hashes of them and of the content, uint64 [n]."""
    from pandas.util import hash_array  # not at the top: importing pandas takes 0.4 s

    for file in files:
        with pq.ParquetFile(file) as source:
            known = [name for name in content if name in source.schema_arrow.names]
            for batch in source.iter_batches(columns=[column, *known]):
                rows = batch.filter(batch[column].is_valid())
                ids = rows[column].to_numpy(zero_copy_only=False)
                hashed = hash_array(ids, categorize=False)
                for name in known:
                    values = rows[name].cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False)
                    hashed = hashed * np.uint64(31) + hash_array(values, categorize=False)
                yield ids, hashed


def _day_ms(day: str) -> int | None:
    """Returns the first epoch ms of a day, None unless it is YYYY-MM-DD."""
    try:
        found = date.fromisoformat(day)
    except ValueError:
        return None
    return (found - date(1970, 1, 1)).days * DAY_MS if str(found) == day else None


def _leftovers(folder: Path) -> Iterator[str]:
    """Finds hidden files that nothing writes any more; `_SUCCESS` is a marker, not a leftover."""
    old = time.time() - LEFTOVER_S
    for table in TABLES:
        for file in sorted((folder / table).rglob("*")):
            hidden = any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
            if hidden and file.name != "_SUCCESS" and file.is_file() and file.stat().st_mtime < old:
                yield f"{file.relative_to(folder)}: left behind by a writer that did not finish"


def _balance(tables: Mapping[str, Mapping[str, Sequence[Path]]]) -> Iterator[str]:
    """Compares the number of events in both tables: equal unless a job is writing or something was lost."""
    sessions, events = ([file for files in tables.get(table, {}).values() for file in files] for table in TABLES)
    counts = (pq.read_table(file, columns=["session_events"]).column(0) for file in sessions)
    expected = sum(pc.sum(column).as_py() or 0 for column in counts)
    found = sum(pq.read_metadata(file).num_rows for file in events)
    if found != expected:
        yield f"events: {found:,} rows, but the sessions have {expected:,} events"


def _notes(table: str, days: Mapping[str, Sequence[Path]]) -> Iterator[str]:
    """Finds days without rows between the first and the last, and days in many small files."""
    known = {date.fromisoformat(day) for day, files in days.items() if files and _day_ms(day) is not None}
    every = (max(known) - min(known)).days + 1 if known else 0
    if len(known) < every:
        first = min(day + timedelta(1) for day in known if day + timedelta(1) not in known)
        yield f"{table}: days without rows: {every - len(known):,} of {every:,}, the first of them {first}"
    small = {day: sum(file.stat().st_size < SMALL_BYTES for file in files) for day, files in days.items()}
    if crowded := [day for day, count in small.items() if count > SMALL_FILES]:
        yield (
            f"{table}: days with more than {SMALL_FILES} files of less than 1 MiB: {len(crowded):,}, the first of them "
            f"{crowded[0]}; a longer lake.interval makes fewer"
        )
