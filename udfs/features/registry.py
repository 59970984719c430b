"""Declares session features."""

import functools
import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin

import numpy as np
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
    """A feature's declaration. compute returns one value per session ([S]); NaN and None mean unknown.

    An int64 feature that may be unknown is computed as float64.
    """

    name: str
    dtype: Dtype
    unit: str
    doc: str
    compute: Compute


FEATURES: dict[str, Feature] = {}


def shared(compute: Callable[[EventFrame], _T]) -> Callable[[EventFrame], _T]:
    """Compute a function of an EventFrame once per frame, however many features call it."""

    @functools.wraps(compute)
    def once(frame: EventFrame) -> _T:
        if compute not in frame.memo:
            frame.memo[compute] = compute(frame)
        found: _T = frame.memo[compute]
        return found

    return once


def feature(
    dtype: Dtype, unit: str = "", *, name: str | None = None, doc: str | None = None
) -> Callable[[Callable[[EventFrame], _C]], Callable[[EventFrame], _C]]:
    """Declare a function as a feature.

    dtype: "int64", "float64" or "string".
    unit: of its values, as the documentation shows it.
    name: the function's name by default.
    doc: the first paragraph of its docstring by default.

    Other features may call the function: it is `shared`. ValueError for a name that is taken, a dtype that does not
    exist, or a return annotation that contradicts the dtype.
    """

    def declare(compute: Callable[[EventFrame], _C]) -> Callable[[EventFrame], _C]:
        declared = name or compute.__name__
        if declared in FEATURES:
            raise ValueError(f"feature {declared!r} is declared twice")
        if dtype not in ARROW_TYPES:
            raise ValueError(f"feature {declared!r} has dtype {dtype!r}; use {', '.join(ARROW_TYPES)}")
        _check_annotation(declared, dtype, compute)
        text = doc or (compute.__doc__ or "").partition("\n\n")[0]
        once = shared(compute)
        FEATURES[declared] = Feature(declared, dtype, unit, " ".join(text.split()), once)
        return once

    return declare


def _check_annotation(name: str, dtype: Dtype, compute: Callable[..., object]) -> None:
    """Raise ValueError where a function's return annotation is no array, or one of another kind than the dtype."""
    try:
        returned = inspect.signature(compute, eval_str=True).return_annotation
    except NameError:  # a name that only type checkers import
        return
    if returned is inspect.Signature.empty:
        return
    if returned is not np.ndarray and get_origin(returned) is not np.ndarray:
        raise ValueError(f"feature {name!r} returns {returned}; it should return an array: Ints, Floats or Texts")
    # Floats is ndarray[Any, dtype[float64]]; a Column of any type may be what was declared.
    elements = [element for argument in get_args(returned)[1:] for element in get_args(argument)]
    is_text = np.object_ in elements
    if elements not in ([], [Any]) and is_text != (dtype == "string"):
        raise ValueError(f"feature {name!r} is declared {dtype!r} but returns {'Texts' if is_text else 'numbers'}")


def load_modules(names: Iterable[str]) -> None:
    """Import modules with features of the user's own (features.modules); ShopstreamError names one that fails."""
    for name in names:
        before = dict(FEATURES)
        try:
            importlib.import_module(name)
        except Exception as error:
            FEATURES.clear()  # else the next try would declare some of them twice
            FEATURES.update(before)
            reason = f"{type(error).__name__}: {error}"
            raise ShopstreamError(f"features.modules names {name!r}, which cannot be imported: {reason}") from error


def arrow_schema() -> pa.Schema:
    """Return one field per feature, with its unit and description."""
    return pa.schema(
        [
            pa.field(name, ARROW_TYPES[declared.dtype], metadata={"unit": declared.unit, "description": declared.doc})
            for name, declared in FEATURES.items()
        ]
    )
