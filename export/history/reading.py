"""Reads a shop's catalog and its past events, from files or the lake, into one value."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
from udfs.events.formats import column_names
from udfs.lake.history import past_events
from udfs.privacy.filtering import without_erased
from udfs.privacy.keys_file import read_keys

ITEM_COLUMNS = ("item_id", "title", "category", "brand", "price", "in_stock")


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
) -> ShopHistory:
    """Read a catalog and past events: a file, the lake's folder, or none.

    mapping: {contract field: column}, for both files. gap_ms: time without an event that ends a session. keys_file: the
    keys of the pseudonyms that the job knows shoppers by. bundles: the folder that lists the shoppers to be erased.
    Raises ShopstreamError for what cannot be read, and for a catalog without titles.
    """
    items, untitled = read_items(catalog, mapping)
    ids = items["item_id"].to_pylist()
    batches = iter(()) if past is None else read_past(past, mapping, keys_file, bundles)
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


def read_items(catalog: Path, mapping: Mapping[str, str]) -> tuple[pa.Table, int]:
    """Return the catalog, sorted by item_id, and the number of rows without a title."""
    table, untitled = read_catalog(catalog, mapping=_mapping_of(catalog, mapping, CATALOG))
    if not len(table):
        raise ShopstreamError(f"{catalog}: no row has a title; a catalog needs items with titles")
    return table.select(ITEM_COLUMNS).sort_by("item_id"), untitled


def read_past(
    source: Path, mapping: Mapping[str, str], keys_file: Path | None, bundles: Path
) -> Iterator[pa.RecordBatch]:
    """Yield past events (schema udfs.events.files.EVENTS) under the job's pseudonyms, without those of erased shoppers.

    source: a file, or the lake's folder, which holds pseudonyms already but for events from before the first key.
    """
    keys = read_keys(keys_file) if keys_file else None
    batches = (
        past_events(source) if source.is_dir() else read_events(source, mapping=_mapping_of(source, mapping, EVENTS))
    )
    return without_erased(batches, keys, ErasureList.read(bundles))


def _mapping_of(path: Path, mapping: Mapping[str, str], schema: pa.Schema) -> dict[str, str]:
    """Return the part of --map that fits a file: one mapping serves the catalog and the sessions."""
    if not mapping:
        return {}
    for name in mapping:
        if name not in CATALOG.names + EVENTS.names:
            raise ShopstreamError(f"--map {name}=…: there is no field {name!r} in a catalog or in events")
    columns = column_names(path)
    return {name: column for name, column in mapping.items() if name in schema.names and column in columns}
