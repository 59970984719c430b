"""Turns closed sessions into their records, and into rows of the lake for them and their events."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from udfs.bundles.bundle import Bundle
from udfs.bundles.watcher import BundleStatus, BundleWatcher
from udfs.catalog.items import LiveItems
from udfs.contracts.clickstream import EVENT_TYPES
from udfs.contracts.rankings import session_id
from udfs.contracts.sessions import SessionFeatures
from udfs.core.arrays import Texts
from udfs.encoder.encoder import open_encoder
from udfs.encoder.options import EncoderOptions
from udfs.events.columns import EVENT_COLUMNS, PACKED
from udfs.features.compute import compute_batch
from udfs.features.registry import load_modules
from udfs.lake.schema import VERSION, VERSION_COLUMN, events_schema, sessions_schema
from udfs.sessions.cleaning import BOUNDS, clean, unknown_items
from udfs.sessions.columns import Sessions

#: Columns that the function on closed sessions takes, in order, and their SQL types. A session's events come as one
#: array per field, named like the field.
CLOSING_COLUMNS = {
    "user_id": "STRING",
    "session_start": "BIGINT",
    "session_end": "BIGINT",
    "session_events": "BIGINT",
} | {name: f"ARRAY<{EVENT_COLUMNS[name]}>" for name in PACKED}

#: What cleaning counts, by rule.
RULES = (*BOUNDS, "repeats", "unknown_items", "bots")

#: Columns of the lake's events that are constant within a session.
_NOT_ARRAYS = (VERSION_COLUMN, "session_id")


@dataclass(frozen=True)
class ClosingOptions:
    """Options of the function on closed sessions: plain data that is pickled to the workers."""

    bundles: Path
    max_events: int  #: features use at most this many of a session's last events
    feature_modules: tuple[str, ...] = ()  #: modules with features of the user's own
    encoder: EncoderOptions = field(default_factory=EncoderOptions)  #: for items changed by another encoder


def closed_schema() -> pa.Schema:
    """Return the columns of closed sessions.

    record: the JSON of a SessionFeatures. sessions__…: a row of the lake's sessions. events__…: lists, the cleaned
    events' columns in the lake.
    """
    sessions = [pa.field(f"sessions__{field.name}", field.type) for field in sessions_schema()]
    events = [
        pa.field(f"events__{field.name}", pa.list_(field.type))
        for field in events_schema()
        if field.name not in _NOT_ARRAYS
    ]
    return pa.schema([("record", pa.string()), *sessions, *events])


class _CatalogModel:
    """A bundle's items in memory."""

    def __init__(self, bundle: Bundle, options: EncoderOptions) -> None:
        self.id, self.items = bundle.id, LiveItems(bundle, indexed=False)
        self._bundle, self._options = bundle, options

    def apply_changes(self, changes: pa.Table) -> None:
        """Use items as changed."""
        self.items.apply(changes, lambda titles: open_encoder(self._bundle, self._options).encode(titles))


class SessionFinalizer:
    """Computes features and rows of closed sessions, with the catalog of the current bundle as it changes."""

    def __init__(self, options: ClosingOptions) -> None:
        self._options = options
        load_modules(options.feature_modules)
        self._known = BundleWatcher(options.bundles, lambda bundle: _CatalogModel(bundle, options.encoder))

    @property
    def bundle_status(self) -> BundleStatus:
        """The bundle in use, and what was applied to it."""
        return self._known.status

    def close(self, user_id: Sequence[str], sessions: Sessions) -> tuple[pa.RecordBatch, dict[str, int]]:
        """Return closed_schema(), one row per session, and the total count of each of RULES.

        user_id: [S]. sessions: S sessions with all their events, in any order.
        """
        known = self._known.latest()
        catalog = known.items.catalog
        whole, found = clean(sessions)
        unknown = unknown_items(whole, catalog)
        features = compute_batch(whole.tail(self._options.max_events), catalog)
        start = whole.event_time[whole.offsets[:-1]]
        end = whole.event_time[whole.offsets[1:] - 1]
        session_ids = list(map(session_id, user_id, start.tolist()))
        encode = msgspec.json.Encoder().encode
        rows = zip(session_ids, user_id, start.tolist(), end.tolist(), features.to_pylist(), strict=True)
        session_row = {
            "schema_version": np.full(len(whole), VERSION, np.int32),
            "session_id": session_ids,
            "user_id": user_id,
            "session_start": start,
            "session_end": end,
            "session_events": whole.count,
            "repeats": found.duplicates,
            "repaired": found.repaired,
            "unknown_items": unknown,
            "bot": found.bot,
            "model": [known.id] * len(whole),
        }
        columns = {
            "record": [encode(SessionFeatures(*row)).decode() for row in rows],
            **{f"sessions__{name}": column for name, column in session_row.items()},
            **{f"sessions__{name}": features[name] for name in features.schema.names},
            **{f"events__{name}": _lists(whole, column) for name, column in _event_columns(user_id, whole).items()},
        }
        schema = closed_schema()
        arrays = [_array(columns[field.name], field.type) for field in schema]
        counts = {name: int(repairs.sum()) for name, repairs in found.repairs.items()}
        counts |= {
            "repeats": int(found.duplicates.sum()),
            "unknown_items": int(unknown.sum()),
            "bots": int(found.bot.sum()),
        }
        return pa.RecordBatch.from_arrays(arrays, schema=schema), counts


def close_columns(closer: SessionFinalizer, columns: Sequence[Any]) -> tuple[pa.RecordBatch, dict[str, int]]:
    """Call SessionFinalizer.close with columns in the order of CLOSING_COLUMNS, as the job hands them over."""
    user_id, start, end, count, *arrays = columns
    events = dict(zip(PACKED, arrays, strict=True))
    return closer.close(user_id, Sessions.from_arrays(start, end, count, **events))


def _event_columns(user_id: Sequence[str], sessions: Sessions) -> dict[str, Any]:
    """Return the columns of the lake's events, [E] each."""
    return {
        "event_type": np.array(EVENT_TYPES, dtype=object)[sessions.type_code],
        "user_id": np.asarray(user_id, dtype=object)[sessions.session_of],
        **{name: column for name, column in sessions.columns.items() if name != "type_code"},
    }


def _lists(sessions: Sessions, column: "Texts | pa.Array") -> pa.ListArray:
    return pa.ListArray.from_arrays(sessions.offsets.astype(np.int32), pa.array(column, from_pandas=True))


def _array(column: Any, kind: pa.DataType) -> pa.Array:
    return (column if isinstance(column, pa.Array) else pa.array(column, from_pandas=True)).cast(kind)
