"""Records of `clickstream` and the headers of its dead letters."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from udfs.contracts.fields import MAX_QUERY, Count, EpochMs, Id, NonNegative, PositiveCount, Text, ZonedTime

EventType = Literal["view", "click", "search", "add_to_cart", "remove_from_cart", "purchase", "rate", "impression"]

EVENT_TYPES: tuple[str, ...] = EventType.__args__  # type: ignore[attr-defined]

#: What a shopper does with an item. An impression only shows it, and a search only asks for it: neither makes it seen.
INTERACTIONS = frozenset(EVENT_TYPES) - {"impression", "search"}


class ClickstreamEvent(Struct):
    """One record of `clickstream`, keyed by user_id. Unknown fields are ignored."""

    event_id: Id
    event_type: EventType
    user_id: Id
    event_time: EpochMs | ZonedTime
    item_id: Id | None = None
    query: Annotated[str, Meta(max_length=MAX_QUERY)] | None = None
    price: NonNegative | None = None
    quantity: PositiveCount | None = None
    rating: Annotated[float, Meta(ge=1, le=5)] | None = None
    dwell_ms: Count | None = None
    session_id: str | None = None
    properties: dict[str, str] | None = None


class DeadLetterHeaders(Struct, rename=lambda name: f"__connect.errors.{name}"):
    """Headers of a record of `clickstream.dlq`, named as Kafka Connect names them; values are UTF-8."""

    topic: Text
    partition: Annotated[str, Meta(pattern=r"^\d+$")]
    offset: Annotated[str, Meta(pattern=r"^\d+$")]
    stage: Text
    class_name: Text = msgspec.field(name="__connect.errors.class.name")
    exception_class_name: Text = msgspec.field(name="__connect.errors.exception.class.name")
    exception_message: Text = msgspec.field(name="__connect.errors.exception.message")
