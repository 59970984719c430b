"""The catalog job on the embedded mini-cluster, with a real broker and a real bundle."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mini_cluster import MiniCluster
from support import ROOT, linked_bundles, read_all, send

from flink_jobs.jobs.recommend import options as recommend_options
from flink_jobs.settings.loading import load_settings
from udfs.bundles.bundle import open_bundle
from udfs.bundles.changes import FOLDER, read_changes
from udfs.encoder.encoder import open_encoder
from udfs.encoder.options import EncoderOptions
from udfs.recommend.recommender import Recommender
from udfs.sessions.columns import Sessions

pytestmark = pytest.mark.flink


def item(item_id: str, title: str, **more: object) -> tuple[bytes, bytes]:
    return item_id.encode(), json.dumps({"item_id": item_id, "title": title, **more}).encode()


def searched(recommender: Recommender, query: str) -> list[str]:
    """The items recommended after a search alone."""
    sessions = Sessions.from_arrays(
        [0], [0], [1], event_time=[[0]], event_type=[["search"]], query=[[query]], event_id=[["e"]]
    )
    (record,) = recommender.recommend(["nobody"], ["e"], [0], sessions)
    return [each["item_id"] for each in json.loads(record)["items"]]


def test_items_come_change_and_go(
    own: Callable[..., list[str]], mini_cluster: MiniCluster, bundles: Path, tmp_path: Path
):
    home = tmp_path / "my shöp, 100% #1"  # not as a URI has it
    home.mkdir()
    folder = linked_bundles(bundles, home)
    assignments = own(f"bundles={folder}", f"home={home}")
    settings = load_settings(None, assignments)
    topic = settings.topics.catalog
    bundle = open_bundle(folder)
    known = bundle.items()
    removed, sold_out, kept = (known.ids[row] for row in np.flatnonzero(known.in_stock)[:3])
    title_of = dict(zip(known.ids, known.titles, strict=True))
    before = Recommender(recommend_options(settings))
    assert removed in searched(before, title_of[removed])
    assert sold_out in searched(before, title_of[sold_out])

    send(settings, [item("new", "No such thing"), item("new-2", "Brass ship's lantern, tarnished")], topic)
    send(settings, [(removed.encode(), None), item(sold_out, title_of[sold_out], in_stock=False)], topic)
    send(settings, [item("new", "Hand-blown glass hurricane lamp", price=12.5, category="Lamps"), (b"n", None)], topic)
    send(settings, [item(kept, title_of[kept])], topic)
    bad = [(b"k", b'{"item_id": "other", "title": "t"}'), (b"k", b"\xff"), (b"k", b'{"item_id": "k"}')]
    send(settings, bad, topic, headers=[("trace", b"7")])
    mini_cluster.run("catalog", assignments)

    found = {row["item_id"]: row for row in read_changes(folder).to_pylist()}
    assert found.keys() == {"new", "new-2", removed, sold_out, "n", kept}
    assert {name for name, row in found.items() if row["title"] is None} == {removed, "n"}
    assert {row["encoder"] for row in found.values()} == {bundle.space}
    assert (found["new"]["price"], found["new"]["category"], found["new"]["in_stock"]) == (12.5, "Lamps", True)
    encoder = open_encoder(bundle, EncoderOptions(provider="cpu", threads=1))
    expected = encoder.encode([found["new"]["title"]])[0]
    assert np.frombuffer(found["new"]["vector"], "<f4").tolist() == expected.tolist()
    in_bundle = bundle.item_vectors()[known.row_of[kept]]
    assert np.frombuffer(found[kept]["vector"], "<f4").tolist() == in_bundle.tolist()

    letters = read_all(settings, settings.topics.dlq)
    assert {(letter.key, letter.value) for letter in letters} == set(bad)
    for letter in letters:
        headers = dict(letter.headers)
        assert headers["trace"] == b"7"
        assert headers["__connect.errors.topic"] == topic.encode()
        assert headers["__connect.errors.class.name"] == b"udfs.catalog.parse_item"

    after = Recommender(recommend_options(settings))
    assert searched(after, "Hand-blown glass hurricane lamp")[0] == "new"
    assert "new-2" in searched(after, "tarnished brass lantern")
    assert removed not in searched(after, title_of[removed])
    assert sold_out not in searched(after, title_of[sold_out])
    assert kept in searched(after, title_of[kept])

    # A new job goes through the whole topic again, and nothing changes.
    mini_cluster.run("catalog", assignments)
    again = {row["item_id"]: row for row in read_changes(folder).to_pylist()}
    assert again == found
    assert len(list((folder / FOLDER).glob("[!._]*"))) >= 2
    assert searched(Recommender(recommend_options(settings)), "tarnished brass lantern") == searched(
        after, "tarnished brass lantern"
    )


def change(op: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> tuple[bytes, bytes]:
    """A change event of Debezium's connector for PostgreSQL with its default converter, as its documentation shows it.

    op: c, u, d, or r (of a snapshot).
    """
    fields = [
        {"type": "string", "optional": False, "field": "sku"},
        {"type": "string", "optional": False, "field": "name"},
        {"type": "double", "optional": True, "field": "price"},
        {"type": "boolean", "optional": False, "default": True, "field": "available"},
        {
            "type": "int64",
            "optional": True,
            "name": "io.debezium.time.MicroTimestamp",
            "version": 1,
            "field": "changed",
        },
    ]
    row = {"type": "struct", "fields": fields, "optional": True, "name": "shop.public.products.Value"}
    schema = {
        "type": "struct",
        "fields": [row | {"field": "before"}, row | {"field": "after"}, {"type": "string", "field": "op"}],
        "optional": False,
        "name": "shop.public.products.Envelope",
        "version": 2,
    }
    source = {
        "version": "3.0.8.Final", "connector": "postgresql", "name": "shop", "ts_ms": 1767225600000, "db": "shop",
        "snapshot": "first" if op == "r" else "false", "sequence": "[null,\"24023128\"]", "schema": "public",
        "table": "products", "txId": 777, "lsn": 24023128, "xmin": None,
    }  # fmt: skip
    payload = {
        "before": before,
        "after": after,
        "source": source,
        "transaction": None,
        "op": op,
        "ts_ms": 1767225600123,
    }
    key_schema = {"type": "struct", "fields": fields[:1], "optional": False, "name": "shop.public.products.Key"}
    key = {"schema": key_schema, "payload": {"sku": (after or before or {})["sku"]}}
    return json.dumps(key).encode(), json.dumps({"schema": schema, "payload": payload}).encode()


def test_table_of_products_feeds_the_catalog(
    own: Callable[..., list[str]], mini_cluster: MiniCluster, bundles: Path, tmp_path: Path
):
    folder = linked_bundles(bundles, tmp_path)
    columns = "catalog.columns=item_id=sku,title=name,in_stock=available"
    assignments = own(f"bundles={folder}", f"home={tmp_path}", "catalog.envelope=debezium", columns)
    settings = load_settings(None, assignments)
    known = open_bundle(folder).items()
    removed, sold_out, kept = (known.ids[row] for row in np.flatnonzero(known.in_stock)[:3])
    title_of = dict(zip(known.ids, known.titles, strict=True))

    def row(sku: str, name: str, **more: Any) -> dict[str, Any]:
        return {"sku": sku, "name": name, "price": 9.5, "available": True, "changed": 1767225600123456} | more

    before = Recommender(recommend_options(settings))
    assert {removed, sold_out} <= {*searched(before, title_of[removed]), *searched(before, title_of[sold_out])}
    snapshot = [change("r", None, row(item_id, title_of[item_id])) for item_id in (removed, sold_out, kept)]
    draft, lamp = row("4711", "No such thing"), row("4711", "Hand-blown glass hurricane lamp", price=None)
    was = row(sold_out, title_of[sold_out])
    deleted = change("d", {"sku": removed, "name": "", "price": None, "available": True, "changed": None}, None)
    changes = [change("c", None, draft), change("u", draft, lamp), change("u", was, was | {"available": False})]
    letters = [(deleted[0], b'{"schema": null, "payload": {"op": "t", "source": {}}}')]
    send(settings, [*snapshot, *changes, deleted, (deleted[0], None), *letters], settings.topics.catalog)
    mini_cluster.run("catalog", assignments)

    found = {row["item_id"]: row for row in read_changes(folder).to_pylist()}
    assert found.keys() == {"4711", removed, sold_out, kept}
    assert {name for name, row in found.items() if row["title"] is None} == {removed}
    assert (found["4711"]["price"], found[kept]["price"]) == (None, 9.5)
    assert [(letter.key, letter.value) for letter in read_all(settings, settings.topics.dlq)] == letters
    after = Recommender(recommend_options(settings))
    assert searched(after, "Hand-blown glass hurricane lamp")[0] == "4711"
    assert removed not in searched(after, title_of[removed])
    assert sold_out not in searched(after, title_of[sold_out])
    assert kept in searched(after, title_of[kept])


def test_recorded_table_changes_recommendations(
    own: Callable[..., list[str]], mini_cluster: MiniCluster, bundles: Path, tmp_path: Path
):
    """What Debezium made of a table in PostgreSQL (tests/debezium/record.sh), then a shopper's search."""
    folder = linked_bundles(bundles, tmp_path)
    columns = "catalog.columns=item_id=id,title=name,category=department,brand=maker,in_stock=stock,description=details"
    assignments = own(f"bundles={folder}", f"home={tmp_path}", "catalog.envelope=debezium", columns)
    settings = load_settings(None, assignments)
    lines = (ROOT / "tests" / "debezium" / "schemas.jsonl").read_text().splitlines()
    records = [tuple(part and part.encode() for part in json.loads(line).values()) for line in lines]
    searches = {"lantern": "Tarnished brass lantern", "hat": "Waxed cotton rain hat", "chair": "Folding camp chair"}

    def recommended(changes: list[Any]) -> dict[str, list[str]]:
        """The items after each search, once the changes are in."""
        send(settings, changes, settings.topics.catalog)
        mini_cluster.run("catalog", assignments)
        for name, query in searches.items():
            event = {"event_id": f"{name}-{len(changes)}", "event_type": "search", "user_id": name, "query": query}
            send(settings, [(name.encode(), json.dumps(event | {"event_time": 1767225600000}).encode())])
        mini_cluster.run("recommend", assignments)
        answers = [json.loads(record.value) for record in read_all(settings, settings.topics.recommendations)]
        latest = {answer["trigger_event_id"]: answer for answer in answers}
        return {name: [item["item_id"] for item in latest[f"{name}-{len(changes)}"]["items"]] for name in searches}

    snapshot = recommended(records[:6])
    assert (snapshot["lantern"][0], snapshot["chair"][0]) == ("102", "104")
    assert "107" not in snapshot["hat"]
    changed = recommended(records[6:])
    assert "102" not in changed["lantern"]  # sold out
    assert changed["hat"][0] == "107"  # new
    assert changed["chair"][0] == "204"  # another id
    assert not {"104", "105", "108"} & {item for items in changed.values() for item in items}
    assert read_all(settings, settings.topics.dlq) == []
    price = {row["item_id"]: row["price"] for row in read_changes(folder).to_pylist()}
    assert (price["101"], price["107"], price["106"]) == (44.9, 1000, 0.05)
