"""Parses records of the topic `catalog`."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from udfs.contracts.catalog import CatalogItem
from udfs.events.envelopes import Envelope, envelope_of, unwrapped, unwrapped_key, with_own_scale
from udfs.events.record_values import BOM, found, read_id, read_number, read_text
from udfs.events.registry import Registry
from udfs.events.values import RefusedError, stock

#: Stands for a long value that an update left as it was.
UNAVAILABLE = "__debezium_unavailable_value"

_decoder = msgspec.json.Decoder(CatalogItem)


class _Flat(msgspec.Struct):
    """A row by Debezium's ExtractNewRecordState."""

    deleted: Any = msgspec.field(default=False, name="__deleted")


def parse_item(
    key: bytes | None,
    value: bytes | None,
    envelope: Envelope = "none",
    columns: Mapping[str, str] | None = None,
    registry: Registry | None = None,
) -> tuple[str, CatalogItem | None]:
    """Return the item's id, and the item or None if it was removed.

    columns: names in the record, by fields of CatalogItem, that are not the fields' own. registry: knows the
    schemas of Avro. Raises ValueError, RecursionError or MsgspecError for a record that cannot be read.
    """
    if not key:
        raise ValueError("the record has no key; it has to be the item_id")
    columns = columns or {}
    if envelope == "none":
        item_id = key.decode()
    else:
        item_id = unwrapped_key(key, columns.get("item_id", "item_id"), registry)
        value = unwrapped(value, envelope, registry) if value is not None else None
    if value is None:
        return item_id, None
    if value[:1] == b"\0":
        raise ValueError(envelope_of(value, "catalog") or "begins with a zero byte")
    text = value.decode()
    if b'"__deleted"' in value and msgspec.json.decode(value, type=_Flat).deleted in (True, "true"):
        return item_id, None
    try:
        item = _decoder.decode(text) if not columns else _tolerant(text.removeprefix(BOM), columns)
    except msgspec.DecodeError as error:
        item = _tolerant(text.removeprefix(BOM), columns, error)
    if item.item_id != item_id:
        advice = "; set catalog.envelope=connect" if envelope == "none" and key[:1] == b"{" else ""
        raise ValueError(f"the record's key is not its `item_id`{advice}")
    if item.price is not None and math.isinf(item.price):
        raise ValueError("`price` is too large for a double")
    for name in ("title", "category", "brand"):
        if getattr(item, name) == UNAVAILABLE:
            raise ValueError(
                f"`{name}` is '{UNAVAILABLE}': PostgreSQL leaves out long values that did not change; "
                "give the table REPLICA IDENTITY FULL"
            )
    return item_id, item


def _tolerant(text: str, columns: Mapping[str, str], refused: msgspec.DecodeError | None = None) -> CatalogItem:
    """Decode a record that breaks the contract to the letter, by the rules of udfs.events.record_values.

    refused: the decoder's error, raised again for what is no JSON object.
    """
    try:
        record = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise refused or error from None
    if not isinstance(record, dict):
        raise refused or ValueError("the record is no JSON object")
    if columns.get("item_id", "item_id") not in record and (why := envelope_of(text.encode(), "catalog")):
        raise ValueError(why)
    readers = {"item_id": read_id, "price": read_number, "in_stock": _read_stock}
    fields: dict[str, Any] = {}
    for name in ("item_id", "title", "description", "category", "brand", "price", "in_stock", "locale"):
        value = with_own_scale(record.get(columns.get(name, name)))
        if value is not None:  # a null is as good as absent
            fields[name] = readers.get(name, read_text)(value)
    if fields.get("in_stock", True) is None:
        del fields["in_stock"]
    if isinstance(fields.get("price"), str):
        raise msgspec.ValidationError(
            f"`price` is {found(fields['price'])}, which is no number with a decimal point. With "
            "decimal.handling.mode=string, Debezium writes one"
        )
    return msgspec.convert(fields, CatalogItem)


def _read_stock(value: object) -> object:
    """Return what a file's column would be read as: words, or a number of pieces."""
    try:
        return stock(value)
    except RefusedError as error:
        raise ValueError(f"`in_stock` is {found(value)}: {error}") from None
