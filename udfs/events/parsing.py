"""Parses Kafka values into columns; an unreadable value gets an error instead of being dropped."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

import msgspec
from msgspec.structs import astuple

from udfs.contracts.clickstream import EVENT_FIELDS, PROPERTIES, ClickstreamEvent
from udfs.contracts.fields import MAX_ID, MAX_TIME_MS, MIN_TIME_MS
from udfs.core.clock import epoch_ms
from udfs.events.columns import EVENT_COLUMNS

ERROR = list(EVENT_COLUMNS).index("error")

_USER = list(EVENT_COLUMNS).index("user_id")

_TIME = list(EVENT_COLUMNS).index("event_time")

_QUOTED = re.compile("'.*'", re.DOTALL)

_UNREADABLE = (None,) * (len(EVENT_COLUMNS) - 2)

_NO_PROPERTIES: tuple[str | None, ...] = (None,) * len(PROPERTIES)

_decoder = msgspec.json.Decoder(ClickstreamEvent)

_FIELDS = ClickstreamEvent.__struct_fields__

#: The values of EVENT_COLUMNS in an event's tuple.
_columns = itemgetter(*(_FIELDS.index(name) for name in EVENT_COLUMNS if name in _FIELDS))

#: Where an event's tuple may have an infinite number: JSON has numbers that are too large for a double.
_UNBOUNDED = [_FIELDS.index(field.name) for field in EVENT_FIELDS if field.sql == "DOUBLE" and field.most is None]


def parse_event(value: bytes | None) -> tuple[object, ...]:
    """Parse a Kafka value into a row of EVENT_COLUMNS; an unreadable one has its errors set and all else None."""
    try:
        if value is None:
            raise ValueError("the record has no value (a tombstone)")
        # Decoding the text first also refuses invalid UTF-8 in ignored fields.
        event = _decoder.decode(value.decode())
        if event.event_type == "search":
            if not event.query:
                raise ValueError("a search needs a non-empty `query`")
        elif event.item_id is None:
            raise ValueError(f"an event of type `{event.event_type}` needs an `item_id`")
        time = epoch_ms(event.event_time)
        if not MIN_TIME_MS <= time <= MAX_TIME_MS:
            raise ValueError("`event_time` is not within the years 1 to 9999 UTC")
        event.event_time = time
        values = astuple(event)
        for index in _UNBOUNDED:
            if values[index] == math.inf:
                raise ValueError(f"`{_FIELDS[index]}` is too large for a double")
        properties = _NO_PROPERTIES
        if event.properties:
            properties = tuple(map(event.properties.get, PROPERTIES))
            if any(text is not None and len(text) > MAX_ID for text in properties):
                raise ValueError(f"of `properties`, {', '.join(PROPERTIES)} have at most {MAX_ID} characters")
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        return (str(error), type(error).__qualname__, *_UNREADABLE)
    return (None, None, *_columns(values), *properties)


def parse_events(
    values: Iterable[bytes | None], pseudonyms: Callable[[Sequence[str], Sequence[int]], Sequence[str]] | None = None
) -> list[tuple[object, ...]]:
    """Parse values into rows of EVENT_COLUMNS, in order.

    pseudonyms: replaces user ids (str [n]) at times (epoch ms [n]); errors then quote nothing of the values.
    A loop over records: JSON arrives record by record, and the decoder checks types in C (about 1 µs each).
    """
    rows: list[tuple[Any, ...]] = [parse_event(value) for value in values]
    if pseudonyms is None:
        return rows
    readable = [index for index, row in enumerate(rows) if row[ERROR] is None]
    if len(readable) < len(rows):
        rows = [row if row[ERROR] is None else (_QUOTED.sub("'…'", row[ERROR]), *row[1:]) for row in rows]
    names = pseudonyms([rows[index][_USER] for index in readable], [rows[index][_TIME] for index in readable])
    for index, name in zip(readable, names, strict=True):
        rows[index] = (*rows[index][:_USER], name, *rows[index][_USER + 1 :])
    return rows
