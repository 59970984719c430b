"""Declares session features."""

import functools
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy.typing as npt
import pyarrow as pa

from udfs.core.errors import ShopstreamError
from udfs.sessions.frame import EventFrame

Column = npt.NDArray[Any]

Compute = Callable[[EventFrame], Column]

Dtype = Literal["int64", "float64", "string"]

Value = int | float | str | None

_T = TypeVar("_T")

_C = TypeVar("_C", bound=Column)

ARROW_TYPES: dict[Dtype, pa.DataType] = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}


@dataclass(frozen=True)
class Feature:
    """A feature's declaration. compute gives one value a session ([S]); NaN and None mean unknown.

    An int64 feature that may be unknown is computed as float64.
    """

    name: str
    dtype: Dtype
    unit: str
    doc: str
    compute: Compute


FEATURES: dict[str, Feature] = {}


def shared(compute: Callable[[EventFrame], _T]) -> Callable[[EventFrame], _T]:
    """Compute a function of Events once for each of them, however many features ask."""

    @functools.wraps(compute)
    def once(e: EventFrame) -> _T:
        if compute not in e.memo:
            e.memo[compute] = compute(e)
        found: _T = e.memo[compute]
        return found

    return once


def feature(
    dtype: Dtype, unit: str = "", *, name: str | None = None, doc: str | None = None
) -> Callable[[Callable[[EventFrame], _C]], Callable[[EventFrame], _C]]:
    """Declare a function as a feature, by default with its own name and the first paragraph of its docstring.

    Other features may call it: it is `shared`. A second feature of one name is a ValueError.
    """

    def declare(compute: Callable[[EventFrame], _C]) -> Callable[[EventFrame], _C]:
        called = name or compute.__name__
        if called in FEATURES:
            raise ValueError(f"feature {called!r} is declared twice")
        text = doc or (compute.__doc__ or "").partition("\n\n")[0]
        once = shared(compute)
        FEATURES[called] = Feature(called, dtype, unit, " ".join(text.split()), once)
        return once

    return declare


def load_modules(names: Iterable[str]) -> None:
    """Import modules that declare features of their own (features.modules); ShopstreamError names one that fails."""
    for name in names:
        before = dict(FEATURES)
        try:
            importlib.import_module(name)
        except Exception as error:
            FEATURES.clear()  # what it had declared would be declared twice by the next try
            FEATURES.update(before)
            reason = f"{type(error).__name__}: {error}"
            raise ShopstreamError(f"features.modules names {name!r}, which cannot be imported: {reason}") from error


def arrow_schema() -> pa.Schema:
    """A field a feature, with its unit and description."""
    return pa.schema(
        [
            pa.field(each.name, ARROW_TYPES[each.dtype], metadata={"unit": each.unit, "description": each.doc})
            for each in FEATURES.values()
        ]
    )
