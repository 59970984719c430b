"""Session features, each declared once: a name, what it means, and a function over columns.

Add one by writing a function from Sessions to one value a session under `@feature`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from udfs.contracts import EVENT_TYPES
from udfs.sessions import Floats, Ints, Sessions

Column = npt.NDArray[np.int64] | npt.NDArray[np.float64] | npt.NDArray[np.object_]
Value = int | float | str | None


@dataclass(frozen=True)
class Feature:
    """A feature's declaration. compute: Sessions to one value a session (dtype [S]); NaN and None mean unknown."""

    name: str
    dtype: str
    unit: str
    doc: str
    compute: Callable[[Sessions], Column]


FEATURES: dict[str, Feature] = {}


def feature(name: str, *, dtype: str, unit: str, doc: str) -> Callable[[Callable[[Sessions], Column]], None]:
    """Declare the feature `name`; a second one of that name is a ValueError."""

    def declare(compute: Callable[[Sessions], Column]) -> None:
        if name in FEATURES:
            raise ValueError(f"feature {name!r} is declared twice")
        FEATURES[name] = Feature(name, dtype, unit, doc, compute)

    return declare


def compute_features(sessions: Sessions) -> list[dict[str, Value]]:
    """Every declared feature of every session, by name, as plain Python values; unknown ones are None."""
    columns = [_plain(declared.compute(sessions)) for declared in FEATURES.values()]
    return [dict(zip(FEATURES, row, strict=True)) for row in zip(*columns, strict=True)]


def _plain(column: Column) -> list[Value]:
    if column.dtype == np.float64:
        return [None if value != value else value for value in column.tolist()]  # NaN alone differs from itself
    return list(column.tolist())


def _sum(sessions: Sessions, values: Floats) -> Floats:
    """float64 [E] to float64 [S]; unknown values count nothing."""
    return np.add.reduceat(np.nan_to_num(values, nan=0.0), sessions.offsets[:-1])


def _count(sessions: Sessions, mask: npt.NDArray[np.bool_]) -> Ints:
    """bool [E] to int64 [S]."""
    return np.add.reduceat(mask.astype(np.int64), sessions.offsets[:-1])


def _mean(sessions: Sessions, values: Floats) -> Floats:
    """float64 [E] to float64 [S]: the mean of the known values, NaN without one."""
    known = _count(sessions, ~np.isnan(values))
    return np.divide(_sum(sessions, values), known, out=np.full(len(sessions), np.nan), where=known > 0)


def _extreme(sessions: Sessions, values: Floats, choose: np.ufunc) -> Floats:
    """float64 [E] to float64 [S]: np.fmin or np.fmax of the known values, NaN without one."""
    return np.asarray(choose.reduceat(values, sessions.offsets[:-1]), dtype=np.float64)


PLURAL = {
    "view": "views",
    "click": "clicks",
    "search": "searches",
    "add_to_cart": "adds_to_cart",
    "remove_from_cart": "removals_from_cart",
    "purchase": "purchases",
    "rate": "ratings",
    "impression": "impressions",
}
for _type in EVENT_TYPES:
    feature(PLURAL[_type], dtype="int64", unit="events", doc=f"Events of type {_type}.")(
        lambda sessions, name=_type: _count(sessions, sessions.is_type(name))  # type: ignore[misc]
    )


@feature("events", dtype="int64", unit="events", doc="Events of the whole session, all types.")
def _events(sessions: Sessions) -> Column:
    return sessions.count


@feature("duration_ms", dtype="int64", unit="ms", doc="From the session's first event to its last.")
def _duration(sessions: Sessions) -> Column:
    return sessions.end - sessions.start


@feature("distinct_items", dtype="int64", unit="items", doc="Different items met.")
def _distinct_items(sessions: Sessions) -> Column:
    known = np.flatnonzero(sessions.item_id != np.array(None))
    _, code = np.unique(sessions.item_id[known].astype(str), return_inverse=True)
    pairs = np.unique(np.stack([sessions.session_of[known], code.astype(np.int64)]), axis=1)
    return np.bincount(pairs[0], minlength=len(sessions)).astype(np.int64)


@feature("dwell_ms_sum", dtype="float64", unit="ms", doc="Time spent looking, in all.")
def _dwell_sum(sessions: Sessions) -> Column:
    return _sum(sessions, sessions.dwell_ms)


@feature("dwell_ms_mean", dtype="float64", unit="ms", doc="Time spent looking, the mean where it is known.")
def _dwell_mean(sessions: Sessions) -> Column:
    return _mean(sessions, sessions.dwell_ms)


@feature("dwell_ms_max", dtype="float64", unit="ms", doc="The longest look.")
def _dwell_max(sessions: Sessions) -> Column:
    return _extreme(sessions, sessions.dwell_ms, np.fmax)


@feature("price_mean", dtype="float64", unit="currency", doc="Mean price over events with a price.")
def _price_mean(sessions: Sessions) -> Column:
    return _mean(sessions, sessions.price)


@feature("price_min", dtype="float64", unit="currency", doc="Lowest price met.")
def _price_min(sessions: Sessions) -> Column:
    return _extreme(sessions, sessions.price, np.fmin)


@feature("price_max", dtype="float64", unit="currency", doc="Highest price met.")
def _price_max(sessions: Sessions) -> Column:
    return _extreme(sessions, sessions.price, np.fmax)


@feature("cart_size", dtype="int64", unit="items", doc="Items put into the cart less those taken out, never below 0.")
def _cart_size(sessions: Sessions) -> Column:
    added = _count(sessions, sessions.is_type("add_to_cart"))
    return np.maximum(added - _count(sessions, sessions.is_type("remove_from_cart")), 0)


@feature("purchase_value", dtype="float64", unit="currency", doc="Price times quantity (1 if unknown) over purchases.")
def _purchase_value(sessions: Sessions) -> Column:
    value = sessions.price * np.where(np.isnan(sessions.quantity), 1.0, sessions.quantity)
    return _sum(sessions, np.where(sessions.is_type("purchase"), value, 0.0))


@feature("last_query", dtype="string", unit="", doc="What was searched for last, its first 256 characters.")
def _last_query(sessions: Sessions) -> Column:
    place = np.where(sessions.is_type("search"), np.arange(len(sessions.query)), -1)
    last = np.maximum.reduceat(place, sessions.offsets[:-1])
    queries = [sessions.query[place][:256] if place >= 0 else None for place in last]
    return np.array(queries, dtype=object)
