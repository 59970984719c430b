"""Features of the events in a session, by type."""

import numpy as np

from udfs.contracts.clickstream import EVENT_TYPES
from udfs.core.arrays import Floats, Ints
from udfs.features.registry import feature
from udfs.sessions.columns import TYPE_CODE
from udfs.sessions.frame import EventFrame

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
        lambda frame, code=TYPE_CODE[_type]: frame.type_counts[:, code]  # type: ignore[misc]
    )


@feature("int64", "events")
def events(frame: EventFrame) -> Ints:
    """Events of the whole session so far, of any type: the position of its latest one."""
    return frame.count


@feature("int64", "events")
def position(frame: EventFrame) -> Ints:
    """Position of the latest event among all events but impressions."""
    return frame.count_of(~frame.is_type("impression"))


@feature("int64", "items")
def depth(frame: EventFrame) -> Ints:
    """Distinct items viewed or clicked."""
    return frame.distinct(frame.item, frame.is_type("view", "click"))


@feature("int64", "0 or 1")
def converted(frame: EventFrame) -> Ints:
    """1 after a purchase."""
    return np.minimum(frame.type_counts[:, TYPE_CODE["purchase"]], 1)


@feature("int64", "events")
def repeat_views(frame: EventFrame) -> Ints:
    """Views of items already viewed in the session."""
    views = frame.is_type("view")
    return frame.count_of(views & (frame.item.of >= 0)) - frame.distinct(frame.item, views)


@feature("float64", "stars")
def rating_mean(frame: EventFrame) -> Floats:
    """Mean rating."""
    return frame.mean_of(np.where(frame.is_type("rate"), frame.rating, np.nan))
