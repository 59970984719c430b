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

#: Events computed at once: more would leave the processor's cache, fewer would spend the time on calls.
BLOCK = 131_072


def compute_columns(sessions: Sessions, catalogue: Catalog | None = None) -> dict[str, Column]:
    """Every declared feature by name, a column of one value a session each: int64, float64 or object (str) [S].

    NaN and None mean unknown; an int64 feature with unknown values is float64. Without a catalogue, what needs it is
    unknown. The columns are not to be written to. A session's values depend on its events alone, to the bit: on no
    other session, on no order of the events and on no repeat of them (Sessions.canonical).
    """
    parts: dict[str, list[Column]] = {
        name: [np.empty(0, np.object_ if declared.dtype == "string" else declared.dtype)]
        for name, declared in FEATURES.items()
    }
    with np.errstate(all="ignore"):
        for block in _blocks(sessions):
            events = EventFrame.of(block, catalogue)
            computed = {name: _column(declared, events) for name, declared in FEATURES.items()}
            for name, column in _one_nan(computed).items():
                parts[name].append(column)
    return {name: _whole(*columns) for name, columns in parts.items()}


def compute_features(sessions: Sessions, catalogue: Catalog | None = None) -> list[dict[str, Value]]:
    """The same as a dict of plain Python values a session; unknown ones are None."""
    columns = [_plain(FEATURES[name], column) for name, column in compute_columns(sessions, catalogue).items()]
    return [dict(zip(FEATURES, row, strict=True)) for row in zip(*columns, strict=True)]


def compute_batch(sessions: Sessions, catalogue: Catalog | None = None) -> pa.RecordBatch:
    """The same as Arrow columns of arrow_schema(), a row a session; unknown values are null."""
    schema = arrow_schema()
    columns = compute_columns(sessions, catalogue)
    arrays = [pa.array(columns[field.name], from_pandas=True).cast(field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _blocks(sessions: Sessions) -> Iterator[Sessions]:
    """Sessions of about BLOCK events at a time, one at least."""
    if 0 < sessions.offsets[-1] <= BLOCK:
        yield sessions
        return
    cuts = np.searchsorted(sessions.offsets, np.arange(0, sessions.offsets[-1], BLOCK))
    for first, last in pairwise(np.unique([*cuts, len(sessions)]).tolist()):
        yield sessions.part(first, last)


def _column(declared: Feature, events: EventFrame) -> Column:
    column = declared.compute(events)
    if column.shape != (len(events),):
        raise ValueError(f"feature {declared.name!r} gives an array of shape {column.shape} for {len(events)} sessions")
    return column


def _one_nan(columns: dict[str, Column]) -> dict[str, Column]:
    """The same with one NaN for what is not finite, and one zero. All at once, as most of the time goes into calls."""
    floats = [name for name, column in columns.items() if column.dtype.kind == "f"]
    values = np.array([columns[name] for name in floats], dtype=np.float64)
    values += 0.0
    values[~np.isfinite(values)] = np.nan
    return columns | dict(zip(floats, values, strict=True))


def _whole(kind: Column, *parts: Column) -> Column:
    """Parts of a column as one; kind: an empty column of the declared type, which whole numbers take on."""
    return parts[0] if len(parts) == 1 and parts[0].dtype == kind.dtype else np.concatenate((kind, *parts))


def _plain(declared: Feature, column: Column) -> list[Value]:
    values: list[Any] = column.tolist()
    if column.dtype.kind != "f":
        return values
    if declared.dtype == "int64":
        return [None if math.isnan(value) else int(value) for value in values]
    return [None if math.isnan(value) else value for value in values]
