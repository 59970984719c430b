from udfs.sessions.columns import Sessions
from udfs.sessions.signals import item_rows, signals_of


def test_signals_are_recent_titles_and_queries():
    titles = [f"title {row}" for row in range(6)]
    row_of = {f"i{row}": row for row in range(6)}
    sessions = Sessions.from_arrays(
        [0],
        [5],
        [6],
        event_time=[range(6)],
        event_type=[["view", "click", "impression", "view", "search", "add_to_cart"]],
        item_id=[["i1", "i2", "i3", "unknown", None, "i5"]],
        query=[[None, None, None, None, "blue mug", None]],
    )
    signals = signals_of(sessions, item_rows(sessions, row_of), titles, recent=3, decay=0.5)
    assert signals.text == ["title 2", "blue mug", "title 5"]
    assert signals.item.tolist() == [2, -1, 5]
    assert signals.weight.tolist() == [256, 768, 2048]
