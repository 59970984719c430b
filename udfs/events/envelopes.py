"""Takes envelopes off Kafka values, and names the envelope that an unreadable value is still in."""

from base64 import b64decode
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from udfs.events.record_values import found, read_id
from udfs.events.registry import HEADER, Registry, without_header

Envelope = Literal["none", "schema-registry", "connect", "debezium", "cloudevents", "segment"]

#: Event types of Segment's track events.
SEGMENT_EVENTS = {
    "Product Viewed": "view",
    "Product Clicked": "click",
    "Products Searched": "search",
    "Product Added": "add_to_cart",
    "Product Removed": "remove_from_cart",
    "Order Completed": "purchase",
    "Product List Viewed": "impression",
    "Product Reviewed": "rate",
}


class _Payload(Struct, gc=False):
    payload: Raw = Raw(b"")
    schema: Raw = Raw(b"null")


class _Change(Struct, gc=False):
    """A change event of Debezium, with Kafka Connect's schema and payload around it or without."""

    payload: Raw = Raw(b"")
    after: Raw = Raw(b"")
    schema: Raw = Raw(b"null")


class _Schema(Struct, gc=False):
    """A schema of Kafka Connect, as its JSON converter writes it beside the payload."""

    field: str = ""
    name: str = ""
    parameters: dict[str, str] = {}
    fields: tuple["_Schema", ...] = ()


class _Data(Struct, gc=False):
    data: Raw


class _Track(Struct, gc=False, rename="camel"):
    """A call of Segment's `track`: https://segment.com/docs/connections/spec/track."""

    type: str
    event: str = ""
    message_id: Raw = Raw(b"null")
    user_id: Raw = Raw(b"null")
    anonymous_id: Raw = Raw(b"null")
    timestamp: Raw = Raw(b"null")
    properties: dict[str, Raw] = {}
    context: dict[str, Any] = {}


def unwrapped(value: bytes, envelope: Envelope, registry: Registry | None = None) -> bytes | None:
    """Return the JSON inside an envelope; None where that is null, as after a delete.

    registry: knows the schemas of Avro behind a schema registry's header. Raises ValueError or MsgspecError for a value
    that is in no such envelope.
    """
    inner = registry.json_of(value) if registry and envelope == "schema-registry" else _OPENERS[envelope](value)
    return None if inner == b"null" else inner


def unwrapped_key(key: bytes, column: str, registry: Registry | None = None) -> str:
    """Return the id in a key: the key itself, or a value of its JSON, as converters of Kafka Connect write keys.

    column: of a key with several members, the one that has the id. registry: knows the schemas of keys in Avro. Raises
    ValueError where it has none.
    """
    inner = key
    if key[:1] == b"\0" and len(key) > HEADER:
        inner = registry.json_of(key) if registry else key[HEADER:]
    if inner.startswith(b"Struct{"):
        raise ValueError(
            "the record's key is a text of Kafka Connect's StringConverter; set "
            "key.converter=org.apache.kafka.connect.json.JsonConverter in the connector"
        )
    try:
        content = msgspec.json.decode(inner)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return inner.decode()
    if isinstance(content, dict) and content.keys() == {"schema", "payload"}:
        content = msgspec.json.decode(_payload(inner))
        if content is None:
            raise ValueError(f"the record's key has no `{column}`")
    if isinstance(content, dict):
        content = next(iter(content.values())) if len(content) == 1 else content.get(column)
        content = with_own_scale(content)
        if content is None or isinstance(content, dict | list):
            raise ValueError(f"the record's key has no `{column}`")
        return str(read_id(content))
    return content if isinstance(content, str) else inner.decode()


def with_own_scale(value: object) -> object:
    """Return a decimal that has its scale beside it as text, as Debezium writes NUMERIC; anything else as it came."""
    if isinstance(value, dict) and value.keys() == {"scale", "value"}:
        return _decimal(*msgspec.convert((value["value"], value["scale"]), tuple[str, int]))
    return value


def envelope_of(value: bytes, topic: str) -> str | None:
    """Return why a value cannot be read if that is its envelope, and which setting of the topic takes it off."""
    if value[:1] == b"\0" and len(value) > HEADER:
        header = f"begins with a schema registry's header (magic byte 0, schema id {int.from_bytes(value[1:HEADER])})"
        is_json = value[HEADER:].lstrip()[:1] == b"{"
        advice = (
            f"set {topic}.envelope=schema-registry"
            if is_json
            else f"what follows is no JSON; to read Avro, set {topic}.envelope=schema-registry and registry.url"
        )
        return f"{header}; {advice}"
    try:
        fields = msgspec.json.decode(value)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
    if not isinstance(fields, dict):
        return None
    name = _name(fields)
    return name and f"is an envelope ({_NAMES[name]}); set {topic}.envelope={name}"


_NAMES: Mapping[str, str] = {
    "connect": "Kafka Connect, schema and payload",
    "debezium": "Debezium, a change event",
    "cloudevents": "CloudEvents",
    "segment": "Segment",
}


def _name(fields: Mapping[str, Any]) -> str | None:
    payload = fields.get("payload")
    inside = payload if isinstance(payload, dict) else fields
    if "op" in inside and ("after" in inside or "before" in inside):
        return "debezium"
    if "schema" in fields and "payload" in fields:
        return "connect"
    if "specversion" in fields and "type" in fields:
        return "cloudevents"
    return "segment" if "type" in fields and "messageId" in fields else None


def _payload(value: bytes) -> bytes:
    record = msgspec.json.decode(value, type=_Payload)
    if not record.payload:  # its converter writes no schemas
        return value
    return _with_decimals(bytes(record.payload), _decimals(bytes(record.schema), ""))


def _after(value: bytes) -> bytes:
    change = msgspec.json.decode(value, type=_Change)
    decimals: frozenset[tuple[str, int]] = frozenset()
    if change.payload:
        decimals = _decimals(bytes(change.schema), "after")
        change = msgspec.json.decode(change.payload, type=_Change)
    if not change.after:
        raise ValueError("is no change event of Debezium: it has no `after`")
    after = bytes(change.after)
    if after[:1] == b'"':  # MongoDB's is a text
        return msgspec.json.decode(after, type=str).encode()
    return _with_decimals(after, decimals)


@lru_cache(maxsize=64)
def _decimals(schema: bytes, within: str) -> frozenset[tuple[str, int]]:
    """Return names and scales of the decimals in Kafka Connect's schema of a record.

    within: of the record in this field; "": in the record itself. A connector's records have few schemas.
    """
    try:
        fields = msgspec.json.decode(schema, type=_Schema | None)
    except msgspec.MsgspecError:
        return frozenset()
    if within and fields:
        fields = next((field for field in fields.fields if field.field == within), None)
    return frozenset(
        (field.field, int(field.parameters.get("scale", "0")))
        for field in (fields.fields if fields else ())
        if field.name == "org.apache.kafka.connect.data.Decimal"
    )


def _with_decimals(record: bytes, decimals: frozenset[tuple[str, int]]) -> bytes:
    """Return a JSON record with decimals, which Kafka Connect writes as the Base64 of a whole number, as text."""
    if not decimals:
        return record
    fields = msgspec.json.decode(record)
    for name, scale in decimals if isinstance(fields, dict) else ():
        if isinstance(written := fields.get(name), str):
            fields[name] = _decimal(written, scale)
    return msgspec.json.encode(fields)


def _decimal(written: str, scale: int) -> str:
    try:
        unscaled = int.from_bytes(b64decode(written, validate=True), "big", signed=True)
        return str(Decimal(f"{unscaled}e{-scale}"))
    except (ValueError, ArithmeticError):
        raise ValueError(f"{found(written)} with the scale {scale} is no decimal in Base64") from None


def _data(value: bytes) -> bytes:
    return bytes(msgspec.json.decode(value, type=_Data).data)


def _track(value: bytes) -> bytes:
    call = msgspec.json.decode(value, type=_Track)
    if call.type != "track":
        raise ValueError(f"is a Segment call '{call.type[:40]}'; only `track` is read")
    kind = SEGMENT_EVENTS.get(call.event)
    if kind is None:
        raise ValueError(f"is a track event '{call.event[:40]}'; those that are read are {', '.join(SEGMENT_EVENTS)}")
    given = call.properties
    device = call.context.get("device")
    fields: dict[str, Any] = {
        "event_id": call.message_id,
        "event_type": kind,
        "user_id": call.user_id,
        "anonymous_id": call.anonymous_id,
        "event_time": call.timestamp,
        "item_id": given.get("product_id", given.get("sku")),
        "items": _lines(given["products"]) if "products" in given else None,
        "properties": {
            "device": device.get("type") if isinstance(device, dict) else None,
            "timezone": call.context.get("timezone"),
            "locale": call.context.get("locale"),
        },
    }
    fields |= {name: given[name] for name in ("query", "price", "quantity", "rating") if name in given}
    return msgspec.json.encode(fields)


def _lines(products: Raw) -> list[dict[str, Any]]:
    return [
        {
            "item_id": line.get("product_id", line.get("sku")),
            "price": line.get("price"),
            "quantity": line.get("quantity"),
        }
        for line in msgspec.json.decode(products, type=list[dict[str, Any]])
    ]


_OPENERS: Mapping[Envelope, Callable[[bytes], bytes]] = {
    "none": lambda value: value,
    "schema-registry": without_header,
    "connect": _payload,
    "debezium": _after,
    "cloudevents": _data,
    "segment": _track,
}
