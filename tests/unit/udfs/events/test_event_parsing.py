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
        "more_items": None,
        "anonymous_id": None,
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
    ("written", "milliseconds"),
    [
        (1541037460, 1541037460000),
        (1611817838123, 1611817838123),
        (1611817838123456, 1611817838123),
        (1611817838123456789, 1611817838123),
        ("1611817838", 1611817838000),
        (1767225600.25, 1767225600250),
        ("1.7672256E+12", 1767225600000),
        (999999999999, 999999999999),
        (20261331120000, 20261331120000),  # has no month 13
        ("2026-01-01 00:00:00+00", 1767225600000),
        ("2026-01-01 05:30:00.25+05:30", 1767225600250),
        ("2026-01-01 00:00:00.9999 -08", 1767254400999),
        ("2019-10-01 00:00:00 UTC", 1569888000000),
    ],
)
def test_units_and_zones_of_times(written: float | str, milliseconds: int):
    assert parsed(event(event_time=written))["event_time"] == milliseconds


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"properties": {"device": None, "locale": "de-DE"}}, {"device": None, "locale": "de-DE"}),
        ({"properties": {"screen_width": 1920, "tags": [{}], "locale": "de"}}, {"locale": "de"}),
        ({"properties": {"returning": True, "device": ""}}, {"returning": "true", "device": None}),
        ({"properties": []}, {"device": None}),
        ({"session_id": 7}, {"error": None}),
        ({"session_id": {"a": 1}}, {"error": None}),
        ({"quantity": 2.0, "price": "19.90"}, {"quantity": 2, "price": 19.9}),
        ({"quantity": "3", "rating": "4", "dwell_ms": "12.0"}, {"quantity": 3, "rating": 4.0, "dwell_ms": 12}),
        ({"price": "", "quantity": "NULL", "rating": None}, {"price": None, "quantity": None, "rating": None}),
        ({"event_type": "search", "query": "mug", "item_id": ""}, {"query": "mug", "item_id": None}),
        ({"event_type": "search", "query": 2026.0}, {"query": "2026.0"}),
        ({"user_id": 7982301102254.0, "item_id": 85123.0}, {"user_id": "7982301102254", "item_id": "85123"}),
        ({"user_id": "17850.0", "item_id": "85123.0"}, {"user_id": "17850", "item_id": "85123"}),
        ({"user_id": 7, "event_id": 8, "item_id": "10"}, {"user_id": "7", "event_id": "8", "item_id": "10"}),
    ],
)
def test_understood_values_cost_no_event(written: dict[str, Any], read: dict[str, Any]):
    row = parsed(event(**written))
    assert row["error"] is None
    assert {name: row[name] for name in read} == read


@pytest.mark.parametrize("user", [None, ""])
@pytest.mark.parametrize("more", [{}, {"price": "2.50"}])
def test_anonymous_id_stands_for_no_user(user: str | None, more: dict[str, Any]):
    anonymous = event(user_id=user, anonymous_id="c-77", **more)
    assert parsed(anonymous) == parsed(event(user_id="c-77", **more)) | {"anonymous_id": "c-77"}
    fields = json.loads(anonymous)
    del fields["user_id"]
    assert parsed(json.dumps(fields).encode()) == parsed(anonymous)
    for wrong in (None, "", {}, True):
        assert "user_id" in str(parsed(event(user_id=user, anonymous_id=wrong, **more))["error"])
    assert "user_id" in str(parsed(event(user_id=7.5, anonymous_id="c-77", **more))["error"])


@pytest.mark.parametrize("more", [{}, {"price": "2.50"}])
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("c-77", "c-77"), (17850, "17850"), ("17850.0", "17850"), (None, None), ("", None), (7.5, None), ({}, None),
        (True, None), ("u1", "u1"), ("x" * 2000, None), ("null", None), ("00000000-0000-0000-0000-000000000000", None),
    ],
)  # fmt: skip
def test_anonymous_id_comes_along_with_a_user(written: object, read: str | None, more: dict[str, Any]):
    row = parsed(event(user_id="u1", anonymous_id=written, **more))
    assert row["error"] is None
    assert (row["user_id"], row["anonymous_id"]) == ("u1", read)


@pytest.mark.parametrize("cookie", ["undefined", "NULL", "00000000-0000-0000-0000-000000000000"])
@pytest.mark.parametrize("more", [{}, {"price": "2.50"}])
def test_no_cookie_is_no_shopper(cookie: str, more: dict[str, Any]):
    error = str(parsed(event(user_id=None, anonymous_id=cookie, **more))["error"])
    assert error == f"`anonymous_id` is '{cookie}', which is no shopper's, and there is no `user_id`"
    assert parsed(event(user_id=cookie, **more))["user_id"] == cookie  # what a shop calls its users is its own business


def test_byte_order_mark_is_left_out():
    assert parsed(b"\xef\xbb\xbf" + GOOD) == parsed(GOOD)


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
        (GOOD.replace(b'"u1"', b"7.5"), "user_id"),
        (GOOD.replace(b'"u1"', b"true"), "user_id"),
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
        (GOOD.replace(b"}", b',"properties":{"device":1}}'), "properties.device"),
        (GOOD.replace(b"}", b',"properties":[1]}'), "properties"),
        (GOOD.replace(b"}", b',"price":"19,99"}'), "price`, found '19,99'"),
        (GOOD.replace(b"}", b',"quantity":-1}'), "looks like a return"),
        (GOOD.replace(b"1700000000000", b"20260131120000"), "would be the year 2612"),
        (GOOD.replace(b"1700000000000", b"99999999999999999"), "event_time"),
        (GOOD.replace(b'"i1"', b'""'), "item_id"),
        (GOOD.replace(b"}", b',"properties":{"device":"%s"}}' % (b"x" * 1025)), "1024"),
        (GOOD.replace(b'"u1"', b'"%s"' % (b"x" * 1025)), "1024"),
        (GOOD.replace(b'view"', b'search","query":"%s"' % (b"x" * 1_000_001)), "1000000"),
        (b"\0\0\0\0\x2a" + GOOD, "header (magic byte 0, schema id 42); set clickstream.envelope=schema-registry"),
        (b"\0\0\0\0\x2a\x02\x04e1", "schema id 42); what follows is no json"),
        (b'{"schema":{},"payload":%s}' % GOOD, "is an envelope (kafka connect, schema and payload); set clickstream."),
        (b'{"before":null,"after":%s,"op":"c"}' % GOOD, "set clickstream.envelope=debezium"),
        (b'{"schema":{},"payload":{"after":%s,"op":"c"}}' % GOOD, "set clickstream.envelope=debezium"),
        (b'{"specversion":"1.0","id":"1","type":"view","data":%s}' % GOOD, "set clickstream.envelope=cloudevents"),
        (b'{"type":"track","event":"x","messageId":"1"}', "set clickstream.envelope=segment"),
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
        assert {
            name: mine[name] for name in PACKED_COLUMNS if name not in ("items", "packed")
        }.items() <= theirs.items()
        assert mine["items"] == (1 if theirs["error"] is None else None)
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
    assert_same(of_packed, arrays)


def assert_same(one: Sessions, other: Sessions) -> None:
    for name in ("offsets", "start", "end", "count", *COLUMN_DTYPES):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert mine.dtype == theirs.dtype, name
        np.testing.assert_array_equal(mine, theirs, err_msg=name)


LINES = [{"item_id": "a", "price": 5, "quantity": 1}, {"item_id": "b", "price": "2.5", "quantity": 2.0}, {"item_id": 7}]


def test_order_is_an_event_per_line_item():
    order = event(event_id="o", event_type="purchase", item_id=None, price=10, items=LINES)
    rows = parse_events([event(), order, event(event_id="e2")])
    assert [row[0] for row in rows] == [None] * 3
    packed = [dict(zip(PACKED_COLUMNS, row, strict=True)) for row in packed_events(rows)]
    assert [row["items"] for row in packed] == [1, 3, 1]
    texts = [str(row["packed"]) for row in packed]
    found = Sessions.from_packed([1, 2], [3, 4], [5, 1], [texts, texts[2:]])
    assert found.offsets.tolist() == [0, 5, 6]
    assert found.event_id.tolist() == ["e1", "o", "o#2", "o#3", "e2", "e2"]
    assert found.item_id.tolist() == ["i1", "a", "b", "7", "i1", "i1"]
    np.testing.assert_array_equal(found.price, [np.nan, 5, 2.5, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(found.quantity, [np.nan, 1, 2, np.nan, np.nan, np.nan])
    parsed = [dict(zip(EVENT_COLUMNS, row, strict=True)) for row in rows]
    columns = {name: [[row[name] for row in part] for part in (parsed, parsed[2:])] for name in PACKED}
    assert_same(Sessions.from_arrays([1, 2], [3, 4], [3, 1], **columns), found)  # which counts records


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"items": LINES}, "`item_id` is none of those in `items`"),
        ({"items": [], "item_id": None}, "needs an `item_id`, or `items`"),
        ({"items": [{"price": 5}], "item_id": None}, "item_id"),
        ({"items": [{"item_id": "a", "quantity": 0}], "item_id": None}, "quantity"),
        ({"items": ["a"], "item_id": None}, "items"),
        ({"items": [{"item_id": "a"}] * 1001, "item_id": None}, "1000"),
    ],
)
def test_orders_that_cannot_be_read(changed: dict[str, Any], says: str):
    assert says in str(parsed(event(**changed))["error"])


def test_search_leaves_items_behind():
    row = parsed(event(event_type="search", query="mug", item_id=None, items=LINES))
    assert (row["error"], row["item_id"], row["more_items"]) == (None, None, None)
