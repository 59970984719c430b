"""Reads a shop's catalog and its past events, from files or the lake, into one value."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from export.history.interactions import COLUMNS, Interactions, cut_sessions, interactions_of
from udfs.bundles.forgotten import ErasureList
from udfs.catalog.files import CATALOG, read_catalog
from udfs.core.errors import ShopstreamError
from udfs.events.columns import EVENTS
from udfs.events.files import read_events
from udfs.events.formats import open_source
from udfs.events.mapping import CONSTANT, root_of
from udfs.events.options import BY_CONTENT
from udfs.events.presets import has_form
from udfs.events.rejected import Rejected
from udfs.lake.history import past_events
from udfs.privacy.filtering import without_erased
from udfs.privacy.keys_file import read_keys

ITEM_COLUMNS = ("item_id", "title", "category", "brand", "price", "in_stock")


@dataclass(frozen=True)
class Reading:
    """How files are read: the preset and options of read_events, and what takes the rows that cannot be read."""

    preset: str = "auto"
    options: Mapping[str, object] = field(default_factory=dict)
    items: Rejected = field(default_factory=Rejected)
    sessions: Rejected = field(default_factory=Rejected)


@dataclass(frozen=True)
class ShopHistory:
    """A shop's catalog and its past sessions, read once."""

    items: pa.Table  #: ITEM_COLUMNS, one row per item, sorted by item_id
    untitled: int  #: rows of the catalog that were left out, as they have no title
    interactions: Interactions  #: with these items, numbered by row
    sessions: int  #: past sessions with any event but impressions
    queries: list[str]  #: the distinct queries, sorted

    @property
    def titles(self) -> list[str]:
        """Titles, in row order."""
        return self.items["title"].to_pylist()  # type: ignore[no-any-return]


def read_history(
    catalog: Path,
    past: Path | None,
    *,
    mapping: Mapping[str, str],
    gap_ms: int,
    keys_file: Path | None = None,
    bundles: Path,
    reading: Reading | None = None,
) -> ShopHistory:
    """Read a catalog and past events: a file, the lake's folder, or none.

    mapping: {contract field: column}, for both files. gap_ms: time without an event that ends a session. keys_file: the
    keys of the pseudonyms that the job knows shoppers by. bundles: the folder that lists the shoppers to be erased.
    reading: how else files are read. Raises ShopstreamError for what cannot be read, and for a catalog without titles.
    """
    reading = reading or Reading()
    items, untitled = read_items(catalog, mapping, reading)
    ids = items["item_id"].to_pylist()
    batches = iter(()) if past is None else read_past(past, mapping, keys_file, bundles, reading)
    schema = pa.schema([EVENTS.field(name) for name in (*COLUMNS, "query")])
    events = pa.Table.from_batches([batch.select(schema.names) for batch in batches], schema)
    session = cut_sessions(events, gap_ms)
    shown = pc.equal(events["event_type"], "impression").to_numpy()
    return ShopHistory(
        items=items,
        untitled=untitled,
        interactions=interactions_of(events, session, ids).of_items(len(ids)),
        sessions=len(np.unique(session[(session >= 0) & ~shown])),
        queries=sorted(pc.unique(events["query"].drop_null()).to_pylist()),
    )


def read_items(catalog: Path, mapping: Mapping[str, str], reading: Reading) -> tuple[pa.Table, int]:
    """Return the catalog, sorted by item_id, and the number of rows without a title."""
    table, untitled = read_catalog(
        catalog,
        mapping=_mapping_of(catalog, mapping, CATALOG, reading),
        preset=_preset_of(catalog, reading, items=True),
        options=reading.options,
        rejected=reading.items,
    )
    if not len(table):
        raise ShopstreamError(f"{catalog}: no row has a title; a catalog needs items with titles")
    return table.select(ITEM_COLUMNS).sort_by("item_id"), untitled


def read_past(
    source: Path, mapping: Mapping[str, str], keys_file: Path | None, bundles: Path, reading: Reading | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield past events (schema udfs.events.files.EVENTS) under the job's pseudonyms, without those of erased shoppers.

    source: a file, a folder of part files, or the lake's folder, which holds pseudonyms already but for events from
    before the first key.
    """
    reading = reading or Reading()
    keys = read_keys(keys_file) if keys_file else None
    is_lake = source.is_dir() and any((source / table).is_dir() for table in ("events", "sessions"))
    batches = past_events(source) if is_lake else _events_of(source, mapping, reading)
    return without_erased(batches, keys, ErasureList.read(bundles))


def _events_of(source: Path, mapping: Mapping[str, str], reading: Reading) -> Iterator[pa.RecordBatch]:
    return read_events(
        source,
        mapping=_mapping_of(source, mapping, EVENTS, reading),
        preset=_preset_of(source, reading, items=False),
        options=reading.options,
        rejected=reading.sessions,
    )


def _preset_of(path: Path, reading: Reading, *, items: bool) -> str:
    """Return the preset for one of the two files: one that is named may be of the other alone."""
    if reading.preset in ("auto", "events"):
        return reading.preset
    source = open_source(path, BY_CONTENT.updated(reading.options))
    return reading.preset if has_form(reading.preset, source.names, source.first_line, items=items) else "auto"


def _mapping_of(path: Path, mapping: Mapping[str, str], schema: pa.Schema, reading: Reading) -> dict[str, str]:
    """Return the part of --map that fits a file: one mapping serves the catalog and the sessions."""
    if not mapping:
        return {}
    for name in (given.partition(":")[0] for given in mapping):
        if name not in CATALOG.names + EVENTS.names:
            raise ShopstreamError(f"--map {name}=…: there is no field {name!r} in a catalog or in events")
    columns = open_source(path, BY_CONTENT.updated(reading.options)).names
    return {
        name: column
        for name, column in mapping.items()
        if name.partition(":")[0] in schema.names
        and (":" in name or column.startswith(CONSTANT) or root_of(column, columns) in columns)
    }
