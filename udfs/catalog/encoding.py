"""Encodes catalog records: items with the vectors of their titles, the rows of udfs.bundles.changes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from udfs.bundles.bundle import Bundle
from udfs.bundles.changes import SCHEMA, compact
from udfs.bundles.watcher import BundleStatus, BundleWatcher
from udfs.catalog.parsing import parse_item
from udfs.encoder.cache import CachedEncoder
from udfs.encoder.encoder import EncoderStats, open_encoder
from udfs.encoder.options import EncoderOptions
from udfs.events.envelopes import Envelope
from udfs.events.registry import Registry, RegistryOptions

#: Columns of a record that was read: both errors are null for a readable one, all else is null for an unreadable one.
ITEM_SCHEMA = pa.schema(
    [
        ("error", pa.string()),
        ("error_class", pa.string()),
        *(SCHEMA.field(name) for name in SCHEMA.names if name not in ("written", "offset")),
    ]
)

_FIELDS = ("title", "category", "brand", "price", "in_stock")

#: Seconds between two checks for many small files of changes.
COMPACT_S = 30.0


@dataclass(frozen=True)
class CatalogOptions:
    """All that the encoding function needs; plain data, so that it travels to the workers."""

    bundles: Path
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    envelope: Envelope = "none"  #: around each item
    columns: Mapping[str, str] = field(default_factory=dict)  #: names in records by field, where they differ
    registry: RegistryOptions | None = None  #: has the schemas of Avro


class _EncoderModel:
    """A bundle's encoder, and the vectors that the bundle already has."""

    def __init__(self, bundle: Bundle, options: EncoderOptions) -> None:
        self.space = bundle.space
        self.encoder = CachedEncoder(open_encoder(bundle, options), options.cache)
        self._items, self._vectors = bundle.items(), bundle.item_vectors()

    def apply_changes(self, changes: pa.Table) -> None:
        """Do nothing: the changes were made here."""

    def vectors(self, ids: Sequence[str], titles: Sequence[str]) -> list[bytes]:
        """Return each title's vector as float32, little-endian; an item whose title is unchanged keeps the bundle's."""
        rows = [self._items.row_of.get(item, -1) for item in ids]
        kept = [row >= 0 and self._items.titles[row] == title for row, title in zip(rows, titles, strict=True)]
        encoded = iter(self.encoder.encode([title for title, same in zip(titles, kept, strict=True) if not same]))
        return [
            np.asarray(self._vectors[row] if same else next(encoded), "<f4").tobytes()
            for row, same in zip(rows, kept, strict=True)
        ]


class ItemEncoder:
    """Reads catalog records and encodes their titles, with the encoder of the bundle that CURRENT names."""

    def __init__(self, options: CatalogOptions) -> None:
        self._bundles, self._options = options.bundles, options
        self._registry = Registry(options.registry) if options.registry else None
        self._model = BundleWatcher(
            options.bundles, lambda bundle: _EncoderModel(bundle, options.encoder), changes=False
        )
        self._next_compaction = 0.0

    @property
    def encoder_stats(self) -> EncoderStats:
        """The counters of the current bundle's encoder."""
        return self._model.used.encoder.stats

    @property
    def bundle_status(self) -> BundleStatus:
        """The bundle in use."""
        return self._model.status

    def read(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> pa.RecordBatch:
        """Return columns of ITEM_SCHEMA, one row per record of `catalog`."""
        if time.monotonic() >= self._next_compaction:
            self._next_compaction = time.monotonic() + COMPACT_S
            compact(self._bundles)
        model, options = self._model.latest(), self._options
        rows: list[dict[str, object]] = []
        for key, value in zip(keys, values, strict=True):
            try:
                item_id, item = parse_item(key, value, options.envelope, options.columns, self._registry)
            except (ValueError, RecursionError, msgspec.MsgspecError) as error:
                rows.append({"error": str(error), "error_class": type(error).__qualname__})
                continue
            row: dict[str, object] = {"item_id": item_id, "encoder": model.space}
            rows.append(row if item is None else row | {name: getattr(item, name) for name in _FIELDS})
        titled = [row for row in rows if "title" in row]
        vectors = model.vectors([str(row["item_id"]) for row in titled], [str(row["title"]) for row in titled])
        for row, vector in zip(titled, vectors, strict=True):
            row["vector"] = vector
        return pa.RecordBatch.from_pylist(rows, ITEM_SCHEMA)
