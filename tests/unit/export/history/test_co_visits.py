import numpy as np
import pyarrow as pa

from export.history.co_visits import ItemStatistics
from export.history.interactions import interactions
from udfs.events.files import EVENTS

MINUTE = 60_000


def statistics(rows, gap_minutes=30):
    columns = [{"event_type": kind, "user_id": u, "event_time": m * MINUTE, "item_id": i} for u, m, i, kind in rows]
    batches = [pa.RecordBatch.from_pylist(columns, schema=EVENTS)]
    return ItemStatistics.of(interactions(batches, gap_minutes * MINUTE, list("abc")).of_items(3))


def test_co_visits_computed_by_hand():
    found = statistics(
        [
            ("u", 0, "a", "view"),
            ("u", 1, "x", "view"),  # not in the catalog
            ("u", 2, "b", "click"),
            ("u", 3, "b", "impression"),
            ("u", 4, "c", "purchase"),
            ("u", 34, "a", "view"),  # 30 minutes later: a session of its own
            ("v", 0, "b", "purchase"),  # a basket: no order within it
            ("v", 0, "a", "purchase"),
        ]
    )
    # Sessions with: a 3, b 2, c 1. a → b: 1 of session one and 1 of the basket; b → a: 1/2 and 1.
    expected = [
        [0, 2 / 6**0.5, 0.5 / 3**0.5],
        [1.5 / 6**0.5, 0, 1 / 2**0.5],
        [0.25 / 3**0.5, 0.5 / 2**0.5, 0],
    ]
    assert found.popularity.tolist() == [3, 2, 1]
    assert np.allclose(found.co_visits.toarray(), expected, atol=1e-7)
    assert found.co_visits.dtype == np.float32
    assert found.co_visits.has_sorted_indices


def test_inseparable_pairs_weigh_one():
    rows = [(f"u{n}", 0, item, "purchase") for n in range(9) for item in "ab" for _ in range(3)]
    assert statistics(rows).co_visits.toarray().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_no_sessions_no_co_visits():
    found = statistics([])
    assert (found.co_visits.nnz, found.popularity.tolist()) == (0, [0, 0, 0])
