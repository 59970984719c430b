"""Parses Kafka values into columns; an unreadable value gets an error instead of being dropped."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any

import msgspec
from msgspec.structs import astuple

from udfs.contracts.clickstream import EVENT_FIELDS, PROPERTIES, ClickstreamEvent, EventField
from udfs.contracts.fields import MAX_ID, MAX_TIME_MS, MIN_TIME_MS, Id
from udfs.core.clock import epoch_ms
from udfs.events.columns import ANONYMOUS_ID, EVENT_COLUMNS
from udfs.events.envelopes import Envelope, envelope_of, unwrapped
from udfs.events.record_values import (
    BOM,
    by_size,
    found,
    read_id,
    read_number,
    read_property,
    read_text,
    read_time,
    read_whole,
    without_zeros,
)
from udfs.events.registry import Registry

ERROR = list(EVENT_COLUMNS).index("error")

_USER = list(EVENT_COLUMNS).index("user_id")

_COOKIE = list(EVENT_COLUMNS).index(ANONYMOUS_ID)

_TIME = list(EVENT_COLUMNS).index("event_time")

_QUOTED = re.compile("'.*'", re.DOTALL)

_UNREADABLE = (None,) * (len(EVENT_COLUMNS) - 2)

_NO_PROPERTIES: tuple[str | None, ...] = (None,) * len(PROPERTIES)


class _Event(ClickstreamEvent, gc=False):
    """An event whose shopper may be known by a cookie, too."""

    anonymous_id: Id | None = None


_decoder = msgspec.json.Decoder(_Event)

#: The same event of somebody who is not logged in: the user is the anonymous_id.
_anonymous_decoder = msgspec.json.Decoder(
    msgspec.defstruct(
        "AnonymousEvent",
        [(field.name, field.type, field.default) for field in msgspec.structs.fields(ClickstreamEvent)],
        rename={"user_id": "anonymous_id"},
        gc=False,
    )
)

#: What the decoder says of an event without a user.
_NO_USER = (
    "Object missing required field `user_id`",
    "Expected `str`, got `null` - at `$.user_id`",
    "Expected `str` of length >= 1 - at `$.user_id`",
)

#: Values of anonymous_id that trackers send where there is none. They are no shopper's, and join nobody's visits.
_NO_COOKIE = frozenset({"00000000-0000-0000-0000-000000000000", "null", "undefined", "none", "unknown", "anonymous"})

_FIELDS = _Event.__struct_fields__

#: The values of EVENT_COLUMNS in an event's tuple.
_columns = itemgetter(*(_FIELDS.index(name) for name in EVENT_COLUMNS if name in ClickstreamEvent.__struct_fields__))

#: Where an event's tuple may have an infinite number: JSON has numbers that are too large for a double.
_UNBOUNDED = [_FIELDS.index(field.name) for field in EVENT_FIELDS if field.sql == "DOUBLE" and field.most is None]

_PLACE = re.compile(r" - at `\$\.(\w+)`$")


def parse_event(
    value: bytes | None, envelope: Envelope = "none", registry: Registry | None = None
) -> tuple[object, ...]:
    """Parse a Kafka value into a row of EVENT_COLUMNS; an unreadable one has its errors set and all else None.

    registry: knows the schemas of Avro. Raises ShopstreamError if it cannot be asked.
    """
    try:
        if value is not None and envelope != "none":
            value = unwrapped(value, envelope, registry)
        if value is None:
            raise ValueError("the record has no value (a tombstone)")
        # Decoding the text first also refuses invalid UTF-8 in ignored fields.
        text = value.decode()
        try:
            event = _decoder.decode(text)
        except msgspec.DecodeError as error:
            event = _tolerant(text.removeprefix(BOM), error)
        more_items = None
        if event.event_type == "search":
            if not event.query:
                raise ValueError("a search needs a non-empty `query`")
        elif event.items:
            more_items = _take_items(event)
        elif event.item_id is None:
            raise ValueError(f"an event of type `{event.event_type}` needs an `item_id`, or `items` with one each")
        elif event.item_id[-1] == "0":
            event.item_id = without_zeros(event.item_id)
        if event.user_id[-1] == "0":
            event.user_id = without_zeros(event.user_id)
        time = event.event_time
        if type(time) is not int or not 10**12 <= time < 10**13:
            time = by_size(time) if type(time) is int else epoch_ms(time)
            if not MIN_TIME_MS <= time <= MAX_TIME_MS:
                raise ValueError("`event_time` is not within the years 1 to 9999 UTC")
            event.event_time = time
        values = astuple(event)
        for index in _UNBOUNDED:
            if values[index] == math.inf:
                raise ValueError(f"`{_FIELDS[index]}` is too large for a double")
        properties = astuple(event.properties) if event.properties else _NO_PROPERTIES
        cookie = event.anonymous_id
        if cookie is not None:
            cookie = without_zeros(cookie)
            if cookie.lower() in _NO_COOKIE:
                if cookie == event.user_id:
                    raise ValueError(f"`anonymous_id` is '{cookie}', which is no shopper's, and there is no `user_id`")
                cookie = None
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        framed = None
        if (registry is None or envelope != "schema-registry") and value is not None and value[:1] == b"\0":
            framed = envelope_of(value, "clickstream")
        return (framed or str(error), "ValueError" if framed else type(error).__qualname__, *_UNREADABLE)
    return (None, None, *_columns(values), *properties, more_items, cookie)


def _take_items(event: _Event) -> str | None:
    """Put the first line item into the event's own fields; return the others as MORE_ITEMS, None without others."""
    lines = [(without_zeros(line.item_id), line.price, line.quantity) for line in event.items or ()]
    if any(price == math.inf for _, price, _ in lines):
        raise ValueError("a `price` of `items` is too large for a double")
    if event.item_id is not None and all(item != without_zeros(event.item_id) for item, _, _ in lines):
        raise ValueError("`item_id` is none of those in `items`: send one or the other")
    (event.item_id, event.price, event.quantity), *others = lines
    return msgspec.json.encode(others).decode() if others else None


def parse_events(
    values: Iterable[bytes | None],
    pseudonyms: Callable[[Sequence[str], Sequence[int]], Sequence[str]] | None = None,
    envelope: Envelope = "none",
    registry: Registry | None = None,
) -> list[tuple[object, ...]]:
    """Parse values into rows of EVENT_COLUMNS, in order.

    pseudonyms: replaces ids of shoppers (str [n]) at times (epoch ms [n]); errors then quote nothing of the values.
    A loop over records: JSON arrives record by record, and the decoder checks types in C (about 1 µs each).
    """
    rows: list[tuple[Any, ...]] = [parse_event(value, envelope, registry) for value in values]
    if pseudonyms is None:
        return rows
    readable = [index for index, row in enumerate(rows) if row[ERROR] is None]
    if len(readable) < len(rows):
        rows = [row if row[ERROR] is None else (_QUOTED.sub("'…'", row[ERROR]), *row[1:]) for row in rows]
    for column in (_USER, _COOKIE):
        named = [index for index in readable if rows[index][column] is not None]
        names = pseudonyms([rows[index][column] for index in named], [rows[index][_TIME] for index in named])
        for index, name in zip(named, names, strict=True):
            rows[index] = (*rows[index][:column], name, *rows[index][column + 1 :])
    return rows


def _reader(field: EventField) -> Callable[[Any], object] | None:
    if field.name == "event_time":
        return read_time
    if field.in_properties or field.choices:
        return None
    if field.sql == "STRING":
        return read_id if field.least else read_text
    return read_number if field.sql == "DOUBLE" else read_whole


#: How the fields of an event are read where the decoder refuses a record.
_READERS = [(field, read) for field in EVENT_FIELDS if (read := _reader(field))]


def _tolerant(text: str, refused: msgspec.DecodeError) -> _Event:
    """Decode a record that breaks the contract to the letter, by the rules of udfs.events.record_values.

    refused: the decoder's error, raised again for what is no JSON object. Only such records pay for this.
    """
    if str(refused) in _NO_USER:
        with suppress(msgspec.DecodeError):
            event = _Event(*astuple(_anonymous_decoder.decode(text)))
            event.anonymous_id = event.user_id
            return event
    try:
        fields = msgspec.json.decode(text)
    except msgspec.DecodeError:
        fields = None
    if not isinstance(fields, dict) or "event_id" not in fields:
        why = envelope_of(text.encode(), "clickstream")
        if why is not None:
            raise ValueError(why)
    if not isinstance(fields, dict):
        raise refused
    if fields.get("user_id") in (None, ""):
        fields["user_id"] = fields.get("anonymous_id", fields.get("user_id"))
    fields["anonymous_id"] = _read_cookie(fields.get("anonymous_id"))
    for field, read in _READERS:
        value = fields.get(field.name)
        if value is not None:
            fields[field.name] = None if value == "" and not field.required else read(value)
    properties = fields.get("properties")
    if isinstance(properties, dict):
        fields["properties"] = {name: read_property(properties.get(name)) for name in PROPERTIES}
    elif not properties:  # PHP writes an empty list for an empty map
        fields["properties"] = None
    if isinstance(fields.get("items"), list):
        fields["items"] = [_line_item(line) for line in fields["items"]]
    quantity = fields.get("quantity")
    if type(quantity) is int and quantity < 0:
        raise msgspec.ValidationError(
            f"`quantity` is {found(quantity)}, which looks like a return: there is no event for one, so leave it out"
        )
    try:
        return msgspec.convert(fields, _Event)
    except msgspec.ValidationError as error:
        place = _PLACE.search(str(error))
        if place is None or place[1] == "event_type":  # the decoder quotes a wrong type itself
            raise
        raise msgspec.ValidationError(f"{error}, found {found(fields[place[1]])}") from None


def _read_cookie(value: Any) -> str | None:
    """Return an anonymous_id; None for anything else: an event that has a user_id needs no other."""
    cookie = read_id(value)
    return cookie if isinstance(cookie, str) and 0 < len(cookie) <= MAX_ID else None


def _line_item(line: Any) -> Any:
    if not isinstance(line, dict):
        return line
    readers = {"item_id": read_id, "price": read_number, "quantity": read_whole}
    return {name: read(line.get(name)) for name, read in readers.items()}
