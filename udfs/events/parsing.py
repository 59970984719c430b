"""Raw Kafka values in, event columns out: what cannot be read gets an error instead of being dropped."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from udfs.contracts.clickstream import EVENT_FIELDS, PROPERTIES, ClickstreamEvent
from udfs.contracts.fields import MAX_ID, MAX_TIME_MS, MIN_TIME_MS
from udfs.core.clock import epoch_ms
from udfs.events.columns import EVENT_COLUMNS

ERROR = list(EVENT_COLUMNS).index("error")

_USER = list(EVENT_COLUMNS).index("user_id")

_TIME = list(EVENT_COLUMNS).index("event_time")

_QUOTED = re.compile("'.*'", re.DOTALL)

_UNREADABLE = (None,) * (len(EVENT_COLUMNS) - 2)

_decoder = msgspec.json.Decoder(ClickstreamEvent)

_values = attrgetter(*(name for name in EVENT_COLUMNS if name in ClickstreamEvent.__struct_fields__))

_unbounded = [field.name for field in EVENT_FIELDS if field.sql == "DOUBLE" and field.most is None]


def parse_event(value: bytes | None) -> tuple[object, ...]:
    """One Kafka value as a row of EVENT_COLUMNS; an unreadable one has its errors set and all else None."""
    try:
        if value is None:
            raise ValueError("the record has no value (a tombstone)")
        # Decoding the text first refuses invalid UTF-8 in ignored fields too.
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
        for name in _unbounded:
            if getattr(event, name) == math.inf:
                raise ValueError(f"`{name}` is too large for a double")
        properties = list(map((event.properties or {}).get, PROPERTIES))
        if any(text is not None and len(text) > MAX_ID for text in properties):
            raise ValueError(f"of `properties`, {', '.join(PROPERTIES)} have at most {MAX_ID} characters")
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        return (str(error), type(error).__qualname__, *_UNREADABLE)
    return (None, None, *_values(event), *properties)


def parse_events(
    values: Iterable[bytes | None], pseudonyms: Callable[[Sequence[str], Sequence[int]], Sequence[str]] | None = None
) -> list[tuple[object, ...]]:
    """Rows of EVENT_COLUMNS, one per value and in their order.

    pseudonyms: what stands for user ids at times (epoch ms), [n] all; errors then quote nothing of the values.
    A loop over records: JSON arrives record by record, and the decoder checks types in C (about 1 µs each).
    """
    rows: list[tuple[Any, ...]] = [parse_event(value) for value in values]
    if pseudonyms is None:
        return rows
    readable = [place for place, row in enumerate(rows) if row[ERROR] is None]
    if len(readable) < len(rows):
        rows = [row if row[ERROR] is None else (_QUOTED.sub("'…'", row[ERROR]), *row[1:]) for row in rows]
    names = pseudonyms([rows[place][_USER] for place in readable], [rows[place][_TIME] for place in readable])
    for place, name in zip(readable, names, strict=True):
        rows[place] = (*rows[place][:_USER], name, *rows[place][_USER + 1 :])
    return rows
