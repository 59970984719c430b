"""Closed sessions without Flink: their record, their row and their events' rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flink_jobs.sql.closed_sessions import ARRAYS as SQL_ARRAYS
from udfs.bundles.bundle import open_bundle
from udfs.catalog.items import LiveItems
from udfs.features.compute import compute_features
from udfs.features.registry import FEATURES
from udfs.lake.closing import CLOSING_COLUMNS, RULES, ClosingOptions, SessionFinalizer, close_columns, closed_schema
from udfs.lake.schema import VERSION, sessions_schema
from udfs.sessions.columns import Sessions

MOST = 8
ARRAYS = [name for name in CLOSING_COLUMNS if name.endswith("s") and name != "session_events"]


@pytest.fixture(scope="module")
def closer(bundles: Path) -> SessionFinalizer:
    return SessionFinalizer(ClosingOptions(bundles, MOST))


def session(events: list[dict[str, Any]]) -> list[Any]:
    """A session's values in the order of CLOSING_COLUMNS, its events in the order given."""
    times = [event["event_times"] for event in events]
    arrays = [np.array([event.get(name) for event in events]) for name in ARRAYS]
    return ["u", min(times), max(times), len(events), *arrays]


def close(closer: SessionFinalizer, *sessions: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    batch, found = close_columns(closer, list(zip(*map(session, sessions), strict=True)))
    assert batch.schema.equals(closed_schema())
    return batch.to_pylist(), found


def events(closer: SessionFinalizer, count: int) -> list[dict[str, Any]]:
    items = closer._known.used.items.ids
    rng = np.random.default_rng(count)
    return [
        {
            "event_ids": f"e{number:03}",
            "event_times": int(1_700_000_000_000 + number // 2 * 1000),
            "event_types": str(rng.choice(["view", "add_to_cart", "purchase"])),
            "item_ids": items[int(rng.integers(len(items)))],
            "prices": float(rng.integers(1, 99)),
            "quantities": float(rng.integers(1, 4)),
        }
        for number in range(count)
    ]


def test_columns_are_those_that_sql_collects():
    assert list(CLOSING_COLUMNS) == [
        "user_id",
        "session_start",
        "session_end",
        "session_events",
        *SQL_ARRAYS.values(),
    ]
    assert session([{"event_times": 1}])[4:].__len__() == len(CLOSING_COLUMNS) - 4


@pytest.mark.parametrize("count", [1, MOST - 1, MOST, MOST + 1, 40])
def test_features_are_of_the_last_events_and_all_else_of_the_whole_session(
    closer: SessionFinalizer, bundles: Path, count: int
):
    own = events(closer, count)
    shuffled = [own[place] for place in np.random.default_rng(1).permutation(count)]
    (row,), found = close(closer, [*shuffled, own[0]])
    assert found == dict.fromkeys(RULES, 0) | {"repeats": 1}

    start, end = own[0]["event_times"], own[-1]["event_times"]
    columns = [[each] for each in session(own[-MOST:])[4:]]
    last = Sessions.from_arrays([start], [end], [count], *columns)
    (expected,) = compute_features(last, LiveItems(open_bundle(bundles)).catalog)
    record = json.loads(row["record"])
    assert record == {
        "session_id": f"u/{start}", "user_id": "u", "session_start": start, "session_end": end, "features": expected
    }  # fmt: skip
    assert {name: row[f"sessions__{name}"] for name in FEATURES} == expected
    told = [name for name in sessions_schema().names if name not in FEATURES]
    assert [row[f"sessions__{name}"] for name in told] == [
        VERSION, f"u/{start}", "u", start, end, count, 1, 0, 0, False, open_bundle(bundles).id
    ]  # fmt: skip
    for name, array in {"event_id": "event_ids", "event_time": "event_times", "price": "prices"}.items():
        assert row[f"events__{name}"] == [event[array] for event in own]
    assert row["events__user_id"] == ["u"] * count
    assert row["events__device"] == [None] * count


def test_what_cleaning_finds_is_counted_by_rule(closer: SessionFinalizer):
    bad = events(closer, 3)
    bad[0] |= {"prices": 1e300, "item_ids": "no such item"}
    bad[1] |= {"prices": 1e300, "quantities": 1e9, "dwell_times": 1e12}
    quick = [
        {"event_ids": f"q{n}", "event_times": n, "event_types": "click", "item_ids": bad[1]["item_ids"]}
        for n in range(200)
    ]
    (first, second), found = close(closer, bad, quick)
    assert found == {
        "price": 2, "quantity": 1, "rating": 0, "dwell_ms": 1, "repeats": 0, "unknown_items": 1, "bots": 1
    }  # fmt: skip
    assert (first["sessions__repaired"], first["sessions__unknown_items"], first["sessions__bot"]) == (4, 1, False)
    assert (second["sessions__repaired"], second["sessions__unknown_items"], second["sessions__bot"]) == (0, 0, True)
    assert first["events__price"] == [None, None, bad[2]["prices"]]
    assert first["events__dwell_ms"] == [None, None, None]
