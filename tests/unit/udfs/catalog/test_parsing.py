import json

import pytest
from support import ROOT

from udfs.catalog.parsing import parse_item
from udfs.contracts.catalog import CatalogItem
from udfs.events.envelopes import Envelope


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        (None, b'{"item_id": "a", "title": "t"}', "no key"),
        (b"b", b'{"item_id": "a", "title": "t"}', "not its `item_id`"),
        (b"a", b'{"item_id": "a"}', "title"),
        (b"a", b'{"item_id": "a", "title": "t", "price": -1}', "price"),
        (b"a", b'{"item_id": "a", "title": "t", "price": 1e999}', "price"),
        (b"a", b'{"item_id": "a", "title": ""}', "title"),
        (b"a", b'{"item_id": "a", "title": "t", "price": "AfQ="}', "decimal.handling.mode=string"),
        (b"a", b'{"item_id": "a", "title": "t", "in_stock": "some"}', "in_stock"),
        (b"a", b'{"schema": {}, "payload": {"item_id": "a"}}', "set catalog.envelope=connect"),
        (b'{"item_id": "a"}', b'{"item_id": "a", "title": "t"}', "set catalog.envelope=connect"),
        (b"a", b'\0\0\0\0\x07{"item_id": "a"}', "set catalog.envelope=schema-registry"),
        (b"a", b"\xff", "utf-8"),
        (b"\xff", None, "utf-8"),
        (b"a", b'{"x": ' + b"[" * 100_000, "recursion"),
    ],
)
def test_unreadable_catalog_records_are_refused(key: bytes | None, value: bytes | None, error: str):
    with pytest.raises((ValueError, RecursionError), match=f"(?i){error}"):
        parse_item(key, value)


def test_catalog_records_are_parsed():
    assert parse_item(b"a", None) == ("a", None)
    _, item = parse_item(b"a", b'{"item_id": "a", "title": "Apple", "unheard": 1}')
    assert item is not None
    assert (item.title, item.in_stock, item.price) == ("Apple", True, None)


def test_values_as_databases_write_them():
    value = (
        b'\xef\xbb\xbf{"item_id": 7.0, "title": 1984, "price": "19.90", "in_stock": 0, "brand": null, "updated_at": []}'
    )
    assert parse_item(b"7", value) == ("7", CatalogItem("7", "1984", price=19.9, in_stock=False))


COLUMNS = {"item_id": "id", "title": "name", "in_stock": "available"}
ROW = b'{"id": 7, "name": "Mug", "available": 1, "price": 2.5}'
MUG = ("7", CatalogItem("7", "Mug", price=2.5))
DECIMAL = "org.apache.kafka.connect.data.Decimal"
DECIMAL_KEY = json.dumps(
    {"schema": {"fields": [{"field": "id", "name": DECIMAL, "parameters": {"scale": "0"}}]}, "payload": {"id": "Bw=="}}
).encode()


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (b'{"id": 7}', b'{"before": null, "after": %s, "op": "c"}' % ROW, MUG),
        (b'{"schema": {}, "payload": {"id": 7}}', b'{"schema": {}, "payload": {"after": %s, "op": "r"}}' % ROW, MUG),
        (b'{"shop": 1, "id": 7}', b'{"after": %s, "op": "u"}' % ROW, MUG),
        (b"7", b'{"after": %s, "op": "u"}' % ROW, MUG),
        (b'{"id": 7}', b'{"before": {"id": 7}, "after": null, "op": "d"}', ("7", None)),
        (b'{"id": "a"}', None, ("a", None)),
        (b'{"id": {"scale": 0, "value": "Bw=="}}', b'{"after": %s}' % ROW, MUG),
        (DECIMAL_KEY, b'{"after": %s}' % ROW, MUG),
        (DECIMAL_KEY, None, ("7", None)),
    ],
)
def test_change_events_of_a_table(key: bytes, value: bytes | None, expected: tuple[str, CatalogItem | None]):
    assert parse_item(key, value, "debezium", COLUMNS) == expected


@pytest.mark.parametrize("price", ["price", "list_price"])
@pytest.mark.parametrize(
    ("file", "envelope"), [("plain.jsonl", "debezium"), ("schemas.jsonl", "debezium"), ("flat.jsonl", "connect")]
)
def test_recorded_changes_end_with_the_table(file: str, envelope: Envelope, price: str):
    """What Debezium made of a real table (tests/debezium/record.sh): decimals as texts, in Base64, with their scale."""
    columns = {"item_id": "id", "title": "name", "category": "department", "brand": "maker", "in_stock": "stock"}
    columns["price"] = price
    items: dict[str, CatalogItem | None] = {}
    for line in (ROOT / "tests" / "debezium" / file).read_text().splitlines():
        record = json.loads(line)
        key, value = (part and part.encode() for part in (record["key"], record["value"]))
        item_id, item = parse_item(key, value, envelope, columns)
        items[item_id] = item
    table = json.loads((ROOT / "tests" / "debezium" / "table.json").read_text())
    assert {item_id: item for item_id, item in items.items() if item} == {
        str(row["id"]): CatalogItem(
            item_id=str(row["id"]),
            title=row["name"],
            category=row["department"],
            brand=row["maker"],
            price=row[price],
            in_stock=row["stock"] > 0,
        )
        for row in table
    }
    assert {item_id for item_id, item in items.items() if item is None} == {"104", "105", "108"}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (0, False),
        (25, True),
        (-3, False),
        (1.0, True),
        ("0", False),
        ("12", True),
        ("f", False),
        ("TRUE", True),
        ("", True),
    ],
)
def test_pieces_in_stock_are_in_stock_or_none(written: object, read: bool):
    value = json.dumps({"item_id": "7", "title": "Mug", "in_stock": written}).encode()
    assert parse_item(b"7", value) == ("7", CatalogItem("7", "Mug", in_stock=read))


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        (b'{"shop": 1, "number": 7}', b'{"after": %s}' % ROW, "key has no `id`"),
        (b'{"id": 8}', b'{"after": %s}' % ROW, "not its `item_id`$"),
        (b'{"id": 7}', b'{"op": "t"}', "no `after`"),
        (b'{"id": 7}', b'{"after": {"id": 7, "name": "__debezium_unavailable_value"}}', "REPLICA IDENTITY FULL"),
        (b"Struct{id=7}", None, "set key.converter="),
        (b'{"id": 7}', b'{"after": {"id": 7, "name": "t", "price": {"scale": 2, "value": "-"}}}', "decimal in Base64"),
        (b'{"id": 7}', b'{"after": {"id": 7, "name": "t", "price": {"scale": "2", "value": "AQ=="}}}', "`int`"),
        (DECIMAL_KEY.replace(b'"0"', b'"9000000000000000000"'), None, "no decimal in Base64"),
    ],
)
def test_unreadable_change_events_are_refused(key: bytes, value: bytes, error: str):
    with pytest.raises(ValueError, match=error):
        parse_item(key, value, "debezium", COLUMNS)
