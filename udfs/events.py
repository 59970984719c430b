"""Raw Kafka values in, event columns out: what cannot be read gets an error instead of being dropped."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import msgspec

from udfs.contracts import MAX_ID, MAX_TIME_MS, MIN_TIME_MS, ClickstreamEvent

#: What an event's `properties` may say that features read; all else in them is left behind.
PROPERTIES = ("device", "timezone", "returning", "locale")

#: Columns of a parsed event, in order, and their SQL types. Both errors are null for a readable record.
EVENT_COLUMNS: dict[str, str] = {
    "error": "STRING",
    "error_class": "STRING",
    "event_id": "STRING",
    "event_type": "STRING",
    "user_id": "STRING",
    "event_time": "BIGINT",
    "item_id": "STRING",
    "query": "STRING",
    "price": "DOUBLE",
    "quantity": "BIGINT",
    "rating": "DOUBLE",
    "dwell_ms": "BIGINT",
    **dict.fromkeys(PROPERTIES, "STRING"),
}

#: What an event is packed from, in order: all that says something of it but whose it is.
PACKED = tuple(name for name in EVENT_COLUMNS if name not in ("error", "error_class", "user_id"))
#: Columns of a parsed event that is packed for its session, and their SQL types.
PACKED_COLUMNS: dict[str, str] = {
    name: EVENT_COLUMNS[name] for name in ("error", "error_class", "event_id", "event_type", "user_id", "event_time")
} | {"packed": "STRING"}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_ERROR, _USER, _TIME = (list(EVENT_COLUMNS).index(name) for name in ("error", "user_id", "event_time"))
_QUOTED = re.compile("'.*'", re.DOTALL)
_decoder = msgspec.json.Decoder(ClickstreamEvent)
_encode = msgspec.json.Encoder().encode
_TYPES = {"STRING": str | None, "BIGINT": int | None, "DOUBLE": float | None}
_packed_decoder = msgspec.json.Decoder(list[tuple[*(_TYPES[EVENT_COLUMNS[name]] for name in PACKED)]])  # type: ignore[misc]


def epoch_ms(time: int | datetime) -> int:
    """Milliseconds since 1970-01-01 UTC, rounded down; integers are taken as they are."""
    return time if isinstance(time, int) else (time - _EPOCH) // _MILLISECOND


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
        if event.price is not None and math.isinf(event.price):
            raise ValueError("`price` is too large for a double")
        properties = list(map((event.properties or {}).get, PROPERTIES))
        if any(text is not None and len(text) > MAX_ID for text in properties):
            raise ValueError(f"of `properties`, {', '.join(PROPERTIES)} have at most {MAX_ID} characters")
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        return (str(error), type(error).__qualname__, *(None,) * (len(EVENT_COLUMNS) - 2))
    return (
        None,
        None,
        event.event_id,
        event.event_type,
        event.user_id,
        time,
        event.item_id,
        event.query,
        event.price,
        event.quantity,
        event.rating,
        event.dwell_ms,
        *properties,
    )


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
    readable = [place for place, row in enumerate(rows) if row[_ERROR] is None]
    if len(readable) < len(rows):
        rows = [row if row[_ERROR] is None else (_QUOTED.sub("'…'", row[_ERROR]), *row[1:]) for row in rows]
    names = pseudonyms([rows[place][_USER] for place in readable], [rows[place][_TIME] for place in readable])
    for place, name in zip(readable, names, strict=True):
        rows[place] = (*rows[place][:_USER], name, *rows[place][_USER + 1 :])
    return rows


def packed_events(rows: Iterable[Sequence[object]]) -> list[tuple[object, ...]]:
    """Rows of EVENT_COLUMNS as rows of PACKED_COLUMNS: what SQL works with, and all of PACKED as one JSON array."""
    places = [list(EVENT_COLUMNS).index(name) for name in PACKED]
    told = [list(EVENT_COLUMNS).index(name) for name in PACKED_COLUMNS if name != "packed"]
    of_packed, of_told = itemgetter(*places), itemgetter(*told)
    return [(*of_told(row), None if row[_ERROR] else _encode(of_packed(row)).decode()) for row in rows]


def unpacked_events(packed: Iterable[str]) -> list[tuple[Any, ...]]:
    """PACKED of each packed event. One call of the decoder for all, about 1 µs each."""
    rows: list[tuple[Any, ...]] = _packed_decoder.decode(f"[{','.join(packed)}]")
    return rows
