import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.pipeline.sessions import GAP_MS, LAST, TRIGGERS, Due, Shopper, sessions_of
from flink_jobs.jobs.recommend import options
from flink_jobs.settings.settings import Settings
from flink_jobs.sql.sessions import DEDUP_ROWS, HEADROOM
from udfs.recommend.options import RecommendOptions
from udfs.sessions.columns import COLUMN_DTYPES, Sessions

START = 1_767_225_600_000


def event(event_id: str, minutes: float, event_type: str = "view", **more: Any) -> bytes:
    known = {"event_id": event_id, "event_type": event_type, "user_id": "u1", "item_id": "i1"}
    return json.dumps(known | {"event_time": START + round(minutes * 60_000)} | more).encode()


def ids(due: Due | None) -> list[str]:
    assert due is not None
    return sessions_of([due]).within_bounds().tail(64).event_id.tolist()


def test_rules_match_default_settings():
    settings = Settings()
    assert settings.session.gap == GAP_MS
    assert max(DEDUP_ROWS, settings.session.max_events + HEADROOM) == LAST
    assert options(settings).max_events == RecommendOptions(Path()).max_events
    assert settings.triggers == TRIGGERS


def test_session_ends_after_gap():
    shopper = Shopper()
    assert ids(shopper.add(event("a", 0))) == ["a"]
    assert ids(shopper.add(event("b", 29.9))) == ["a", "b"]
    due = shopper.add(event("c", 59.9))
    assert ids(due) == ["c"]
    assert due is not None
    assert due[:6] == ("u1", "c", START + 3_594_000, START + 3_594_000, START + 3_594_000, 1)


def test_late_events_open_own_session():
    shopper = Shopper()
    shopper.add(event("a", 60))
    due = shopper.add(event("b", 31))
    assert due is not None
    assert due[3:6] == (START + 31 * 60_000, START + 60 * 60_000, 2)
    assert ids(due) == ["a", "b"]
    assert ids(shopper.add(event("late", 30))) == ["late"]
    assert ids(shopper.add(event("c", 61))) == ["a", "b", "c"]


def test_only_new_triggers_are_due():
    shopper = Shopper()
    shopper.add(event("a", 0))
    assert shopper.add(event("a", 0)) is None
    assert shopper.add(b"{") is None
    assert shopper.add(None) is None
    assert shopper.add(event("b", 1, "impression")) is None
    assert ids(shopper.add(event("c", 2))) == ["a", "b", "c"]
    assert shopper.add(event("b", 1, "impression")) is None
    assert ids(shopper.add(event("d", 3))) == ["a", "b", "c", "d"]


def test_only_latest_events_are_kept():
    shopper = Shopper()
    first = shopper.add(event("e0", 0))
    for number in range(1, 100):
        last = shopper.add(event(f"e{number}", number / 10))
    assert ids(first) == ["e0"]
    assert ids(last) == [f"e{number}" for number in range(36, 100)]
    assert last is not None
    assert last[5] == 100
    assert shopper.add(event("e36", 3.6)) is None
    assert shopper.add(event("e20", 10)) is not None  # further back than is looked


def test_columns_match_those_of_job():
    shopper = Shopper()
    dues = [
        shopper.add(event("a", 0, price=2.5, properties={"device": "phone"})),
        shopper.add(event("b", 1, "search", item_id=None, query="mug")),
        shopper.add(event("c", 40, "purchase", quantity=2, properties={"timezone": "UTC"})),
    ]
    ours = sessions_of([due for due in dues if due is not None])
    job = Sessions.from_arrays(
        [START, START, START + 2_400_000], [START, START + 60_000, START + 2_400_000], [1, 2, 1],
        event_time=[[START], [START, START + 60_000], [START + 2_400_000]],
        event_type=[["view"], ["view", "search"], ["purchase"]], event_id=[["a"], ["a", "b"], ["c"]],
        item_id=[["i1"], ["i1", None], ["i1"]], query=[[None], [None, "mug"], [None]],
        price=[[2.5], [2.5, None], [None]], quantity=[[None], [None, None], [2]],
        device=[["phone"], ["phone", None], [None]], timezone=[[None], [None, None], ["UTC"]],
    )  # fmt: skip
    for name in ("offsets", "start", "end", "count", *COLUMN_DTYPES):
        mine, theirs = getattr(ours, name), getattr(job, name)
        assert mine.dtype == theirs.dtype, name
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
