"""Features of what happened."""

import numpy as np

from udfs.contracts.clickstream import EVENT_TYPES
from udfs.core.arrays import Floats, Ints
from udfs.features.registry import feature
from udfs.sessions.columns import TYPE_CODE
from udfs.sessions.frame import EventFrame

# --- what happened ----------------------------------------------------------------------------------------------------

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
    feature("int64", "events", name=PLURAL[_type], doc=f"Events of type {_type}.")(
        lambda e, code=TYPE_CODE[_type]: e.type_counts[:, code]  # type: ignore[misc]
    )


@feature("int64", "events")
def events(e: EventFrame) -> Ints:
    """Events of the whole session so far, all types: the place of its latest one."""
    return e.count


@feature("int64", "events")
def position(e: EventFrame) -> Ints:
    """Place of the latest event among what the shopper did: all events but impressions."""
    return e.count_of(~e.is_type("impression"))


@feature("int64", "items")
def depth(e: EventFrame) -> Ints:
    """Different items viewed or clicked."""
    return e.distinct(e.item, e.is_type("view", "click"))


@feature("int64", "0 or 1")
def converted(e: EventFrame) -> Ints:
    """1 after a purchase."""
    return np.minimum(e.type_counts[:, TYPE_CODE["purchase"]], 1)


@feature("int64", "events")
def repeat_views(e: EventFrame) -> Ints:
    """Views of items that the session had viewed before."""
    views = e.is_type("view")
    return e.count_of(views & (e.item.of >= 0)) - e.distinct(e.item, views)


@feature("float64", "stars")
def rating_mean(e: EventFrame) -> Floats:
    """Mean of the ratings given."""
    return e.mean_of(np.where(e.is_type("rate"), e.rating, np.nan))
