import json
from collections import Counter
from itertools import islice

import pytest

from bench.__main__ import main
from bench.load.scale import STEP_S, uniform_events

ITEMS = [f"i{number}" for number in range(50)]


def test_events_are_uniform():
    records = list(uniform_events(ITEMS, users=40, length=6))
    events = [json.loads(record.value or b"") for record in records]
    assert Counter(event["user_id"] for event in events) == {f"u{user}": 6 for user in range(40)}
    assert len({event["event_id"] for event in events}) == 240
    times = [event["event_time"] for event in events]
    assert times == sorted(times)
    assert times[-1] - times[0] == 5 * STEP_S * 1000
    assert all(event["user_id"].encode() == record.key for event, record in zip(events, records, strict=True))
    assert len({event["user_id"] for event in events[:40]}) == 40
    assert max(Counter(event["item_id"] for event in events).values()) > 30  # of 240 in 50 items, by Zipf's law
    again = uniform_events(ITEMS, users=40, length=6)
    assert [record.value for record in islice(again, 100)] == [record.value for record in records[:100]]


def test_unknown_case_is_one_line_error(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match=r"^1$"):
        main(["scale", "--only", "base,users-2k"])
    assert capsys.readouterr().err.startswith("error: --only names users-2k; the cases are base, users-1k")
