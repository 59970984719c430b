import pytest

from udfs.catalog.parsing import parse_item


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        (None, b'{"item_id": "a", "title": "t"}', "no key"),
        (b"b", b'{"item_id": "a", "title": "t"}', "not its `item_id`"),
        (b"a", b'{"item_id": "a"}', "title"),
        (b"a", b'{"item_id": "a", "title": "t", "price": -1}', "price"),
        (b"a", b'{"item_id": "a", "title": "t", "price": 1e999}', "price"),
        (b"a", b'{"item_id": "a", "title": ""}', "title"),
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
