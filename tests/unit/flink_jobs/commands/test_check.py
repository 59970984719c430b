import json
from pathlib import Path
from typing import Any

from flink_jobs.commands.check import expected_ids
from flink_jobs.settings.settings import Settings


def row(event_id: str, kind: str = "view", **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"event_id": event_id, "event_type": kind, "user_id": "u", "event_time": 1_700_000_000_000}
    return fields | ({} if kind == "search" else {"item_id": "i"}) | more


def test_no_answer_is_due_for_rows_that_break_the_contract(tmp_path: Path):
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
    assert due == {"u/view", "u/search", "u/free", "u/last"}
    assert expected_ids(settings, file, mapping={}, preset="auto", limit=2) == {"u/view", "u/search"}
