"""`shopstream backfill`: writes recorded events into the lake with the batch job, a file by way of a Parquet copy."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flink_jobs.settings.settings import Settings
from flink_jobs.sql.lake import LAKE
from flink_jobs.submit.command import check_ready, flink_run, job_arguments, run_embedded, submit_command
from flink_jobs.submit.registry import BACKFILL
from udfs.bundles.forgotten import ErasureList
from udfs.core.errors import ShopstreamError
from udfs.core.paths import flink_uri
from udfs.events.files import fitting, read_events
from udfs.events.rejected import Rejected
from udfs.lake.schema import events_schema
from udfs.privacy.filtering import without_erased


@dataclass(frozen=True)
class Recorded:
    """What the batch job reads. events: rows of the file; refused: rows that break the contract of `clickstream`."""

    uri: str
    events: int | None
    refused: int | None


@dataclass(frozen=True)
class Backfilled:
    """What a backfill did. events, refused: rows of the file, None for the lake; seconds: wall time."""

    events: int | None
    refused: int | None
    seconds: float


def backfill(
    settings: Settings,
    source: str,
    mapping: Mapping[str, str],
    preset: str,
    *,
    first: str | None,
    last: str | None,
    cluster: bool,
    options: Mapping[str, object] | None = None,
    rejected: Rejected | None = None,
) -> Backfilled:
    """Runs the batch job over `source`, a file or LAKE, to its end; raises ShopstreamError if it fails.

    options, rejected: those of read_events, for a file.
    """
    check_days(first, last)
    check_ready(BACKFILL, settings)
    if source == LAKE:
        if not (settings.lake_folder / "events").is_dir():
            raise ShopstreamError(f"there are no events in {settings.lake_folder} (setting lake.folder)")
        (settings.lake_folder / "sessions").mkdir(exist_ok=True)  # the job reads it too
    started = time.monotonic()
    lake = nullcontext(Recorded(LAKE, None, None))
    with lake if source == LAKE else recorded(settings, Path(source), mapping, preset, options, rejected) as found:
        arguments = [*job_arguments(settings), "--recorded", found.uri]
        arguments += [part for option, day in (("--from", first), ("--to", last)) if day for part in (option, day)]
        if cluster:
            submit_command(flink_run(BACKFILL, settings, ["--wait", *arguments], attached=True), settings)
        else:
            run_embedded(BACKFILL, settings, arguments)
    return Backfilled(found.events, found.refused, time.monotonic() - started)


@contextmanager
def recorded(
    settings: Settings,
    file: Path,
    mapping: Mapping[str, str],
    preset: str,
    options: Mapping[str, object] | None = None,
    rejected: Rejected | None = None,
) -> Iterator[Recorded]:
    """Copies a file's events as Parquet into a folder of home, removed at the end; ShopstreamError if none fits."""
    taken = Rejected() if rejected is None else rejected
    events = read_events(file, mapping=mapping, preset=preset, options=options, rejected=taken)
    batches = without_erased(events, settings.keys(), ErasureList.read(settings.bundle_folder))
    settings.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="backfill-", dir=settings.home) as folder:
        copied, refused = write_recorded(batches, Path(folder) / "events.parquet")
        if not copied:
            raise ShopstreamError(f"none of the {refused:,} events in {file} fits the contract of `clickstream`")
        yield Recorded(flink_uri(Path(folder)), copied, refused + taken.rejected.total())


def write_recorded(batches: Iterable[pa.RecordBatch], file: Path) -> tuple[int, int]:
    """Writes batches of udfs.events.columns.EVENTS as Parquet with the columns of the lake's events.

    Returns the number of rows written, and of rows refused.
    """
    columns = [field for field in events_schema() if field.name not in ("schema_version", "session_id")]
    copied = refused = 0
    with pq.ParquetWriter(file, pa.schema(columns)) as writer:
        for batch in batches:
            fits = fitting(batch)
            present = set(batch.schema.names)
            arrays = [
                fits[field.name] if field.name in present else pa.nulls(len(fits), field.type) for field in columns
            ]
            writer.write_table(pa.table(arrays, schema=pa.schema(columns)))
            copied += len(fits)
            refused += len(batch) - len(fits)
    return copied, refused


def check_days(first: str | None, last: str | None) -> None:
    """Raises ShopstreamError for a day that is not YYYY-MM-DD, or a first day after the last."""
    for option, day in (("--from", first), ("--to", last)):
        if day is not None:
            try:
                well_formed = str(date.fromisoformat(day)) == day
            except ValueError:
                well_formed = False
            if not well_formed:
                raise ShopstreamError(f"{option} {day!r} should be a day, as in 2026-01-31")
    if first is not None and last is not None and first > last:
        raise ShopstreamError(f"--from {first} is after --to {last}")
