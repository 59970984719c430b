"""Catalogue records in, items with the vectors of their titles out: the rows of the segments beside the bundles."""

import time
from collections.abc import Sequence
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
from udfs.encoder.encoder import Encoder, Stats
from udfs.encoder.options import EncoderOptions

#: Columns of a read record: of a readable one both errors are null, of an unreadable one all else.
ITEM_SCHEMA = pa.schema(
    [
        ("error", pa.string()),
        ("error_class", pa.string()),
        *(SCHEMA.field(name) for name in SCHEMA.names if name not in ("written", "offset")),
    ]
)

_FIELDS = ("title", "category", "brand", "price", "in_stock")

#: Seconds between two looks at whether there are many small segments.
COMPACT_S = 30.0


@dataclass(frozen=True)
class CatalogOptions:
    """All that the encoding function needs; plain data, so that it travels to the workers."""

    bundles: Path
    encoder: EncoderOptions = field(default_factory=EncoderOptions)


class _EncoderModel:
    """A bundle's encoder, and the vectors that the bundle has already."""

    def __init__(self, bundle: Bundle, options: EncoderOptions) -> None:
        self.space = bundle.space
        self.encoder = CachedEncoder(Encoder(bundle, options), options.cache)
        self._items, self._vectors = bundle.items(), bundle.item_vectors()

    def take_up(self, changes: pa.Table) -> None:
        """Not asked for: what is in the segments was made here."""

    def vectors(self, ids: Sequence[str], titles: Sequence[str]) -> list[bytes]:
        """float32 of each title, little-endian; an item with the title that it has in the bundle keeps its vector."""
        rows = [self._items.row_of.get(item, -1) for item in ids]
        kept = [row >= 0 and self._items.titles[row] == title for row, title in zip(rows, titles, strict=True)]
        encoded = iter(self.encoder.encode([title for title, same in zip(titles, kept, strict=True) if not same]))
        return [
            np.asarray(self._vectors[row] if same else next(encoded), "<f4").tobytes()
            for row, same in zip(rows, kept, strict=True)
        ]


class ItemEncoder:
    """Reads catalogue records and encodes their titles, with the encoder of the bundle that CURRENT names."""

    def __init__(self, options: CatalogOptions) -> None:
        self._bundles = options.bundles
        self._known = BundleWatcher(
            options.bundles, lambda bundle: _EncoderModel(bundle, options.encoder), changes=False
        )
        self._next_look = 0.0

    @property
    def encoder_stats(self) -> Stats:
        """What the encoder of the bundle in use did."""
        return self._known.used.encoder.stats

    @property
    def followed(self) -> BundleStatus:
        """Which bundle is in use, and what was taken up beside it."""
        return self._known.followed

    def read(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> pa.RecordBatch:
        """Columns of ITEM_SCHEMA, a row a record of `catalog`."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + COMPACT_S
            compact(self._bundles)
        known = self._known.latest()
        rows: list[dict[str, object]] = []
        for key, value in zip(keys, values, strict=True):
            try:
                item_id, item = parse_item(key, value)
            except (ValueError, RecursionError, msgspec.MsgspecError) as error:
                rows.append({"error": str(error), "error_class": type(error).__qualname__})
                continue
            row: dict[str, object] = {"item_id": item_id, "encoder": known.space}
            rows.append(row if item is None else row | {name: getattr(item, name) for name in _FIELDS})
        there = [row for row in rows if "title" in row]
        vectors = known.vectors([str(row["item_id"]) for row in there], [str(row["title"]) for row in there])
        for row, vector in zip(there, vectors, strict=True):
            row["vector"] = vector
        return pa.RecordBatch.from_pylist(rows, ITEM_SCHEMA)
