import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.contracts.clickstream import EVENT_TYPES, PROPERTIES
from udfs.events.columns import EVENT_COLUMNS, PACKED, PACKED_COLUMNS
from udfs.events.packing import packed_events, unpacked_events
from udfs.events.parsing import parse_event, parse_events
from udfs.sessions.columns import COLUMN_DTYPES, Sessions

GOOD = b'{"event_id":"e1","event_type":"view","user_id":"u1","event_time":1700000000000,"item_id":"i1"}'


def parsed(value: bytes | None) -> dict[str, object]:
    return dict(zip(EVENT_COLUMNS, parse_event(value), strict=True))


def event(**changed: Any) -> bytes:
    return json.dumps(json.loads(GOOD) | changed).encode()


def test_full_event_keeps_every_field():
    row = parsed(
        b'{"event_id":"e1","event_type":"purchase","user_id":"u1","event_time":1700000000000,"item_id":"i1",'
        b'"price":2.5,"quantity":3,"rating":4,"dwell_ms":900,"session_id":"s","properties":{"device":"phone","timezone":"+01:00","returning":"true","locale":"en-GB","new":"x"},"new":[1]}'
    )
    assert row == {
        "error": None,
        "error_class": None,
        "event_id": "e1",
        "event_type": "purchase",
        "user_id": "u1",
        "event_time": 1700000000000,
        "item_id": "i1",
        "query": None,
        "price": 2.5,
        "quantity": 3,
        "rating": 4.0,
        "dwell_ms": 900,
        "device": "phone",
        "timezone": "+01:00",
        "returning": "true",
        "locale": "en-GB",
    }


@pytest.mark.parametrize("properties", [b"", b',"properties":null', b',"properties":{}', b',"properties":{"a":"b"}'])
def test_missing_properties_are_none(properties: bytes):
    row = parsed(GOOD.replace(b"}", properties + b"}"))
    assert row["error"] is None
    assert [row[name] for name in PROPERTIES] == [None] * 4


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_event_type_is_read(kind: str):
    value = GOOD.replace(b"view", kind.encode()).replace(b'"item_id"', b'"query":"mug","item_id"')
    assert parsed(value)["event_type"] == kind


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2023-11-14T22:13:20.123456Z", 1700000000123),
        ("2023-11-14T23:13:20+01:00", 1700000000000),
        ("1969-12-31T23:59:59.999Z", -1),
        ("0001-01-01T00:00:00Z", -62135596800000),
        ("9999-12-31T23:59:59.999Z", 253402300799999),
    ],
)
def test_zoned_times_become_epoch_ms(text: str, milliseconds: int):
    assert parsed(GOOD.replace(b"1700000000000", f'"{text}"'.encode()))["event_time"] == milliseconds


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "no value"),
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "object"),
        (b"\xff", "utf-8"),
        (GOOD.replace(b"}", b',"other":"\xff"}'), "utf-8"),
        (GOOD.replace(b'"user_id":"u1",', b""), "user_id"),
        (GOOD.replace(b'"u1"', b'""'), "user_id"),
        (GOOD.replace(b'"u1"', b"7"), "user_id"),
        (GOOD.replace(b"view", b"stare"), "event_type"),
        (GOOD.replace(b',"item_id":"i1"', b""), "item_id"),
        (GOOD.replace(b"view", b"search"), "query"),
        (GOOD.replace(b"1700000000000", b'"2023-11-14T22:13:20"'), "timezone"),
        (GOOD.replace(b"1700000000000", b"1700000000000.5"), "event_time"),
        (GOOD.replace(b"1700000000000", b'"9999-12-31T23:59:59-14:00"'), "event_time"),
        (GOOD.replace(b"1700000000000", b"9" * 30), "event_time"),
        (GOOD.replace(b"}", b',"price":-1}'), "price"),
        (GOOD.replace(b"}", b',"price":NaN}'), "malformed"),
        (GOOD.replace(b"}", b',"price":1e999}'), "price"),
        (GOOD.replace(b"}", b',"quantity":0}'), "quantity"),
        (GOOD.replace(b"}", b',"quantity":1.5}'), "quantity"),
        (GOOD.replace(b"}", b',"quantity":9223372036854775808}'), "quantity"),
        (GOOD.replace(b"}", b',"rating":6}'), "rating"),
        (GOOD.replace(b"}", b',"dwell_ms":-5}'), "dwell_ms"),
        (GOOD.replace(b"}", b',"properties":{"a":1}}'), "properties"),
        (GOOD.replace(b"}", b',"properties":{"device":"%s"}}' % (b"x" * 1025)), "1024"),
        (GOOD.replace(b'"u1"', b'"%s"' % (b"x" * 1025)), "1024"),
        (GOOD.replace(b'view"', b'search","query":"%s"' % (b"x" * 1_000_001)), "1000000"),
        (b"[" * 100_000, "object"),
        (b'{"x":' * 100_000, "recursion"),
    ],
)
def test_unreadable_events_name_the_reason(value: bytes | None, says: str):
    row = parsed(value)
    assert says in str(row["error"]).lower()
    assert row["error_class"]
    assert all(row[name] is None for name in EVENT_COLUMNS if not name.startswith("error"))


@given(st.lists(st.binary(max_size=200) | st.none() | st.just(GOOD), max_size=20))
def test_any_bytes_give_one_row(values: list[bytes | None]):
    rows = parse_events(values)
    assert rows == [parse_event(value) for value in values]
    assert all((row[0] is None) == (row[2] is not None) for row in rows)


@given(
    st.builds(
        lambda price, quantity: GOOD.replace(b"}", f',"price":{price!r},"quantity":{quantity}}}'.encode()),
        st.floats(min_value=0, allow_infinity=False),
        st.integers(),
    )
)
def test_numbers_are_exact_or_refused(value: bytes):
    row = parsed(value)
    if row["error"] is None:
        assert isinstance(row["price"], float)
        assert math.isfinite(row["price"])
        assert isinstance(row["quantity"], int)
        assert 1 <= row["quantity"] < 2**63


def test_unpacking_restores_parsed_events():
    values = [
        event(),
        event(event_type="search", item_id=None, query='a "mug", größer ☕\n'),
        event(
            price=0.1, quantity=2**53 + 1, rating=4.5, dwell_ms=2**62, properties={"device": "phone", "locale": "de"}
        ),
        b"{",
    ]
    rows = parse_events(values)
    packed = [dict(zip(PACKED_COLUMNS, row, strict=True)) for row in packed_events(rows)]
    parsed = [dict(zip(EVENT_COLUMNS, row, strict=True)) for row in rows]
    for mine, theirs in zip(packed, parsed, strict=True):
        assert {name: mine[name] for name in PACKED_COLUMNS if name != "packed"}.items() <= theirs.items()
    assert packed[-1]["packed"] is None
    unpacked = unpacked_events(str(row["packed"]) for row in packed[:-1])
    assert unpacked == [tuple(row[name] for name in PACKED) for row in parsed[:-1]]


def test_packed_events_and_columns_agree():
    rows = parse_events([event(), event(event_type="search", query="q"), event(quantity=3, price=2.5)])
    parsed = [dict(zip(EVENT_COLUMNS, row, strict=True)) for row in rows]
    packed = [str(row[-1]) for row in packed_events(rows)]
    columns = {name: [[row[name] for row in part] for part in (parsed[:1], parsed)] for name in PACKED}
    arrays = Sessions.from_arrays([1, 2], [3, 4], [5, 6], **columns)
    of_packed = Sessions.from_packed([1, 2], [3, 4], [5, 6], [packed[:1], packed])
    for name in ("offsets", "start", "end", "count", *COLUMN_DTYPES):
        mine, theirs = getattr(of_packed, name), getattr(arrays, name)
        assert mine.dtype == theirs.dtype, name
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
