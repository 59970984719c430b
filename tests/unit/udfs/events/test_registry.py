"""Records behind a schema registry's header; the registry is a local server that answers as told."""

import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.core.errors import ShopstreamError
from udfs.events import registry as module
from udfs.events.parsing import parse_event
from udfs.events.registry import Registry, RegistryOptions

Answers = dict[str, tuple[int, Any]]


class _Handler(BaseHTTPRequestHandler):
    answers: Answers
    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        code, body = self.answers.get(self.path, (404, {"error_code": 40403}))
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Answers, list[tuple[str, str | None]]]]:
    monkeypatch.setattr(module, "PAUSES_S", (0.01, 0.01))
    answers: Answers = {}
    asked: list[tuple[str, str | None]] = []
    handler = type("Handler", (_Handler,), {"answers": answers, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/api/", answers, asked
    server.shutdown()
    server.server_close()


def framed(number: int, schema: Any, record: Any) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), record)
    return b"\0" + number.to_bytes(4, "big") + body.getvalue()


def record_of(**fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": name, "type": kind} for name, kind in fields.items()]}


def test_values_are_those_of_json(served: Any):
    url, answers, asked = served
    moment = {"type": "long", "logicalType": "timestamp-millis"}
    schema = record_of(
        a=moment, b={"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}, c=["null", "string"],
        d="bytes", e={"type": "int", "logicalType": "date"}, f={"type": "array", "items": moment}, g="double",
    )  # fmt: skip
    answers["/api/schemas/ids/7"] = (200, {"schema": json.dumps(schema)})
    when = datetime(2026, 1, 1, tzinfo=UTC)
    value = framed(7, schema, {
        "a": when, "b": Decimal("-19.90"), "c": None, "d": b"ab", "e": date(2026, 1, 2), "f": [when], "g": 0.1,
    })  # fmt: skip
    registry = Registry(RegistryOptions(url))
    expected = {
        "a": 1767225600000, "b": "-19.90", "c": None, "d": {"bytes": 2}, "e": "2026-01-02", "f": [1767225600000],
        "g": 0.1,
    }  # fmt: skip
    assert [json.loads(registry.json_of(value)) for _ in range(3)] == [expected] * 3
    assert [path for path, _ in asked] == ["/api/schemas/ids/7"]  # once


def test_other_schemas(served: Any):
    url, answers, _ = served
    answers["/api/schemas/ids/1"] = (200, {"schemaType": "JSON", "schema": "{}"})
    answers["/api/schemas/ids/2"] = (200, {"schemaType": "PROTOBUF", "schema": "syntax"})
    answers["/api/schemas/ids/3"] = (200, {"schema": '{"type": "nothing"}'})
    answers["/api/schemas/ids/4"] = (
        200, {"schema": json.dumps(record_of(a="Money")), "references": [{"subject": "m/1", "version": 2}]},
    )  # fmt: skip
    answers["/api/subjects/m%2F1/versions/2"] = (200, {"schema": '{"type": "fixed", "name": "Money", "size": 1}'})
    answers["/api/schemas/ids/5"] = (200, {"schema": '"string"', "references": [{"subject": "n", "version": 1}]})
    registry = Registry(RegistryOptions(url))
    assert registry.json_of(b'\0\0\0\0\1{"a": 1}') == b'{"a": 1}'
    assert registry.json_of(b'{"a": 1}') == b'{"a": 1}'
    assert registry.json_of(b"\0\0\0\0\4x") == b'{"a":{"bytes":1}}'
    for value, error in (
        (b"\0\0\0\0\2x", "schema 2 is of type PROTOBUF"),
        (b"\0\0\0\0\3x", "schema 3 cannot be read"),
        (b"\0\0\0\0\5x", "it refers to n, which is not there"),
        (b"\0\0\0\0\x09x", "schema 9 is not in the registry"),
        (b"\0\0\0\0\4", "begins with neither"),
        (b"x", "begins with neither"),
        (b"", "begins with neither"),
        (b"\0\0\0\0\4xy", "is not of schema 4: there is more behind the record"),
    ):
        with pytest.raises(ValueError, match=error):
            registry.json_of(value)
    row = parse_event(b"\0\0\0\0\x09x", "schema-registry", registry)
    assert row[:2] == ("schema 9 is not in the registry", "ValueError")


def test_registry_that_is_down_is_no_fault_of_the_record(served: Any, tmp_path: Path):
    url, answers, asked = served
    answers["/api/schemas/ids/1"] = (503, {})
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    registry = Registry(RegistryOptions(url, "ann", secret))
    with pytest.raises(ShopstreamError, match=r"the schema registry http://127.*/api answers 503"):
        parse_event(b"\0\0\0\0\1x", "schema-registry", registry)
    assert [path for path, _ in asked] == ["/api/schemas/ids/1"] * 3
    assert asked[0][1] == "Basic YW5uOnMzY3JldA=="
    answers["/api/schemas/ids/1"] = (200, {"schema": '"string"'})
    assert registry.json_of(b"\0\0\0\0\1\x02a") == b'"a"'
    answers["/api/schemas/types"] = (401, {})
    with pytest.raises(ShopstreamError, match=r"refuses registry.username or its password \(401\)") as refused:
        registry.check()
    assert "s3cret" not in str(refused.value)
    with pytest.raises(ShopstreamError, match="does not answer"):
        Registry(RegistryOptions("http://127.0.0.1:9")).check()
    with pytest.raises(ShopstreamError, match="cannot be read"):
        Registry(RegistryOptions(url, "ann", tmp_path / "nowhere"))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(TEXTS, TEXTS, st.integers(0, 2**41), st.none() | st.floats(0, 1e300), st.none() | st.integers(1, 2**40))
def test_avro_reads_as_json_does(event_id: str, user: str, time: int, price: float | None, quantity: int | None):
    schema = record_of(
        event_id="string", event_type="string", user_id="string", event_time="long", item_id="string",
        price=["null", "double"], quantity=["null", "long"],
    )  # fmt: skip
    event = {
        "event_id": event_id, "event_type": "purchase", "user_id": user, "event_time": time, "item_id": "i",
        "price": price, "quantity": quantity,
    }  # fmt: skip
    registry = Registry(RegistryOptions("http://127.0.0.1:9"))
    registry._schema = lambda _: module._Schema(avro=fastavro.parse_schema(schema))
    assert parse_event(framed(1, schema, event), "schema-registry", registry) == parse_event(json.dumps(event).encode())


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes):
    schema = record_of(a="string", b=["null", "long", "bytes"], c={"type": "map", "values": "double"})
    registry = Registry(RegistryOptions("http://127.0.0.1:9"))
    registry._schema = lambda _: module._Schema(avro=fastavro.parse_schema(schema))
    row = parse_event(b"\0\0\0\0\1" + body, "schema-registry", registry)
    assert row[0] is not None
