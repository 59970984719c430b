"""Packs an event into one JSON string for SQL state, and unpacks it again."""

import hashlib
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from udfs.events.columns import EVENT_COLUMNS, MORE_ITEMS, PACKED, PACKED_COLUMNS
from udfs.events.parsing import ERROR

#: Hex digits of an event's hash: 64 bits.
CONTENT_DIGITS = 16

_TYPES = {"STRING": str | None, "BIGINT": int | None, "DOUBLE": float | None}

_encode = msgspec.json.Encoder().encode

_plain = itemgetter(*(list(EVENT_COLUMNS).index(name) for name in PACKED_COLUMNS if name not in ("items", "packed")))

_MORE_ITEMS = list(EVENT_COLUMNS).index(MORE_ITEMS)

_items_decoder = msgspec.json.Decoder(list[tuple[str, float | None, int | None]])

_packed = itemgetter(*map(list(EVENT_COLUMNS).index, PACKED))

_packed_decoder = msgspec.json.Decoder(list[tuple[*(_TYPES[EVENT_COLUMNS[name]] for name in PACKED)]])  # type: ignore[misc]


def packed_events(rows: Iterable[Sequence[object]]) -> list[tuple[object, ...]]:
    """Turn rows of EVENT_COLUMNS into rows of PACKED_COLUMNS, where `packed` is a JSON array of all of PACKED."""
    return [
        (*_plain(row), None, None)
        if row[ERROR]
        else (*_plain(row), _items(row[_MORE_ITEMS]), _encode(_packed(row)).decode())
        for row in rows
    ]


def _items(more_items: Any) -> int:
    return 1 if more_items is None else 1 + len(further_items(more_items))


def content_of(packed: str) -> str:
    """Return a hash of a packed event, hex, by which two events with one id are told apart."""
    return hashlib.sha256(packed.encode()).hexdigest()[:CONTENT_DIGITS]


def further_items(more_items: Any) -> list[tuple[str, float | None, int | None]]:
    """Return item_id, price and quantity of each line item after an order's first, from its column MORE_ITEMS."""
    return [] if more_items is None else _items_decoder.decode(more_items)


def unpacked_events(packed: Iterable[str]) -> list[tuple[Any, ...]]:
    """Return the values of PACKED of each packed event. One call decodes them all, about 1 µs each."""
    rows: list[tuple[Any, ...]] = _packed_decoder.decode(f"[{','.join(packed)}]")
    return rows
