"""Avro through a real schema registry: events and items in, recommendations and closed sessions out."""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from apicurio import apicurio, register
from mini_cluster import MiniCluster
from support import framed, linked_bundles, read_all, send

from flink_jobs.settings.loading import load_settings
from udfs.bundles.bundle import open_bundle
from udfs.bundles.changes import read_changes

pytestmark = pytest.mark.flink

START = 1_767_225_600_000
EVENT = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "event_id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "event_type", "type": {"type": "enum", "name": "Kind", "symbols": ["view", "search", "purchase"]}},
        {"name": "user_id", "type": ["null", "long"], "default": None},
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "item_id", "type": ["null", "string"], "default": None},
        {"name": "query", "type": ["null", "string"], "default": None},
        {
            "name": "price",
            "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}],
            "default": None,
        },
    ],
}
ITEM = {
    "type": "record",
    "name": "Envelope",
    "fields": [
        {
            "name": "after",
            "type": [
                "null",
                {
                    "type": "record",
                    "name": "Value",
                    "fields": [
                        {"name": "item_id", "type": "int"},
                        {"name": "title", "type": "string"},
                        {"name": "stock", "type": "int"},
                    ],
                },
            ],
        },
        {"name": "op", "type": "string"},
    ],
}
KEY = {"type": "record", "name": "Key", "fields": [{"name": "item_id", "type": "int"}]}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with apicurio(tmp_path_factory.mktemp("apicurio")) as url:
        yield url


def event(number: int, kind: str, minute: float, **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"00000000-0000-4000-8000-{number:012d}", "event_type": kind, "user_id": 7,
        "event_time": (START + round(minute * 60_000)) * 1000, **more,
    }  # fmt: skip


def test_avro_in_and_recommendations_out(
    own: Callable[..., list[str]], mini_cluster: MiniCluster, bundles: Path, registry: str, tmp_path: Path
):
    folder = linked_bundles(bundles, tmp_path)
    envelopes = ("clickstream.envelope=schema-registry", "catalog.envelope=schema-registry", f"registry.url={registry}")
    assignments = own(f"bundles={folder}", f"home={tmp_path}", "catalog.columns=in_stock=stock", *envelopes)
    settings = load_settings(None, assignments)
    seen = open_bundle(folder).items().ids[0]
    number, key, item = (
        register(registry, subject, schema)
        for subject, schema in (("clickstream-value", EVENT), ("catalog-key", KEY), ("catalog-value", ITEM))
    )
    lamp = {"op": "c", "after": {"item_id": 4711, "title": "Hand-blown glass hurricane lamp", "stock": 3}}
    items = [(framed(key, KEY, {"item_id": 4711}), framed(item, ITEM, lamp))]
    items.append((framed(key, KEY, {"item_id": 4712}), None))
    send(settings, items, settings.topics.catalog)
    mini_cluster.run("catalog", assignments)
    changes = {row["item_id"]: (row["title"], row["in_stock"]) for row in read_changes(folder).to_pylist()}
    assert changes["4711"] == ("Hand-blown glass hurricane lamp", True)
    assert changes["4712"][0] is None

    first = event(1, "view", 0, item_id=seen, price=Decimal("19.90"))
    second = event(2, "search", 1, query="Hand-blown glass hurricane lamp")
    other = event(4, "search", 1, query="Hand-blown glass hurricane lamp") | {"user_id": 8}
    good = [framed(number, EVENT, record) for record in (first, second, other)]
    third = {"event_id": "3", "event_type": "view", "user_id": "7", "event_time": START + 120_000, "item_id": "4711"}
    schema = register(registry, "json-value", {"$schema": "http://json-schema.org/draft-07/schema#"}, schemaType="JSON")
    good += [json.dumps(third).encode(), b"\0" + schema.to_bytes(4, "big") + json.dumps(third).encode()]
    bad = [b"\0\0\0\x27\x0f" + good[0][5:], good[0][:-4], good[0] + b"x"]
    send(settings, [(b"7", value) for value in good + bad], timestamp_ms=START + 180_000)
    mini_cluster.run("recommend", assignments)
    answers = [json.loads(record.value) for record in read_all(settings, settings.topics.recommendations)]
    by_event = {answer["trigger_event_id"]: answer for answer in answers}
    assert len(answers) == len(by_event) == 4
    last = by_event["3"]
    assert (last["user_id"], last["session_id"], last["session"]["events"]) == ("7", f"7/{START}", 3)
    assert by_event[str(other["event_id"])]["items"][0]["item_id"] == "4711"
    letters = read_all(settings, settings.topics.dlq)
    assert sorted(letter.value for letter in letters) == sorted(bad)
    reasons = sorted(dict(letter.headers)["__connect.errors.exception.message"].decode() for letter in letters)
    assert reasons[0].startswith(f"is not of schema {number}: EOFError")
    assert reasons[1:] == [
        f"is not of schema {number}: there is more behind the record",
        "schema 9999 is not in the registry",
    ]

    # Closed sessions are cut by the records' own times, with the events' times in them.
    mini_cluster.run("session-features", assignments)
    records = [json.loads(record.value) for record in read_all(settings, settings.topics.session_features)]
    closed = {record["session_id"]: record["features"]["events"] for record in records}
    assert closed == {f"7/{START}": 3, f"8/{START + 60_000}": 1}
    assert read_all(settings, settings.topics.late) == []
