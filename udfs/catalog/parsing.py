"""Parses records of the topic `catalog`."""

import math

import msgspec

from udfs.contracts.catalog import CatalogItem

_decoder = msgspec.json.Decoder(CatalogItem)


def parse_item(key: bytes | None, value: bytes | None) -> tuple[str, CatalogItem | None]:
    """Return the item's id, and the item or None if it was removed.

    Raises ValueError, RecursionError or MsgspecError for a record that cannot be read.
    """
    if not key:
        raise ValueError("the record has no key; it has to be the item_id")
    item_id = key.decode()
    if value is None:
        return item_id, None
    item = _decoder.decode(value.decode())
    if item.item_id != item_id:
        raise ValueError("the record's key is not its `item_id`")
    if item.price is not None and math.isinf(item.price):
        raise ValueError("`price` is too large for a double")
    return item_id, item
