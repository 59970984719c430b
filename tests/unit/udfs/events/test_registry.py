"""Records behind a schema registry's header; the registry is a local server that answers as told."""

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
from support import framed

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
        if code == 302:
            self.send_header("Location", body)
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
        (b"\0\0\0\0\2x", "schema 2 cannot be read: it is of type PROTOBUF"),
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
    answers["/api/schemas/types"] = (404, {})
    with pytest.raises(ShopstreamError, match="is not the address of a schema registry"):
        registry.check()
    answers["/api/schemas/types"] = (200, ["AVRO"])
    registry.check()
    with pytest.raises(ShopstreamError, match="does not answer"):
        Registry(RegistryOptions("http://127.0.0.1:9")).check()
    with pytest.raises(ShopstreamError, match="cannot be read"):
        Registry(RegistryOptions(url, "ann", tmp_path / "nowhere"))


def test_schema_that_comes_later_is_found(served: Any, monkeypatch: pytest.MonkeyPatch):
    url, answers, asked = served
    registry = Registry(RegistryOptions(url))
    for value in (b"\0\0\0\0\7\x02a", b"\0\0\0\0\7\x02a", b"\0\xff\xff\xff\xff\x02a"):
        with pytest.raises(ValueError, match="is not in the registry"):
            registry.json_of(value)
    assert len(asked) == 1
    answers["/api/schemas/ids/7"] = (200, {"schema": '"string"'})
    monkeypatch.setattr(module, "ASK_AGAIN_S", 0)
    registry = Registry(RegistryOptions(url))
    answers["/api/schemas/ids/8"] = (422, {})
    with pytest.raises(ValueError, match="schema 8 is not in the registry"):
        registry.json_of(b"\0\0\0\0\x08\x02a")
    answers["/api/schemas/ids/8"] = (200, {"schema": '"string"'})
    assert registry.json_of(b"\0\0\0\0\x08\x02a") == b'"a"'


def test_password_goes_to_no_other_address(served: Any, tmp_path: Path):
    url, answers, asked = served
    secret = tmp_path / "password"
    secret.write_text("s3cret")
    answers["/api/schemas/ids/1"] = (302, "/api/elsewhere")
    answers["/api/elsewhere"] = (200, {"schema": '"string"'})
    Registry(RegistryOptions(url, "ann", secret)).json_of(b"\0\0\0\0\1\x02a")
    assert asked == [("/api/schemas/ids/1", "Basic YW5uOnMzY3JldA=="), ("/api/elsewhere", None)]


NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
EMPTY = {"type": "record", "name": "Empty", "fields": []}


@pytest.mark.parametrize(
    ("schema", "value", "error"),
    [
        (NODE, b"\x02" * 5000 + b"\0", "`Node` refers to itself"),
        ({"type": "map", "values": {"type": "array", "items": NODE}}, b"\0", "`Node` refers to itself"),
        ({"type": "array", "items": "null"}, b"\x80\x80\x80\x80\x80\x01\0", "items that take no bytes"),
        ({"type": "array", "items": EMPTY}, b"\x80\x80\x80\x80\x80\x01\0", "items that take no bytes"),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
            b"\xc0\x84\x3d" + b"1" * 500_000, "a decimal of 500,000 bytes",
        ),
        ({"type": "record", "name": "x", "fields": 5}, b"\0", "cannot be read: "),
        ([], b"\0", "is not of schema 1"),
    ],
)  # fmt: skip
def test_short_values_are_neither_deep_nor_large(served: Any, schema: Any, value: bytes, error: str):
    url, answers, _ = served
    answers["/api/schemas/ids/1"] = (200, {"schema": json.dumps(schema)})
    with pytest.raises(ValueError, match=error):
        Registry(RegistryOptions(url)).json_of(b"\0\0\0\0\1" + value)


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
    registry._schema = lambda _: fastavro.parse_schema(schema)
    assert parse_event(framed(1, schema, event), "schema-registry", registry) == parse_event(json.dumps(event).encode())


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes):
    schema = record_of(a="string", b=["null", "long", "bytes"], c={"type": "map", "values": "double"})
    registry = Registry(RegistryOptions("http://127.0.0.1:9"))
    registry._schema = lambda _: fastavro.parse_schema(schema)
    row = parse_event(b"\0\0\0\0\1" + body, "schema-registry", registry)
    assert row[0] is not None
