"""What must hold for any bytes as a record, from Hypothesis, a seed or a fuzzer."""

import json
from collections.abc import Callable

import pyarrow as pa

from udfs.catalog.parsing import parse_item
from udfs.contracts.catalog import CatalogItem
from udfs.contracts.fields import MAX_TIME_MS, MIN_TIME_MS
from udfs.events.columns import EVENT_COLUMNS
from udfs.events.parsing import parse_events

ARROW = {"STRING": pa.string(), "BIGINT": pa.int64(), "DOUBLE": pa.float64()}
ROWS = pa.schema([(name, ARROW[kind]) for name, kind in EVENT_COLUMNS.items()])


def good(count: int) -> list[tuple[bytes, bytes, int]]:
    """Views of a few shoppers, a second apart."""
    return [
        (
            b"u%d" % (number % 7),
            json.dumps(
                {
                    "event_id": f"e{number}",
                    "event_type": "view",
                    "user_id": f"u{number % 7}",
                    "event_time": 1_700_000_000_000 + 1000 * number,
                    "item_id": f"i{number % 50}",
                    "price": 2.5,
                    "properties": {"device": "phone"},
                }
            ).encode(),
            1_700_000_000_000 + 1000 * number,
        )
        for number in range(count)
    ]


def refused(call: Callable[[], object], errors: type[Exception] | tuple[type[Exception], ...]) -> str | None:
    """What the error says with which a call is refused; None where it is not."""
    try:
        call()
    except errors as error:
        return str(error)
    return None


def check_rows(values: list[bytes | None]) -> pa.Table:
    """A row a value, each readable or with its reason, and all of them as Flink will have them: in Arrow."""
    rows = parse_events(values)
    assert len(rows) == len(values)
    table = pa.table(list(zip(*rows, strict=True)) or [[] for _ in ROWS], schema=ROWS)
    table.validate(full=True)
    used = [row for row in rows if row[0] is None]
    dead = [row for row in rows if row[0] is not None]
    assert len(used) + len(dead) == len(values)
    for row in dead:
        assert row[1]
        assert row[2:] == (None,) * (len(EVENT_COLUMNS) - 2)
    for row in used:
        fields = dict(zip(EVENT_COLUMNS, row, strict=True))
        assert fields["event_id"]
        assert fields["user_id"]
        assert MIN_TIME_MS <= fields["event_time"] <= MAX_TIME_MS
    return table


ITEM = {"item_id": "a", "title": "Mug", "category": "Kitchen", "price": 3.5, "in_stock": True, "image_vector": [0]}
ITEM_VALUE = json.dumps(ITEM).encode()


def check_item(key: bytes | None, value: bytes | None) -> None:
    """An item as Arrow can hold it, a removal, or one of the errors that become dead letters."""

    found: list[tuple[str, CatalogItem | None]] = []
    assert refused(lambda: found.append(parse_item(key, value)), (ValueError, RecursionError)) != ""
    for item_id, item in found:
        assert item_id.encode() == key
        assert (item is None) == (value is None)
        if item is not None:
            pa.array([item_id, item.title, item.category, item.brand], pa.string()).validate(full=True)
            pa.array([item.price], pa.float64()).validate(full=True)
