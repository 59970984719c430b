import json
from typing import Any

import pytest

from udfs.events.columns import EVENT_COLUMNS
from udfs.events.envelopes import Envelope
from udfs.events.parsing import parse_event

EVENT = {"event_id": "e1", "event_type": "view", "user_id": "u1", "event_time": 1700000000000, "item_id": "i1"}
GOOD = json.dumps(EVENT).encode()


def parsed(value: bytes | None, envelope: Envelope) -> dict[str, object]:
    return dict(zip(EVENT_COLUMNS, parse_event(value, envelope), strict=True))


@pytest.mark.parametrize(
    ("envelope", "value"),
    [
        ("schema-registry", b"\0\0\0\0\x2a" + GOOD),
        ("schema-registry", b"\0{{{{" + GOOD),
        ("schema-registry", GOOD),
        ("connect", b'{"schema": {"type": "struct"}, "payload": %s}' % GOOD),
        ("connect", GOOD),
        ("debezium", b'{"before": null, "after": %s, "op": "c"}' % GOOD),
        ("debezium", b'{"schema": {}, "payload": {"before": null, "after": %s, "op": "r"}}' % GOOD),
        ("debezium", b'{"after": %s, "op": "c"}' % json.dumps(GOOD.decode()).encode()),
        ("cloudevents", b'{"specversion": "1.0", "id": "1", "source": "/", "type": "view", "data": %s}' % GOOD),
    ],
)
def test_envelopes_are_taken_off(envelope: Envelope, value: bytes):
    assert parsed(value, envelope) == parsed(GOOD, "none")


@pytest.mark.parametrize(
    ("envelope", "value", "says"),
    [
        ("schema-registry", b"\x01\x02", "neither a schema registry's header nor `{`"),
        ("schema-registry", b"\0\0\0\0\x2a\x02e1", "malformed"),
        ("connect", b'{"schema": null, "payload": null}', "tombstone"),
        ("debezium", GOOD, "no `after`"),
        ("debezium", b'{"before": {"event_id": "e1"}, "after": null, "op": "d"}', "tombstone"),
        ("debezium", b"{", "truncated"),
        ("debezium", None, "tombstone"),
        ("cloudevents", b"\xff", "malformed"),
        ("segment", b'{"type": "identify", "userId": "u1"}', "track"),
        ("segment", b'{"type": "track", "event": "Signed Up"}', "is a track event 'Signed Up'"),
    ],
)
def test_other_values_name_the_reason(envelope: Envelope, value: bytes | None, says: str):
    assert says in str(parsed(value, envelope)["error"])


def test_segment_events_are_translated():
    call: dict[str, Any] = {
        "type": "track",
        "event": "Product Added",
        "messageId": "m1",
        "userId": "u1",
        "anonymousId": "c1",
        "timestamp": "2023-11-14T22:13:20.000Z",
        "properties": {"product_id": "i1", "price": "19.90", "quantity": 2, "name": "Mug"},
        "context": {"device": {"type": "ios"}, "locale": "en-US", "timezone": "Europe/Berlin"},
    }
    row = parsed(json.dumps(call).encode(), "segment")
    assert row == parsed(GOOD, "none") | {
        "event_id": "m1", "event_type": "add_to_cart", "price": 19.9, "quantity": 2,
        "device": "ios", "locale": "en-US", "timezone": "Europe/Berlin", "anonymous_id": "c1",
    }  # fmt: skip
    search = call | {"event": "Products Searched", "properties": {"query": "mug"}}
    assert parsed(json.dumps(search).encode(), "segment")["query"] == "mug"
