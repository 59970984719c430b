import json
import math
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.features import as_sessions, in_progress, make_events, make_items, must_agree, with_pandas
from flink_jobs.simulation.catalog import make_catalog
from udfs.catalog.attributes import Catalog
from udfs.contracts.clickstream import EVENT_TYPES, INTERACTIONS
from udfs.core.arrays import FEW, Floats, Ints, Texts, factorize
from udfs.core.errors import ShopstreamError
from udfs.core.exact import to_grid
from udfs.events.columns import PACKED
from udfs.features.activity import PLURAL
from udfs.features.compute import compute_batch, compute_columns, compute_features
from udfs.features.items import CENTRE_WEIGHT
from udfs.features.page import page
from udfs.features.registry import FEATURES, arrow_schema, feature, load_modules
from udfs.features.zones import _zone, _zone_names, utc_offset_ms
from udfs.schemas.generate import json_schema
from udfs.sessions.cleaning import BOUNDS
from udfs.sessions.columns import Sessions
from udfs.sessions.frame import EventFrame

Event = dict[str, object]

ITEMS = tuple("abcdefgh")
CATALOG = Catalog(
    row_of={item: row for row, item in enumerate(ITEMS)},
    category=np.array([0, 0, 1, -1, 2, 2, 0, 1]),
    brand=np.array([0, 1, 1, -1, 0, 2, 3, 1]),
    vectors=to_grid(np.random.default_rng(1).normal(size=(8, 24))),
)


def sessions(*events_of: list[Event], counts: list[int] | None = None) -> Sessions:
    def column(name: str) -> list[np.ndarray]:
        return [np.array([event.get(name) for event in events], dtype=object) for events in events_of]

    times = [np.array([event["event_time"] for event in events]) for events in events_of]
    return Sessions.from_arrays(
        [min(time) for time in times],
        [max(time) for time in times],
        counts or [len(events) for events in events_of],
        **{name: column(name) for name in PACKED},
    )


def computed(*events_of: list[Event], catalog: Catalog | None = CATALOG) -> list[dict[str, object]]:
    return compute_features(sessions(*events_of), catalog)


def bits(found: Sessions) -> list[tuple[bytes | object, ...]]:
    """Every feature of each session, floats as their eight bytes."""
    columns = compute_columns(found, CATALOG).values()
    plain = [column.astype(np.float64).view(np.int64) if column.dtype.kind in "if" else column for column in columns]
    return list(zip(*(column.tolist() for column in plain), strict=True))


@pytest.fixture
def own() -> Iterator[None]:
    """Features declared in a test are gone after it."""
    before = dict(FEATURES)
    yield
    FEATURES.clear()
    FEATURES.update(before)


# --- by hand ----------------------------------------------------------------------------------------------------------

TOKYO = {"device": "phone", "timezone": "Asia/Tokyo", "returning": "true", "locale": "ja-JP"}
SHOPPING: list[Event] = [
    {"event_time": 1000, "event_type": "search", "query": "mug", **TOKYO},
    {"event_time": 2000, "event_type": "view", "item_id": "a", "price": 4.0, "dwell_ms": 300},
    {"event_time": 3000, "event_type": "view", "item_id": "b", "price": 6.0},
    {"event_time": 4500, "event_type": "add_to_cart", "item_id": "a", "price": 4.0, "quantity": 2},
    {"event_time": 5000, "event_type": "search", "query": "blue  mug "},
    {"event_time": 5500, "event_type": "impression", "item_id": "d"},
    {"event_time": 6000, "event_type": "add_to_cart", "item_id": "b", "dwell_ms": 100},
    {"event_time": 6500, "event_type": "remove_from_cart", "item_id": "b"},
    {"event_time": 7000, "event_type": "view", "item_id": "a"},
    {"event_time": 7500, "event_type": "rate", "item_id": "a", "rating": 4},
    {"event_time": 8000, "event_type": "add_to_cart", "item_id": "c", "price": 10.0, "quantity": 3, "device": "tablet"},
    {"event_time": 9000, "event_type": "purchase", "item_id": "a", "price": 4.0, "quantity": 1},
]


def test_session_computed_by_hand():
    (row,) = computed(SHOPPING)
    near = {name: row.pop(name) for name in ("price_spread", "price_trend", "category_entropy", "gap_ms_mean", "pace")}
    assert near == pytest.approx(
        {
            "price_spread": math.sqrt(5.44),  # prices 4, 6, 4, 10, 4; mean 5.6
            "price_trend": (-2 * 4 - 1 * 6 + 0 * 4 + 1 * 10 + 2 * 4) / 10,
            "category_entropy": -(8 / 9) * math.log2(8 / 9) - (1 / 9) * math.log2(1 / 9),
            "gap_ms_mean": 8000 / 11,
            "pace": 11 / (8 / 60),
        }
    )
    assert 0 < row.pop("centre_cosine") < 1
    assert 0 < row.pop("centre_spread") < 1
    expected = {
        "views": 3,
        "clicks": 0,
        "searches": 2,
        "adds_to_cart": 3,
        "removals_from_cart": 1,
        "purchases": 1,
        "ratings": 1,
        "impressions": 1,
        "events": 12,
        "position": 11,
        "depth": 2,
        "converted": 1,
        "repeat_views": 1,
        "rating_mean": 4.0,
        "duration_ms": 8000,
        "gap_ms_max": 1500,
        "since_previous_ms": 1000,
        "dwell_ms_sum": 400.0,
        "dwell_ms_mean": 200.0,
        "dwell_ms_max": 300.0,
        "dwell_ms_last": 100.0,
        "hour": 9,
        "weekday": 3,
        "price_mean": 5.6,
        "price_min": 4.0,
        "price_max": 10.0,
        "price_current": 4.0,
        "price_current_to_mean": 4.0 / 5.6,
        "price_current_in_range": 0.0,
        "cart_size": 4,
        "cart_items": 2,
        "cart_value": 34.0,
        "purchase_value": 4.0,
        "distinct_items": 4,
        "distinct_categories": 2,
        "distinct_brands": 2,
        "top_category_share": 8 / 9,
        "last_query": "blue  mug ",
        "last_query_words": 2,
        "refinements": 1,
        "device": "tablet",
        "locale": "ja-JP",
        "visitor": "returning",
    }
    assert {name: row[name] for name in expected} == expected


def test_unknown_is_none_and_counts_zero():
    (row,) = computed([{"event_time": 5, "event_type": "view"}], catalog=None)
    unknown = {name for name, value in row.items() if value is None}
    assert unknown >= {
        *("rating_mean", "pace", "gap_ms_mean", "gap_ms_max", "since_previous_ms"),
        *("dwell_ms_mean", "dwell_ms_max", "dwell_ms_last"),
        *("price_mean", "price_min", "price_max", "price_spread", "price_trend"),
        *("price_current", "price_current_to_mean", "price_current_in_range"),
        *("distinct_categories", "distinct_brands", "category_entropy", "top_category_share"),
        *("centre_cosine", "centre_spread", "last_query", "device", "locale", "visitor"),
    }
    assert {value for name, value in row.items() if name not in unknown} == {0, 1, 3}
    assert row["weekday"] == 3
    assert row["hour"] == row["distinct_items"] == row["cart_value"] == row["dwell_ms_sum"] == 0


def test_no_sessions_have_no_features():
    assert compute_features(sessions()) == []
    assert compute_batch(sessions()).schema == arrow_schema()


def test_counts_cover_the_whole_session():
    (row,) = compute_features(sessions(SHOPPING[-2:], counts=[500]))
    assert row["events"] == 500
    assert row["views"] == 0
    assert row["position"] == 2


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_each_event_type_is_counted(kind: str):
    event: Event = {"event_type": kind, "item_id": "a", "query": "q"}
    (row,) = computed([event | {"event_time": time} for time in range(3)])
    counted = {name for name, declared in FEATURES.items() if declared.unit == "events" and row[name] == 3}
    assert counted - {"position", "events"} == {PLURAL[kind]}


@pytest.mark.parametrize(
    ("moves", "left"),
    [
        ("+2 +1", 3),
        ("+2 -1", 1),
        ("-2 +1", 1),
        ("+1 -5 +2", 2),
        ("+3 -", 0),
        ("+ + -1", 1),
        ("+3 b1 b1", 1),
        ("+3 b +2", 2),
        ("+1000000 -999999", 1),
        ("+9000000 -", 0),
        ("+9000000 +2", 3),
    ],
)
def test_cart_balance_is_never_negative(moves: str, left: int):
    kinds = {"+": "add_to_cart", "-": "remove_from_cart", "b": "purchase"}
    events: list[Event] = [
        {"event_time": time, "event_type": kinds[move[0]], "item_id": "a", "price": 2.5}
        | ({"quantity": int(move[1:])} if move[1:] else {})
        for time, move in enumerate(moves.split())
    ]
    (row,) = computed(events)
    assert (row["cart_size"], row["cart_items"], row["cart_value"]) == (left, int(left > 0), left * 2.5)


def test_equal_prices_have_zero_spread():
    (row,) = computed([{"event_time": time, "event_type": "view", "item_id": "a", "price": 0.1} for time in range(7)])
    assert row["price_spread"] == row["price_trend"] == row["category_entropy"] == 0
    assert row["price_current_in_range"] is None


def test_negative_zero_is_zero():
    (row,) = computed([{"event_time": 1, "event_type": "view", "price": -0.0}])
    assert str(row["price_min"]) == str(row["price_max"]) == "0.0"


def test_infinite_values_are_unknown():
    events: list[Event] = [{"event_time": time, "event_type": "view", "price": 1e308} for time in range(3)]
    assert computed(events)[0]["price_mean"] is None


def test_long_texts_are_cut():
    (row,) = computed(
        [{"event_time": 1, "event_type": "search", "query": "mug " * 99, "device": "x" * 999, "timezone": "y" * 999}]
    )
    assert row["last_query"] == "mug " * 64
    assert row["last_query_words"] == 64
    assert row["device"] == "x" * 256
    assert row["hour"] == 0


@pytest.mark.parametrize(
    ("said", "visitor"), [("true", "returning"), ("FALSE", "new"), ("perhaps", None), ("", None), (None, None)]
)
def test_visitor_follows_returning_property(said: str | None, visitor: str | None):
    assert computed([{"event_time": 1, "event_type": "view", "returning": said}])[0]["visitor"] == visitor


def test_centre_of_one_item():
    (row,) = computed([{"event_time": time, "event_type": "view", "item_id": "b"} for time in range(4)])
    assert row["centre_cosine"] == 1
    assert row["centre_spread"] == pytest.approx(0, abs=1e-15)


def test_centre_is_weighted_mean():
    more: list[Event] = [{"event_time": place, "event_type": "view", "item_id": ITEMS[place]} for place in range(2, 7)]
    row = computed(SHOPPING[:3], SHOPPING + more, SHOPPING[2:5])[1]
    weight = dict.fromkeys(ITEMS, 0)
    for event in SHOPPING + more:
        if "item_id" in event:
            weight[event["item_id"]] += CENTRE_WEIGHT[event["event_type"]]
    vectors = CATALOG.vectors.astype(np.float64)
    centre = sum(weight[item] * vectors[row] for item, row in CATALOG.row_of.items())
    length = np.linalg.norm(vectors, axis=1)
    assert row["centre_cosine"] == pytest.approx(centre @ vectors[0] / np.linalg.norm(centre) / length[0], abs=1e-12)
    parts = sum(weight[item] * length[row] for item, row in CATALOG.row_of.items())
    assert row["centre_spread"] == pytest.approx(1 - np.linalg.norm(centre) / parts, abs=1e-12)


def test_longest_centre_is_exact():
    """Of 1500 events the last 1024 speak: sums just below 2^24."""
    vectors = to_grid(np.eye(24)[:8])
    events: list[Event] = [
        {"event_time": time, "event_type": "add_to_cart", "item_id": "b" if time < 476 else "a"} for time in range(1499)
    ]
    events.append({"event_time": 1499, "event_type": "view", "item_id": "c"})
    axes = Catalog(CATALOG.row_of, CATALOG.category, CATALOG.brand, vectors)
    (row,) = computed(events, catalog=axes)
    square = 4080**2
    assert row["centre_cosine"] == 2 * square / math.sqrt(((4 * 1023) ** 2 + 2**2) * square * square)


# --- clocks -----------------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(sorted(_zone_names())),
    st.lists(st.integers(-2_500_000_000_000, 4_200_000_000_000), min_size=1, max_size=5),
)
def test_utc_offsets_match_zoneinfo(zone: str, times: list[int]):
    found = utc_offset_ms(np.full(len(times), zone, dtype=object), np.array(times))
    info = _zone(zone)
    start = datetime(1970, 1, 1, tzinfo=UTC)
    expected = [(start + timedelta(milliseconds=time)).astimezone(info).utcoffset() for time in times]
    assert found.tolist() == [offset / timedelta(milliseconds=1) for offset in expected]


@pytest.mark.parametrize(
    ("zone", "time", "hour", "weekday"),
    [
        (None, "2024-02-29T23:30:00", 23, 3),
        ("UTC", "2024-02-29T23:30:00", 23, 3),
        ("+02:00", "2024-02-29T23:30:00", 1, 4),
        ("-03:30", "2024-02-29T02:00:00", 22, 2),
        ("Europe/Berlin", "2024-03-31T00:59:59", 1, 6),
        ("Europe/Berlin", "2024-03-31T01:00:00", 3, 6),
        ("Asia/Kolkata", "1969-12-31T20:00:00", 1, 3),
        ("Europe/Atlantis", "2024-02-29T23:30:00", 23, 3),
        ("../UTC", "2024-02-29T23:30:00", 23, 3),
        ("+25:00", "2024-02-29T23:30:00", 23, 3),
        ("Europe/Berlin", "9999-12-31T23:30:00", 0, 5),
        ("America/New_York", "0001-01-01T00:30:00", 19, 6),
    ],
)
def test_hour_and_weekday_are_local(zone: str | None, time: str, hour: int, weekday: int):
    when = int(np.datetime64(time, "ms").astype(np.int64))
    (row,) = computed([{"event_time": when, "event_type": "view", "timezone": zone}])
    assert (row["hour"], row["weekday"]) == (hour, weekday)


# --- the same bits, whatever comes beside, before or twice ------------------------------------------------------------

events = st.fixed_dictionaries(
    {
        "event_id": st.sampled_from(["e1", "e2", "e10", "é"]) | st.uuids().map(str),
        "event_time": st.integers(0, 4) | st.integers(0, 10**13),
        "event_type": st.sampled_from(EVENT_TYPES),
    },
    optional={
        "item_id": st.sampled_from([*ITEMS, "unheard of", ""]),
        "query": st.sampled_from(["mug", "blue mug", "\u00a0mug\u3000cup ", " "]),
        "price": st.sampled_from([0.0, -0.0, 0.1, 0.3, 1e-300, 1e300]) | st.floats(0, 1e4),
        "quantity": st.integers(1, 5) | st.just(2.0**63),
        "rating": st.floats(1, 5),
        "dwell_ms": st.integers(0, 10**6),
        "device": st.sampled_from(["phone", "x" * 300]),
        "timezone": st.sampled_from(["Europe/London", "+05:30", "nowhere"]),
        "returning": st.sampled_from(["true", "false", "?"]),
        "locale": st.just("en-GB"),
    },
).map(lambda event: event | ({"query": "mug"} if event["event_type"] == "search" and "query" not in event else {}))
one_session = st.lists(events, min_size=1, max_size=12)
many_sessions = st.lists(one_session, min_size=1, max_size=6)


@given(many_sessions, st.randoms(), st.sampled_from([1, 5, 1000]))
def test_batch_does_not_change_bits(every: list[list[Event]], random: object, block: int):
    alone = [bits(sessions(each))[0] for each in every]
    order = random.sample(range(len(every)), len(every))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("udfs.features.compute.BLOCK", block)
        assert bits(sessions(*every)) == alone
        assert bits(sessions(*(every[place] for place in order))) == [alone[place] for place in order]


@given(many_sessions, st.randoms())
def test_shuffles_and_duplicates_change_no_bit(every: list[list[Event]], random: object):
    mixed = []
    for each in every:
        twice = each + random.choices(each, k=random.randrange(4))
        random.shuffle(twice)
        mixed.append(twice)
    assert bits(sessions(*mixed)) == bits(sessions(*every))


def test_large_batch_does_not_change_bits():
    """Long sessions and short ones: what NumPy adds in blocks, and BLAS in any order."""
    rng = np.random.default_rng(3)

    def event(place: int) -> Event:
        kind = EVENT_TYPES[rng.integers(8)]
        time = int(rng.integers(10**7))
        known: Event = {"event_id": f"{place}", "event_time": time, "event_type": kind, "query": "mug"}
        return known | {"item_id": ITEMS[rng.integers(8)], "price": rng.random() * 99, "dwell_ms": rng.random() * 1e5}

    every = [[event(place) for place in range(size)] for size in [*rng.geometric(0.1, 300), 64, 700, 1100, 1]]
    alone = [bits(sessions(each))[0] for each in every]
    assert bits(sessions(*every)) == alone
    assert bits(sessions(*every[::-1])) == alone[::-1]


def test_repeats_count_once():
    first, second = SHOPPING[1] | {"event_id": "e"}, SHOPPING[2] | {"event_id": "e"}
    (row,) = computed([second, first, second, first])
    (once,) = computed([first, second])
    assert row == once
    assert row["events"] == 2


def test_dwell_on_current_item_adds_up():
    looks = [("a", 100), ("b", 70), ("a", None), ("b", 5), ("a", 20)]
    every = [
        [{"event_time": n, "event_type": "view", "item_id": item, "dwell_ms": ms} for n, (item, ms) in enumerate(part)]
        for part in (looks, looks[:2], looks[2:3])
    ]
    searched = [*every[0], {"event_time": 9, "event_type": "search", "query": "mug", "dwell_ms": 1000}]
    assert [row["dwell_ms_current"] for row in computed(*every, searched, searched[-1:])] == [120, 70, 0, 120, 0]


# --- against a plain loop ---------------------------------------------------------------------------------------------


def in_bounds(name: str, value: float) -> bool:
    return BOUNDS[name].low <= value <= BOUNDS[name].high


def by_loop(session: list[Event]) -> dict[str, object]:
    """Some features of a session, event by event."""
    known: dict[object, Event] = {}
    for event in sorted(session, key=lambda event: (event["event_time"], str(event["event_id"]).encode())):
        known.setdefault((event["event_id"], event["event_time"]), event)
    rows = [
        {name: value for name, value in row.items() if name not in BOUNDS or in_bounds(name, value)}
        for row in known.values()
    ]
    met = [row for row in rows if row["event_type"] in INTERACTIONS and row.get("item_id") is not None]
    views = [row["item_id"] for row in rows if row["event_type"] == "view" and row.get("item_id") is not None]
    queries = [row["query"] for row in rows if row["event_type"] == "search"]
    dwell = [row["dwell_ms"] for row in rows if "dwell_ms" in row]
    prices = {row["item_id"]: row["price"] for row in rows if "item_id" in row and "price" in row}
    cart: Counter[object] = Counter()
    for row in rows:
        item = row.get("item_id")
        if item is not None and row["event_type"] == "add_to_cart":
            cart[item] += row.get("quantity", 1)
        elif item is not None and row["event_type"] in ("remove_from_cart", "purchase"):
            cart[item] = max(0, cart[item] - row.get("quantity", cart[item]))
    rows_met = [CATALOG.row_of[row["item_id"]] for row in met if row["item_id"] in CATALOG.row_of]
    kinds = Counter(code for code in CATALOG.category[rows_met].tolist() if code >= 0)
    n = sum(kinds.values())
    return {
        "events": len(rows),
        "distinct_items": len({row["item_id"] for row in rows if row.get("item_id") is not None}),
        "repeat_views": len(views) - len(set(views)),
        "dwell_ms_sum": float(sum(dwell)),
        "dwell_ms_last": float(dwell[-1]) if dwell else None,
        "price_current": prices.get(met[-1]["item_id"]) if met else None,
        "cart_size": sum(cart.values()),
        "cart_items": sum(size > 0 for size in cart.values()),
        "distinct_categories": len(kinds),
        "category_entropy": pytest.approx(sum(c / n * math.log2(n / c) for c in kinds.values()), 1e-12) if n else None,
        "top_category_share": max(kinds.values()) / n if n else None,
        "last_query": queries[-1] if queries else None,
        "last_query_words": len(queries[-1].split()) if queries else 0,
        "refinements": len(list(groupby(queries))) - 1 if queries else 0,
    }


def of_one_content(session: list[Event]) -> list[Event]:
    """One event for each id and time, so that a plain loop knows their order."""
    return list({(event["event_id"], event["event_time"]): event for event in session}.values())


@given(st.lists(one_session.map(of_one_content), min_size=1, max_size=4))
def test_plain_loop_agrees(every: list[list[Event]]):
    for row, each in zip(computed(*every), every, strict=True):
        expected = by_loop(each)
        assert {name: row[name] for name in expected} == expected


def test_pandas_agrees_on_simulated_sessions():
    catalog = make_catalog(300)
    vectors, items = make_items(catalog, 32)
    frame = make_events(catalog, 400)
    for some in (frame, in_progress(frame, 200)):
        must_agree(compute_columns(as_sessions(some), vectors), with_pandas(some, items))


# --- declarations -----------------------------------------------------------------------------------------------------


def test_values_have_declared_types():
    kinds = {"int64": int, "float64": float, "string": str}
    (row,) = computed(SHOPPING)
    for name, declared in FEATURES.items():
        assert type(row[name]) is kinds[declared.dtype], name
    batch = compute_batch(sessions(SHOPPING, SHOPPING[:1]), CATALOG)
    assert batch.schema.equals(arrow_schema(), check_metadata=True)
    assert batch.to_pylist() == computed(SHOPPING, SHOPPING[:1])
    assert batch.schema.field("pace").metadata == {
        b"unit": b"events per minute",
        b"description": FEATURES["pace"].doc.encode(),
    }


def test_records_fit_their_schemas():
    whole = {"session_id": "u/1", "user_id": "u", "session_start": 1, "session_end": 2}
    schema = json_schema("session-features")
    named = schema["$defs"]["SessionFeatures"]["properties"]["features"]["properties"]
    assert list(named) == list(FEATURES)
    validator = jsonschema.Draft202012Validator(schema)
    for row in computed(SHOPPING, SHOPPING[:1]):
        validator.validate(json.loads(json.dumps(whole | {"features": row | {"their_own": 3.5}})))
    assert not validator.is_valid(whole | {"features": {"views": "many"}})


@pytest.mark.usefixtures("own")
def test_feature_is_one_declaration():
    @feature("float64", "currency")
    def dearest_look(e: EventFrame) -> Floats:
        """Highest price of a view."""
        return e.max_of(np.where(e.is_type("view"), e.price, np.nan))

    assert computed(SHOPPING)[0]["dearest_look"] == 6.0
    assert arrow_schema().field("dearest_look").type == pa.float64()
    assert "| `dearest_look` | float64 | currency | Highest price of a view. |" in page()
    assert "dearest_look" in json.dumps(json_schema("recommendations"))
    with pytest.raises(ValueError, match="'dearest_look' is declared twice"):
        feature("float64")(dearest_look)


@pytest.mark.usefixtures("own")
def test_integers_are_cast_to_dtype():
    feature("float64", name="halves", doc="Whole by chance.")(lambda e: e.count)
    feature("int64", name="many", doc="Or not.")(lambda e: e.count > 1)
    columns = compute_columns(sessions(SHOPPING))
    assert (columns["halves"].dtype, columns["many"].dtype) == (np.float64, np.int64)


@pytest.mark.parametrize("length", [0, 1, FEW, FEW + 1])
def test_short_and_long_factorize_agree(length: int):
    chance = np.random.default_rng(length)
    texts = np.array([*"abcde", None], dtype=object)[chance.integers(6, size=length)]
    for values in (texts, chance.integers(9, size=length)):
        codes, different = factorize(values)
        expected, of_pandas = pd.factorize(values)
        assert codes.tolist() == expected.tolist()
        assert different.tolist() == of_pandas.tolist()
        assert different.dtype == values.dtype


@pytest.mark.usefixtures("own")
def test_feature_of_wrong_shape_is_named():
    feature("float64", name="all_prices", doc="Not one value a session.")(lambda e: e.price)
    with pytest.raises(ValueError, match="'all_prices' returns shape"):
        computed(SHOPPING)


@pytest.mark.usefixtures("own")
def test_own_modules_are_loaded_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = "from udfs.features import feature\n\n@feature('int64')\ndef {name}(e):\n    return e.count * 2\n"
    (tmp_path / "our_features.py").write_text(source.format(name="doubled"))
    (tmp_path / "half_done.py").write_text(source.format(name="begun") + "1 / 0\n")
    (tmp_path / "clashing.py").write_text(source.format(name="views"))
    load_modules(["our_features"])
    load_modules(["our_features"])
    assert computed(SHOPPING)[0]["doubled"] == 24
    for _ in range(2):
        with pytest.raises(ShopstreamError, match=r"features.modules names 'half_done'.*ZeroDivisionError"):
            load_modules(["half_done"])
    for name, says in {"clashing": "'views' is declared twice", "not_there": "No module named 'not_there'"}.items():
        with pytest.raises(ShopstreamError, match=f"features.modules names '{name}'.*{says}"):
            load_modules([name])
    assert "begun" not in FEATURES
    assert "our_features" in sys.modules


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("dtype", "returned", "says"),
    [
        ("string", Floats, "feature 'mine' is declared 'string' but returns numbers"),
        ("int64", Texts, "feature 'mine' is declared 'int64' but returns Texts"),
        ("float64", float, "feature 'mine' returns .*float.*; it should return an array"),
        ("float64", list[float], "feature 'mine' returns .*; it should return an array"),
        ("bool", Ints, "feature 'mine' has dtype 'bool'; use int64, float64, string"),
        ("int64", Floats, None),
        ("float64", Ints, None),
        ("string", Texts, None),
        ("string", "Texts", None),
        ("string", "OnlyForTypeCheckers", None),
        ("string", np.ndarray, None),
        ("string", npt.NDArray[Any], None),
    ],
)
def test_annotation_agrees_with_dtype(dtype: Any, returned: object, says: str | None):
    def mine(frame: EventFrame) -> object:
        """Of the test."""
        return frame.count

    mine.__annotations__["return"] = returned
    with pytest.raises(ValueError, match=says) if says else nullcontext():
        feature(dtype)(mine)
    assert ("mine" in FEATURES) == (says is None)
