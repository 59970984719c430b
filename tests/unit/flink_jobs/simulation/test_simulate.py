"""The simulator tells the truth about its records, and its sessions carry the signal they are to carry."""

import itertools
import re
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from flink_jobs.simulation.catalog import make_catalog
from flink_jobs.simulation.records import FAULTS, Record
from flink_jobs.simulation.simulate import past_sessions, simulate, write_shop
from flink_jobs.simulation.world import LOCALES, START_MS, ZONES
from udfs.catalog.files import read_catalog
from udfs.core.errors import ShopstreamError
from udfs.events.files import read_events

GAP_MS = 30 * 60_000
TYPES = {"view", "click", "search", "add_to_cart", "remove_from_cart", "purchase", "rate", "impression"}


@pytest.fixture(scope="module")
def catalog() -> list[dict[str, Any]]:
    return make_catalog()


@pytest.fixture(scope="module")
def records(catalog: list[dict[str, Any]]) -> list[Record]:
    return list(simulate(catalog, events=60_000, shoppers=800, bad_share=0.01, duplicate_share=0.01))


@pytest.fixture(scope="module")
def events(records: list[Record]) -> list[dict[str, Any]]:
    """The valid events in order of event time, their times in epoch ms."""
    valid = [r for r in records if r.kind == "valid"]
    return [
        msgspec.json.decode(r.value) | {"event_time": r.event_time_ms}
        for r in sorted(valid, key=lambda r: r.event_time_ms)
    ]


def is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def is_time(value: object) -> bool:
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value):
        return datetime.fromisoformat(value).tzinfo is not None
    return type(value) is int


def broken(value: bytes | None) -> str | None:
    """What breaks the contract of the clickstream topic, None if nothing does."""
    try:
        event = msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "no JSON"
    if not isinstance(event, dict):
        return "no object"
    checks = {
        "event_id": is_text(event.get("event_id")),
        "event_type": event.get("event_type") in TYPES,
        "user_id": is_text(event.get("user_id")),
        "event_time": is_time(event.get("event_time")),
        "item_id": is_text(event.get("item_id")) or event.get("event_type") == "search",
        "query": is_text(event.get("query")) or event.get("event_type") != "search",
        "price": isinstance(event.get("price", 0.0), int | float) and event.get("price", 0.0) >= 0,
        "quantity": type(event.get("quantity", 1)) is int and event.get("quantity", 1) >= 1,
        "rating": event.get("rating", 1) in (1, 2, 3, 4, 5),
        "dwell_ms": type(event.get("dwell_ms", 0)) is int and event.get("dwell_ms", 0) >= 0,
        "session_id": is_text(event.get("session_id", "s")),
        "properties": all(isinstance(v, str) for v in event.get("properties", {}).values()),
    }
    return next((name for name, holds in checks.items() if not holds), None)


def test_titles_distinct_and_prices_plausible(catalog: list[dict[str, Any]]) -> None:
    assert (
        len(catalog) == len({item["item_id"] for item in catalog}) == len({item["title"] for item in catalog}) == 1500
    )
    assert all(
        is_text(item[field]) for item in catalog for field in ("item_id", "title", "description", "category", "brand")
    )
    assert all(item["category"].count(" > ") == 2 for item in catalog)
    assert 0.01 < np.mean([not item["in_stock"] for item in catalog]) < 0.08
    prices = defaultdict(list)
    for item in catalog:
        prices[item["category"]].append(item["price"])
    assert min(map(min, prices.values())) > 0
    assert np.median(prices["Sport > Outdoor > Tents"]) > 5 * np.median(prices["Home > Kitchen > Mugs"])


def test_vocabulary_bounds_the_catalog() -> None:
    assert len({item["title"] for item in make_catalog(25_000)}) == 25_000
    assert len(make_catalog(1)) == 1
    for items in (0, 10**6):
        with pytest.raises(ShopstreamError, match="choose from 1 to"):
            make_catalog(items)


def test_seed_determines_all_bytes(catalog: list[dict[str, Any]]) -> None:
    def run(**how: Any) -> list[Record]:
        return list(simulate(catalog, **({"sessions": 300, "shoppers": 50, "seed": 1} | how)))

    assert make_catalog() == catalog
    assert make_catalog(seed=8) != catalog
    assert run() == run()
    assert run() != run(seed=2)
    ids = [{msgspec.json.decode(r.value)["event_id"] for r in run(bad_share=0, **how)} for how in ({}, {"start_ms": 0})]
    assert not ids[0] & ids[1]


def test_limits_count_records_and_sessions(catalog: list[dict[str, Any]], records: list[Record]) -> None:
    assert sum(r.kind == "valid" for r in records) == 60_000
    whole = [msgspec.json.decode(r.value) for r in simulate(catalog, sessions=5000, shoppers=300, bad_share=0)]
    assert len({event["session_id"] for event in whole}) == 5000
    endless = simulate(catalog, shoppers=3)
    assert len(list(itertools.islice(endless, 100_000))) == 100_000


def test_valid_records_fit_the_contract(records: list[Record]) -> None:
    for record in records:
        if record.kind != "bad":
            assert broken(record.value) is None
            event = msgspec.json.decode(record.value)
            time = event["event_time"]
            ms = time if isinstance(time, int) else round(datetime.fromisoformat(time).timestamp() * 1000)
            assert (event["user_id"].encode(), ms) == (record.key, record.event_time_ms)
    assert {type(msgspec.json.decode(r.value)["event_time"]) for r in records if r.kind == "valid"} == {int, str}


def test_bad_records_cover_every_fault(records: list[Record]) -> None:
    bad = [r for r in records if r.kind == "bad"]
    assert 0.005 < len(bad) / 60_000 < 0.015
    assert {r.reason for r in bad} == set(FAULTS)
    assert all(broken(r.value) for r in bad)


def test_bad_records_lose_no_valid_event(records: list[Record]) -> None:
    valid = {msgspec.json.decode(r.value)["event_id"] for r in records if r.kind == "valid"}
    assert len(valid) == 60_000
    decodable = [r.value for r in records if r.reason in ("price below 0", "unknown event_type", "quantity below 1")]
    assert decodable
    assert not {msgspec.json.decode(value)["event_id"] for value in decodable} & valid


def test_duplicates_repeat_their_original(records: list[Record]) -> None:
    seen = set()
    for record in records:
        if record.kind == "duplicate":
            assert record.value in seen
        seen.add(record.value)
    assert 0.005 < sum(r.kind == "duplicate" for r in records) / 60_000 < 0.015


def test_disorder_is_bounded(catalog: list[dict[str, Any]], records: list[Record]) -> None:
    times = np.array([r.event_time_ms for r in records if r.kind == "valid"])
    late = np.maximum.accumulate(times) - times
    assert 0 < late.max() <= 20_000
    assert 0.005 < (late > 0).mean() < 0.03
    ordered = [r.event_time_ms for r in simulate(catalog, events=5000, disorder_share=0, duplicate_share=0)]
    assert ordered == sorted(ordered)


def test_sessions_are_apart_and_interleave(events: list[dict[str, Any]]) -> None:
    last: dict[str, dict[str, Any]] = {}
    returns = interleaved = 0
    for before, event in itertools.pairwise(events):
        interleaved += before["session_id"] != event["session_id"]
    for event in events:
        if earlier := last.get(event["user_id"]):
            apart = event["event_time"] - earlier["event_time"]
            same = event["session_id"] == earlier["session_id"]
            assert apart < GAP_MS if same else apart > GAP_MS
            returns += not same
        last[event["user_id"]] = event
    assert returns > 1000
    assert interleaved > len(events) / 2


def test_event_shares_are_plausible(events: list[dict[str, Any]]) -> None:
    share = {name: count / len(events) for name, count in Counter(event["event_type"] for event in events).items()}
    assert set(share) == TYPES
    assert share["view"] > share["click"] > share["add_to_cart"] > share["purchase"] > share["remove_from_cart"] > 0.001
    assert 0.05 < share["search"] < 0.2
    assert 5 < len(events) / len({event["session_id"] for event in events}) < 15


def test_purchases_and_removals_need_cart_items(events: list[dict[str, Any]]) -> None:
    carts: dict[str, Counter[str]] = defaultdict(Counter)
    for event in events:
        cart = carts[event["session_id"]]
        if event["event_type"] == "add_to_cart":
            cart[event["item_id"]] += event["quantity"]
        elif event["event_type"] in ("purchase", "remove_from_cart"):
            cart[event["item_id"]] -= event["quantity"]
            assert cart[event["item_id"]] >= 0


def test_popularity_has_a_long_tail(events: list[dict[str, Any]]) -> None:
    counts = sorted(Counter(event["item_id"] for event in events if "item_id" in event).values(), reverse=True)
    assert len(counts) > 1200
    assert 0.2 < sum(counts[:75]) / sum(counts) < 0.7


def test_co_visited_items_are_related(catalog: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
    category = {item["item_id"]: item["category"] for item in catalog}
    sessions = defaultdict(list)
    for event in events:
        if event["event_type"] == "view":
            sessions[event["session_id"]].append(event["item_id"])
    pairs = [pair for viewed in sessions.values() for pair in itertools.pairwise(viewed) if pair[0] != pair[1]]
    same = np.mean([category[a] == category[b] for a, b in pairs])
    shuffled = np.random.default_rng(0).permutation([b for _, b in pairs])
    by_chance = np.mean([category[a] == category[b] for (a, _), b in zip(pairs, shuffled, strict=True)])
    assert same > 8 * by_chance
    after_mugs = Counter(category[b].split(" > ")[2] for a, b in pairs if category[a].endswith("Mugs"))
    assert {name for name, _ in after_mugs.most_common(4)} == {"Mugs", "Teapots", "Coffee makers", "Tea towels"}


def test_searches_find_their_item(catalog: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
    title = {item["item_id"]: item["title"].lower() for item in catalog}
    sessions = defaultdict(list)
    for event in events:
        sessions[event["session_id"]].append(event)
    found = [
        before["query"].split()[-1] in title[after["item_id"]]
        for session in sessions.values()
        for before, after in itertools.pairwise(session)
        if before["event_type"] == "search" and "item_id" in after
    ]
    assert len(found) > 1000
    assert all(found)


def test_any_catalog_works() -> None:
    bare = [{"item_id": str(i), "title": f"THING {i}"} for i in range(40)]
    assert all(broken(r.value) is None for r in simulate(bare, events=500, shoppers=20, bad_share=0))
    with pytest.raises(ShopstreamError, match="empty"):
        simulate([], events=1)


@pytest.mark.parametrize("wrong", [{"shoppers": 0}, {"events": 0}, {"sessions": -1}, {"bad_share": 1.5}])
def test_arguments_out_of_range_are_named(catalog: list[dict[str, Any]], wrong: dict[str, Any]) -> None:
    with pytest.raises(ShopstreamError, match=next(iter(wrong))):
        simulate(catalog, **wrong)


@pytest.mark.parametrize(("sessions", "shoppers"), [(500, 100), (1, 1), (50, 1)])
def test_past_sessions_are_whole_and_ordered(catalog: list[dict[str, Any]], sessions: int, shoppers: int) -> None:
    lines = list(past_sessions(catalog, sessions=sessions, shoppers=shoppers))
    assert all(line.count(b"\n") == 1 and broken(line) is None for line in lines)
    past = [msgspec.json.decode(line) for line in lines]
    assert len({event["session_id"] for event in past}) == sessions
    times = [
        np.datetime64(t.removesuffix("Z"), "ms").astype(int) if isinstance(t := e["event_time"], str) else t
        for e in past
    ]
    assert times == sorted(times)
    assert times[-1] < START_MS


def test_written_files_are_readable(tmp_path: Path) -> None:
    counts = write_shop(tmp_path / "shop", events=3000, sessions=200, items=300, shoppers=100)
    items, dropped = read_catalog(tmp_path / "shop" / "catalog.jsonl")
    assert (items.num_rows, dropped, counts["catalog.jsonl"]) == (300, 0, 300)
    first: dict[str, int] = {}
    for name in ("sessions.jsonl", "events.jsonl"):
        batches = list(read_events(tmp_path / "shop" / name))
        assert sum(batch.num_rows for batch in batches) == counts[name]
        first[name] = batches[0]["event_time"][0].as_py()
    assert counts["events.jsonl"] >= 3000
    assert first["sessions.jsonl"] < START_MS <= first["events.jsonl"]
    (tmp_path / "file").touch()
    with pytest.raises(ShopstreamError, match="cannot be written"):
        write_shop(tmp_path / "file", events=1, sessions=1)


def test_properties_belong_to_the_shopper(events: list[dict[str, Any]]) -> None:
    settings, visits = defaultdict(set), defaultdict(dict)
    for event in events:
        own = dict(event["properties"])
        visits[event["user_id"]].setdefault(event["session_id"], set()).add(own.pop("returning"))
        settings[event["user_id"]].add(tuple(own.items()))
    assert all(set(dict(each)) == {"device", "locale", "timezone"} for [each] in settings.values())
    zones = {(dict(each)["locale"], dict(each)["timezone"]) for [each] in settings.values()}
    assert zones == set(zip(LOCALES, ZONES, strict=True))
    said = [[answer for [answer] in sessions.values()] for sessions in visits.values()]
    assert all(set(later) <= {"true"} for _, *later in said)
    assert 0.5 < np.mean([first == "false" for first, *_ in said]) < 0.9
