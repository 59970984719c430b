"""Closed sessions without Flink: their record, their row and their events' rows."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flink_jobs.settings.settings import Settings
from flink_jobs.sql.closed_sessions import batch_views, window_views
from udfs.bundles.bundle import open_bundle
from udfs.catalog.items import LiveItems
from udfs.events.columns import PACKED
from udfs.features.compute import compute_features
from udfs.features.registry import FEATURES
from udfs.lake.closing import CLOSING_COLUMNS, RULES, ClosingOptions, SessionFinalizer, close_columns, closed_schema
from udfs.lake.schema import VERSION, sessions_schema
from udfs.sessions.columns import Sessions

MOST = 8


@pytest.fixture(scope="module")
def closer(bundles: Path) -> SessionFinalizer:
    return SessionFinalizer(ClosingOptions(bundles, MOST))


def session(events: list[dict[str, Any]]) -> list[Any]:
    """A session's values in the order of CLOSING_COLUMNS, its events in the order given."""
    times = [event["event_time"] for event in events]
    arrays = [np.array([event.get(name) for event in events]) for name in PACKED]
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
            "event_id": f"e{number:03}",
            "event_time": int(1_700_000_000_000 + number // 2 * 1000),
            "event_type": str(rng.choice(["view", "add_to_cart", "purchase"])),
            "item_id": items[int(rng.integers(len(items)))],
            "price": float(rng.integers(1, 99)),
            "quantity": float(rng.integers(1, 4)),
        }
        for number in range(count)
    ]


@pytest.mark.parametrize("views", [window_views, batch_views])
def test_sql_collects_closing_columns(views: Callable[[Settings], dict[str, str]]):
    selected = views(Settings())["closed"].partition("FROM")[0]
    assert re.findall(r"(?:AS|SELECT) (\w+)", selected) == list(CLOSING_COLUMNS)


@pytest.mark.parametrize("count", [1, MOST - 1, MOST, MOST + 1, 40])
def test_features_use_only_last_events(closer: SessionFinalizer, bundles: Path, count: int):
    own = events(closer, count)
    shuffled = [own[place] for place in np.random.default_rng(1).permutation(count)]
    (row,), found = close(closer, [*shuffled, own[0]])
    assert found == dict.fromkeys(RULES, 0) | {"repeats": 1}

    start, end = own[0]["event_time"], own[-1]["event_time"]
    columns = {name: [array] for name, array in zip(PACKED, session(own[-MOST:])[4:], strict=True)}
    last = Sessions.from_arrays([start], [end], [count], **columns)
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
    for name in ("event_id", "event_time", "price"):
        assert row[f"events__{name}"] == [event[name] for event in own]
    assert row["events__user_id"] == ["u"] * count
    assert row["events__device"] == [None] * count


def test_cleaning_is_counted_by_rule(closer: SessionFinalizer):
    bad = events(closer, 3)
    bad[0] |= {"price": 1e300, "item_id": "no such item"}
    bad[1] |= {"price": 1e300, "quantity": 1e9, "dwell_ms": 1e12}
    quick = [
        {"event_id": f"q{n}", "event_time": n, "event_type": "click", "item_id": bad[1]["item_id"]} for n in range(200)
    ]
    (first, second), found = close(closer, bad, quick)
    assert found == {
        "price": 2, "quantity": 1, "rating": 0, "dwell_ms": 1, "repeats": 0, "unknown_items": 1, "bots": 1
    }  # fmt: skip
    assert (first["sessions__repaired"], first["sessions__unknown_items"], first["sessions__bot"]) == (4, 1, False)
    assert (second["sessions__repaired"], second["sessions__unknown_items"], second["sessions__bot"]) == (0, 0, True)
    assert first["events__price"] == [None, None, bad[2]["price"]]
    assert first["events__dwell_ms"] == [None, None, None]
