import json
from pathlib import Path
from typing import Any

import pytest

from flink_jobs.commands.check import Outcome, expected_ids, judge
from flink_jobs.settings.settings import Settings
from udfs.contracts.rankings import user_of


def row(event_id: str, kind: str = "view", **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"event_id": event_id, "event_type": kind, "user_id": "u", "event_time": 1_700_000_000_000}
    return fields | ({} if kind == "search" else {"item_id": "i"}) | more


def test_refused_rows_are_due_no_answer(tmp_path: Path):
    """`replay` sends them, and the job sends them on to the dead letters."""
    good = [row("view"), row("search", "search", query="mug"), row("free", price=0)]
    no_triggers = [row("seen", "impression"), row("rated", "rate", rating=5)]
    refused = [
        row("no query", "search"),
        row("no item", item_id=None),
        row("owed", price=-1),
        row("none", quantity=0),
        row("six stars", rating=6),
        row("rewound", dwell_ms=-1),
        row("year 10000", event_time=253_402_300_800_000),
        row("nobody", user_id=""),
        row(""),
        row("stared", "stare"),
    ]
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in [*good, *refused, *no_triggers, row("last")]))
    settings = Settings()
    due = expected_ids(settings, file, mapping={}, preset="auto", limit=None)
    assert due == dict.fromkeys(("u/view", "u/search", "u/free", "u/last"), 1)
    assert set(expected_ids(settings, file, mapping={}, preset="auto", limit=2)) == {"u/view", "u/search"}


def test_events_with_one_id_are_due_an_answer_each(tmp_path: Path):
    rows = [row("1"), row("2"), row("1"), row("1", "purchase", price=9), row("1", "purchase", price=9)]
    far = [row(f"e{number}", "impression") for number in range(80)]
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in [*rows, *far, row("1", item_id="far"), row("1")]))
    due = expected_ids(Settings(), file, mapping={}, preset="auto", limit=None)
    (other,) = due.keys() - {"u/1", "u/2"}
    assert other.startswith("recommend/u/1/")
    assert due == {"u/1": 2, "u/2": 1, other: 1}
    assert user_of(other) == "u"
    values = [answer(name, GOOD) for name in due.elements()]
    assert judge(values, due, {"a", "b", "c"}, 3, set()).holds
    assert judge(values[1:], due, {"a", "b", "c"}, 3, set()).missing == 1
    assert judge([*values, answer("u/2", GOOD)], due, {"a", "b", "c"}, 3, set()).doubled == 1


REASON = {"source": "content", "weight": 0.5, "because": "like a"}


def answer(recommendation_id: str, items: list[tuple[str, int, float]], **more: object) -> bytes:
    return json.dumps(
        {
            "recommendation_id": recommendation_id, "user_id": "u", "session_id": "u/1", "trigger_event_id": "e",
            "event_time": 1_700_000_000_000, "model": "m", "session": {},
            "items": [
                {"item_id": item, "rank": rank, "score": score, "reasons": [REASON]} for item, rank, score in items
            ],
            **more,
        }
    ).encode()  # fmt: skip


GOOD = [("a", 1, 0.9), ("b", 2, 0.9), ("c", 3, 0.1)]


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ([answer("u/1", GOOD), answer("u/2", [])], {}),
        ([answer("u/1", GOOD)], {"missing": 1}),
        ([answer("u/1", GOOD), answer("u/2", GOOD), answer("u/1", GOOD)], {"doubled": 1}),
        ([answer("u/1", GOOD), answer("u/2", GOOD), answer("u/3", GOOD)], {"unexpected": 1}),
        ([answer("u/1", GOOD), answer("u/2", GOOD), b"{", None, b"\xff", b"{}"], {"unreadable": 4}),
        ([answer("u/1", GOOD), answer("u/2", [("a", 1, 0.1), ("b", 2, 0.9)])], {"misranked": 1}),  # the scores rise
        ([answer("u/1", GOOD), answer("u/2", [("a", 1, 0.1), ("b", 2, 0.9)], explored=True)], {}),
        ([answer("u/1", [("a", 2, 0.9)]), answer("u/2", [("a", 1, 0.9), ("b", 1, 0.8)])], {"misranked": 2}),
        ([answer("u/1", GOOD), answer("u/2", [*GOOD, ("a", 4, 0.1)])], {"misranked": 1}),  # more than k
        ([answer("u/1", GOOD), answer("u/2", [("x", 1, 0.9), ("y", 2, 0.8)])], {"unknown_items": 2}),
    ],
)
def test_judge_counts_each_fault(values: list[bytes | None], wrong: dict[str, int]):
    outcome = judge(values, {"u/1", "u/2"}, {"a", "b", "c"}, 3, set())
    assert outcome == Outcome(2, len(values), **wrong)
    assert outcome.holds == (not wrong)
