"""Events packed into one JSON string for the SQL state, and unpacked again."""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from udfs.events.columns import EVENT_COLUMNS, PACKED, PACKED_COLUMNS
from udfs.events.parsing import ERROR

_TYPES = {"STRING": str | None, "BIGINT": int | None, "DOUBLE": float | None}

_encode = msgspec.json.Encoder().encode

_plain = itemgetter(*(list(EVENT_COLUMNS).index(name) for name in PACKED_COLUMNS if name != "packed"))

_packed = itemgetter(*map(list(EVENT_COLUMNS).index, PACKED))

_packed_decoder = msgspec.json.Decoder(list[tuple[*(_TYPES[EVENT_COLUMNS[name]] for name in PACKED)]])  # type: ignore[misc]


def packed_events(rows: Iterable[Sequence[object]]) -> list[tuple[object, ...]]:
    """Rows of EVENT_COLUMNS as rows of PACKED_COLUMNS: what SQL works with, and all of PACKED as one JSON array."""
    return [(*_plain(row), None if row[ERROR] else _encode(_packed(row)).decode()) for row in rows]


def unpacked_events(packed: Iterable[str]) -> list[tuple[Any, ...]]:
    """PACKED of each packed event. One call of the decoder for all, about 1 µs each."""
    rows: list[tuple[Any, ...]] = _packed_decoder.decode(f"[{','.join(packed)}]")
    return rows
