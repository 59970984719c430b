"""Computes all declared features."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from udfs.catalog.attributes import Catalog
from udfs.features.registry import FEATURES, Column, Feature, Value, arrow_schema
from udfs.sessions.columns import Sessions
from udfs.sessions.frame import EventFrame

#: Events per block: more would not fit in the processor's cache, with fewer the overhead of calls dominates.
BLOCK = 131_072


def compute_columns(sessions: Sessions, catalog: Catalog | None = None) -> dict[str, Column]:
    """Return every declared feature by name, one value per session: int64, float64 or object (str) [S].

    NaN and None mean unknown; an int64 feature with unknown values is float64. Without a catalog, features that need it
    are unknown. Do not write to the columns. A session's values depend on its events alone, to the bit: not on other
    sessions, the order of events or duplicates (Sessions.canonical).
    """
    parts: dict[str, list[Column]] = {
        name: [np.empty(0, np.object_ if declared.dtype == "string" else declared.dtype)]
        for name, declared in FEATURES.items()
    }
    with np.errstate(all="ignore"):
        for block in _blocks(sessions):
            frame = EventFrame.of(block, catalog)
            computed = {name: _column(declared, frame) for name, declared in FEATURES.items()}
            for name, column in _normalised(computed).items():
                parts[name].append(column)
    return {name: _whole(*columns) for name, columns in parts.items()}


def compute_features(sessions: Sessions, catalog: Catalog | None = None) -> list[dict[str, Value]]:
    """Return the same as one dict of plain Python values per session; None means unknown."""
    columns = [_plain(FEATURES[name], column) for name, column in compute_columns(sessions, catalog).items()]
    return [dict(zip(FEATURES, row, strict=True)) for row in zip(*columns, strict=True)]


def compute_batch(sessions: Sessions, catalog: Catalog | None = None) -> pa.RecordBatch:
    """Return the same as Arrow columns of arrow_schema(), one row per session; null means unknown."""
    schema = arrow_schema()
    columns = compute_columns(sessions, catalog)
    arrays = [pa.array(columns[field.name], from_pandas=True).cast(field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _blocks(sessions: Sessions) -> Iterator[Sessions]:
    """Yield blocks of about BLOCK events, at least one session each."""
    if 0 < sessions.offsets[-1] <= BLOCK:
        yield sessions
        return
    cuts = np.searchsorted(sessions.offsets, np.arange(0, sessions.offsets[-1], BLOCK))
    for first, last in pairwise(np.unique([*cuts, len(sessions)]).tolist()):
        yield sessions.slice(first, last)


def _column(declared: Feature, frame: EventFrame) -> Column:
    column = declared.compute(frame)
    if column.shape != (len(frame),):
        raise ValueError(f"feature {declared.name!r} returns shape {column.shape} for {len(frame)} sessions")
    return column


def _normalised(columns: dict[str, Column]) -> dict[str, Column]:
    """Normalise non-finite values to NaN and -0.0 to 0.0, in one pass because call overhead dominates."""
    floats = [name for name, column in columns.items() if column.dtype.kind == "f"]
    values = np.array([columns[name] for name in floats], dtype=np.float64)
    values += 0.0
    values[~np.isfinite(values)] = np.nan
    return columns | dict(zip(floats, values, strict=True))


def _whole(kind: Column, *parts: Column) -> Column:
    """Concatenate parts of a column. kind: an empty column of the declared type, which integers are cast to."""
    return parts[0] if len(parts) == 1 and parts[0].dtype == kind.dtype else np.concatenate((kind, *parts))


def _plain(declared: Feature, column: Column) -> list[Value]:
    values: list[Any] = column.tolist()
    if column.dtype.kind != "f":
        return values
    if declared.dtype == "int64":
        return [None if math.isnan(value) else int(value) for value in values]
    return [None if math.isnan(value) else value for value in values]
