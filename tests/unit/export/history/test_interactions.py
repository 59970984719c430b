import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.history.co_visits import ItemStatistics
from export.history.interactions import interactions
from udfs.events.files import EVENTS
from udfs.sessions.sessionize import sessionize


def test_other_event_types_are_left_out():
    assert len(interactions([])) == 0
    row = {"session_id": "s", "user_id": "u", "event_time": 1, "event_type": "wishlist", "item_id": "i"}
    table = pa.Table.from_pylist([row, row | {"event_type": "view"}], EVENTS)
    assert interactions(table.to_batches()).item.tolist() == [0]


MINUTE = 60_000


def test_every_event_keeps_a_session_open():
    """A view, a search 20 minutes later, a view after 20 more: one session, as in the job (tests/flink)."""
    rows = [
        {"event_type": kind, "user_id": "u", "event_time": minute * MINUTE, "item_id": item}
        for minute, kind, item in ((0, "view", "a"), (20, "search", None), (40, "view", "b"), (60, "impression", "c"))
    ]
    rows += [{"event_type": "view", "user_id": user, "event_time": 80 * MINUTE, "item_id": "d"} for user in "uv"]
    batches = pa.Table.from_pylist(rows[::-1], EVENTS).to_batches()
    log = interactions(batches, 30 * MINUTE, list("abcd")).of_items(4)
    assert [log.item[log.session == session].tolist() for session in range(len(log))] == [[0, 1, 3], [3]]
    assert ItemStatistics.of(log).co_visits.toarray()[0].tolist() == pytest.approx([0, 1, 0, 0.5 / 2**0.5])


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-200, 200)), max_size=60),
    st.integers(1, 60),
)
def test_sessionize_equals_a_plain_loop(events: list[tuple[int, int]], gap: int):
    user, time = (np.array(column, dtype=np.int64) for column in ([u for u, _ in events], [t for _, t in events]))
    expected, session, last = {}, -1, None
    for event in sorted(events):
        session += last is None or event[0] != last[0] or event[1] - last[1] >= gap
        expected[event], last = session, event
    assert sessionize(user, time, gap).tolist() == [expected[event] for event in events]
