"""Records of `clickstream` and the headers of its dead letters; the one declaration of an event's fields."""

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct, inspect

from udfs.contracts.fields import (
    MAX_ID,
    MAX_LINES,
    MAX_QUERY,
    Count,
    EpochMs,
    Id,
    NonNegative,
    PositiveCount,
    Property,
    Text,
    ZonedTime,
)

EventType = Literal["view", "click", "search", "add_to_cart", "remove_from_cart", "purchase", "rate", "impression"]

EVENT_TYPES: tuple[str, ...] = EventType.__args__  # type: ignore[attr-defined]

#: What a shopper does with an item. An impression only shows it, and a search only asks for it: neither makes it seen.
INTERACTIONS = frozenset(EVENT_TYPES) - {"impression", "search"}


class Properties(Struct, gc=False):
    """Keys of an event's `properties` that become columns. All others are ignored, whatever their type."""

    device: Property | None = None
    timezone: Property | None = None
    returning: Property | None = None
    locale: Property | None = None


PROPERTIES = Properties.__struct_fields__


class LineItem(Struct, gc=False):
    """One line of an order."""

    item_id: Id
    price: NonNegative | None = None  # currency units, of one piece
    quantity: PositiveCount | None = None  # pieces


# A field is declared here alone. EVENT_FIELDS, and with it parsing, files, SQL, the lake and sessions, follow.
class ClickstreamEvent(Struct, gc=False):
    """One record of `clickstream`, keyed by user_id. Unknown fields are ignored."""

    event_id: Id
    event_type: EventType
    user_id: Id
    event_time: EpochMs | ZonedTime
    item_id: Id | None = None
    query: Annotated[str, Meta(max_length=MAX_QUERY)] | None = None
    price: NonNegative | None = None  # currency units
    quantity: PositiveCount | None = None  # pieces
    rating: Annotated[float, Meta(ge=1, le=5)] | None = None  # stars
    dwell_ms: Count | None = None
    session_id: str | None = None
    properties: Properties | None = None
    items: Annotated[list[LineItem], Meta(max_length=MAX_LINES)] | None = None  # instead of item_id, price, quantity


class EventField(NamedTuple):
    """A field of an event as a column, and which values it may have. Times are epoch ms."""

    name: str
    sql: str  #: STRING, BIGINT or DOUBLE
    required: bool = False
    in_properties: bool = False
    least: float | None = None  #: of a number, or of a text's characters
    most: float | None = None
    choices: tuple[str, ...] = ()


def _event_fields() -> Iterator[EventField]:
    record = inspect.type_info(ClickstreamEvent)
    assert isinstance(record, inspect.StructType)  # noqa: S101 - for mypy
    for field in record.fields:
        for kind in field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,):
            match kind:
                case inspect.StrType():
                    yield EventField(field.name, "STRING", field.required, least=kind.min_length, most=kind.max_length)
                case inspect.LiteralType():
                    yield EventField(field.name, "STRING", field.required, choices=tuple(map(str, kind.values)))
                case inspect.IntType():
                    yield EventField(field.name, "BIGINT", field.required, least=kind.ge, most=kind.le)
                case inspect.FloatType():
                    yield EventField(field.name, "DOUBLE", field.required, least=kind.ge, most=kind.le)
                # An epoch ms, null, properties, items.
                case inspect.DateTimeType() | inspect.NoneType() | inspect.StructType() | inspect.ListType():
                    pass
                case _:
                    raise TypeError(f"ClickstreamEvent.{field.name}: {kind} is neither a text nor a number")
    for name in PROPERTIES:
        yield EventField(name, "STRING", in_properties=True, most=MAX_ID)


#: Every field of an event: those of ClickstreamEvent, then PROPERTIES.
EVENT_FIELDS = tuple(_event_fields())


class DeadLetterHeaders(Struct, rename=lambda name: f"__connect.errors.{name}"):
    """Headers of a record of `clickstream.dlq`, named as Kafka Connect names them; values are UTF-8.

    value_bytes is there if the letter was cut to what its topic takes: the length of the whole value.
    """

    topic: Text
    partition: Annotated[str, Meta(pattern=r"^\d+$")]
    offset: Annotated[str, Meta(pattern=r"^\d+$")]
    stage: Text
    class_name: Text = msgspec.field(name="__connect.errors.class.name")
    exception_class_name: Text = msgspec.field(name="__connect.errors.exception.class.name")
    exception_message: Text = msgspec.field(name="__connect.errors.exception.message")
    value_bytes: Annotated[str, Meta(pattern=r"^\d+$")] | msgspec.UnsetType = msgspec.field(
        name="__connect.errors.value.bytes", default=msgspec.UNSET
    )
