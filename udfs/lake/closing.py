"""Closed sessions: from all events of a session to its record, its row in the lake and the rows of its events."""

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
from udfs.contracts.sessions import SessionFeatures
from udfs.core.arrays import Texts
from udfs.encoder.encoder import open_encoder
from udfs.encoder.options import EncoderOptions
from udfs.features.compute import compute_batch
from udfs.features.registry import load_modules
from udfs.lake.schema import VERSION, VERSION_COLUMN, events_schema, sessions_schema
from udfs.sessions.cleaning import BOUNDS, clean, unknown_items
from udfs.sessions.columns import Sessions

#: What the function on closed sessions takes, in order, and the SQL types; arrays are all of a session's events.
CLOSING_COLUMNS: dict[str, str] = {
    "user_id": "STRING",
    "session_start": "BIGINT",
    "session_end": "BIGINT",
    "session_events": "BIGINT",
    "event_times": "ARRAY<BIGINT>",
    "event_types": "ARRAY<STRING>",
    "item_ids": "ARRAY<STRING>",
    "queries": "ARRAY<STRING>",
    "prices": "ARRAY<DOUBLE>",
    "quantities": "ARRAY<BIGINT>",
    "ratings": "ARRAY<DOUBLE>",
    "dwell_times": "ARRAY<BIGINT>",
    "event_ids": "ARRAY<STRING>",
    "devices": "ARRAY<STRING>",
    "timezones": "ARRAY<STRING>",
    "returnings": "ARRAY<STRING>",
    "locales": "ARRAY<STRING>",
}

#: What cleaning counts: a rule each.
RULES = (*BOUNDS, "repeats", "unknown_items", "bots")

#: Columns of the lake's events that are constant or said of the session.
_NOT_ARRAYS = (VERSION_COLUMN, "session_id")


@dataclass(frozen=True)
class ClosingOptions:
    """All that the function on closed sessions needs; plain data, so that it travels to the workers."""

    bundles: Path
    max_events: int  #: features are computed on the last so many events by event_time, then event_id
    feature_modules: tuple[str, ...] = ()  #: modules with features of the user's own
    encoder: EncoderOptions = field(default_factory=EncoderOptions)  #: for changed items with a vector of another one


def closed_schema() -> pa.Schema:
    """Columns of closed sessions: `record`, the JSON of a SessionFeatures; `sessions__…`, a row of the lake's sessions;
    `events__…`, lists of the cleaned events' columns in the lake.
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
    """Features and rows of closed sessions, with the catalogue of the bundle that CURRENT names, as it changes."""

    def __init__(self, options: ClosingOptions) -> None:
        self._options = options
        load_modules(options.feature_modules)
        self._known = BundleWatcher(options.bundles, lambda bundle: _CatalogModel(bundle, options.encoder))

    @property
    def bundle_status(self) -> BundleStatus:
        """The bundle in use, and what was applied to it."""
        return self._known.status

    def close(self, user_id: Sequence[str], sessions: Sessions) -> tuple[pa.RecordBatch, dict[str, int]]:
        """Columns of closed_schema(), a row a session, and what each of RULES found in them all.

        user_id [S]; sessions: S of them with all their events, in any order.
        """
        known = self._known.latest()
        catalogue = known.items.catalog
        whole, found = clean(sessions)
        unknown = unknown_items(whole, catalogue)
        features = compute_batch(whole.last(self._options.max_events), catalogue)
        start, end = whole.event_time[whole.offsets[:-1]], whole.event_time[whole.offsets[1:] - 1]
        session_id = [f"{user}/{began}" for user, began in zip(user_id, start.tolist(), strict=True)]
        encode = msgspec.json.Encoder().encode
        rows = zip(session_id, user_id, start.tolist(), end.tolist(), features.to_pylist(), strict=True)
        told = {
            "schema_version": np.full(len(whole), VERSION, np.int32),
            "session_id": session_id,
            "user_id": user_id,
            "session_start": start,
            "session_end": end,
            "session_events": whole.count,
            "repeats": found.repeats,
            "repaired": found.repaired,
            "unknown_items": unknown,
            "bot": found.bot,
            "model": [known.id] * len(whole),
        }
        columns = {
            "record": [encode(SessionFeatures(*row)).decode() for row in rows],
            **{f"sessions__{name}": column for name, column in told.items()},
            **{f"sessions__{name}": features[name] for name in features.schema.names},
            **{f"events__{name}": _lists(whole, column) for name, column in _event_columns(user_id, whole).items()},
        }
        schema = closed_schema()
        arrays = [_array(columns[field.name], field.type) for field in schema]
        counts = {name: int(repairs.sum()) for name, repairs in found.repairs.items()}
        counts |= {
            "repeats": int(found.repeats.sum()),
            "unknown_items": int(unknown.sum()),
            "bots": int(found.bot.sum()),
        }
        return pa.RecordBatch.from_arrays(arrays, schema=schema), counts


def close_columns(closer: SessionFinalizer, columns: Sequence[Any]) -> tuple[pa.RecordBatch, dict[str, int]]:
    """SessionFinalizer.close for columns in the order of CLOSING_COLUMNS, as the job hands them over."""
    user_id, *rest = columns
    return closer.close(user_id, Sessions.from_arrays(*rest))


def _event_columns(user_id: Sequence[str], sessions: Sessions) -> dict[str, Any]:
    """The columns of the lake's events, [E] each."""
    names = [field.name for field in events_schema() if field.name not in (*_NOT_ARRAYS, "event_type", "user_id")]
    return {
        "event_type": np.array(EVENT_TYPES, dtype=object)[sessions.type_code],
        "user_id": np.asarray(user_id, dtype=object)[sessions.session_of],
        **{name: getattr(sessions, name) for name in names},
    }


def _lists(sessions: Sessions, column: "Texts | pa.Array") -> pa.ListArray:
    return pa.ListArray.from_arrays(sessions.offsets.astype(np.int32), pa.array(column, from_pandas=True))


def _array(column: Any, kind: pa.DataType) -> pa.Array:
    return (column if isinstance(column, pa.Array) else pa.array(column, from_pandas=True)).cast(kind)
