"""The catalogue and past events, read from files or the lake."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from export.bundle.options import ExportOptions
from export.history.co_visits import Visits, count_visits
from export.history.interactions import Interactions, interactions
from udfs.datasets import CATALOG, EVENTS, column_names, read_catalog, read_events
from udfs.errors import ShopstreamError
from udfs.forgotten import Forgotten, usable
from udfs.lake import past_events
from udfs.privacy import read_keys


def _items(options: ExportOptions) -> tuple[pa.Table, int]:
    """The catalogue sorted by item_id, and how many rows had no title."""
    table, dropped = read_catalog(options.catalog, mapping=_mapping(options, options.catalog, CATALOG))
    if not len(table):
        raise ShopstreamError(f"{options.catalog}: no row has a title; a catalogue needs items with titles")
    return table.select(["item_id", "title", "category", "brand", "price", "in_stock"]).sort_by("item_id"), dropped


def _visits(options: ExportOptions, items: pa.Table) -> Visits:
    batches: Iterator[pa.RecordBatch] = iter(())
    if options.sessions is not None:
        batches = _events(options, options.sessions)
    return count_visits(batches, items["item_id"].combine_chunks(), round(options.session_gap_minutes * 60_000))


def _interactions(options: ExportOptions, items: pa.Table) -> Interactions:
    if options.sessions is None:
        raise ShopstreamError("a ranker learns from past sessions: name a file or the lake with --sessions")
    batches = _events(options, options.sessions)
    ids, gap_ms = items["item_id"].to_pylist(), round(options.session_gap_minutes * 60_000)
    return interactions(batches, gap_ms, ids).of_items(len(ids))


def _events(options: ExportOptions, source: Path) -> Iterator[pa.RecordBatch]:
    """Past events, by the names that shoppers have in the job, of those who are not to be forgotten.

    source: a file, or the lake's folder, whose shoppers have these names already but for those from before the keys.
    """
    keys = read_keys(options.keys_file) if options.keys_file else None
    events = past_events(source) if source.is_dir() else read_events(source, mapping=_mapping(options, source, EVENTS))
    return usable(events, keys, Forgotten.read(options.out))


def _mapping(options: ExportOptions, path: Path, schema: pa.Schema) -> dict[str, str]:
    """The part of --map that fits a file: one mapping serves the catalogue and the sessions."""
    if not options.mapping:
        return {}
    for name in options.mapping:
        if name not in CATALOG.names + EVENTS.names:
            raise ShopstreamError(f"--map {name}=…: there is no field {name!r} in a catalogue or in events")
    columns = column_names(path)
    return {name: column for name, column in options.mapping.items() if name in schema.names and column in columns}
