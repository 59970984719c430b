import math

import numpy as np
import pytest

from udfs.contracts import EVENT_TYPES
from udfs.features import FEATURES, compute_features, feature
from udfs.sessions import Sessions

N = None


def sessions(*events_of: list[dict[str, object]], counts: list[int] | None = None) -> Sessions:
    def column(name: str, missing: object = None) -> list[np.ndarray]:
        return [np.array([event.get(name, missing) for event in events], dtype=object) for events in events_of]

    times = [np.array([event["event_time"] for event in events]) for events in events_of]
    return Sessions.from_arrays(
        [min(time) for time in times],
        [max(time) for time in times],
        counts or [len(events) for events in events_of],
        times,
        column("event_type"),
        column("item_id"),
        column("query"),
        column("price", math.nan),
        column("quantity", math.nan),
        column("rating", math.nan),
        column("dwell_ms", math.nan),
    )


SHOPPING = [
    {"event_time": 1000, "event_type": "search", "query": "mug"},
    {"event_time": 2000, "event_type": "view", "item_id": "a", "price": 4.0, "dwell_ms": 300},
    {"event_time": 3000, "event_type": "view", "item_id": "b", "price": 6.0},
    {"event_time": 4500, "event_type": "add_to_cart", "item_id": "a", "price": 4.0, "quantity": 2},
    {"event_time": 5000, "event_type": "search", "query": "blue mug"},
    {"event_time": 6000, "event_type": "add_to_cart", "item_id": "b", "dwell_ms": 100},
    {"event_time": 6500, "event_type": "remove_from_cart", "item_id": "b"},
    {"event_time": 9000, "event_type": "purchase", "item_id": "a", "price": 4.0, "quantity": 2},
]


def test_a_session_worked_out_by_hand():
    (row,) = compute_features(sessions(SHOPPING))
    assert row == {
        "views": 2,
        "clicks": 0,
        "searches": 2,
        "adds_to_cart": 2,
        "removals_from_cart": 1,
        "purchases": 1,
        "ratings": 0,
        "impressions": 0,
        "events": 8,
        "duration_ms": 8000,
        "distinct_items": 2,
        "dwell_ms_sum": 400.0,
        "dwell_ms_mean": 200.0,
        "dwell_ms_max": 300.0,
        "price_mean": 4.5,
        "price_min": 4.0,
        "price_max": 6.0,
        "cart_size": 1,
        "purchase_value": 8.0,
        "last_query": "blue mug",
    }


def test_what_is_unknown_is_none_and_counts_are_zero():
    (row,) = compute_features(sessions([{"event_time": 5, "event_type": "view"}]))
    assert row["price_mean"] is row["price_min"] is row["dwell_ms_mean"] is row["last_query"] is None
    assert row["distinct_items"] == row["purchases"] == row["duration_ms"] == 0
    assert row["dwell_ms_sum"] == row["purchase_value"] == 0.0


def test_start_end_and_count_are_those_of_the_whole_session():
    (row,) = compute_features(sessions(SHOPPING[-2:], counts=[500]))
    assert row["events"] == 500
    assert row["views"] == 0


def test_a_session_does_not_see_its_neighbours():
    other = [{"event_time": 7, "event_type": "view", "item_id": "z", "price": 99.0, "dwell_ms": 1}]
    alone = compute_features(sessions(SHOPPING))[0]
    together = compute_features(sessions(other, SHOPPING, other * 3))
    assert together[1] == alone
    assert together[0]["price_max"] == 99.0
    assert together[2]["distinct_items"] == 1


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_each_event_type_is_counted_by_its_own_feature(kind: str):
    (row,) = compute_features(sessions([{"event_time": 1, "event_type": kind, "item_id": "a", "query": "q"}] * 3))
    counted = {name for name, declared in FEATURES.items() if declared.unit == "events" and row[name] == 3}
    assert len(counted) == 2  # its own and `events`


def test_values_have_the_declared_types():
    kinds = {"int64": int, "float64": float, "string": str}
    (row,) = compute_features(sessions(SHOPPING))
    for name, declared in FEATURES.items():
        assert type(row[name]) is kinds[declared.dtype], name
        assert declared.doc


def test_a_feature_cannot_be_declared_twice():
    with pytest.raises(ValueError, match="views"):
        feature("views", dtype="int64", unit="events", doc="again")(lambda sessions: sessions.count)
