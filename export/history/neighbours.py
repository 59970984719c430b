"""Past sessions, and the items near each other in them, as the candidate sources read them."""

from typing import Any

import numpy as np

from export.history.co_visits import top_k_per_row
from export.history.interactions import Interactions
from udfs.bundles.contents import PastSessions
from udfs.core.arrays import Floats, Ints, segment_sum, unique_inverse
from udfs.core.hashing import shopper_hash

#: At most this many events lie between two items of a session that count as near.
WINDOW = 10
#: Neighbours kept per item.
TOP = 100
#: The latest past sessions that are kept; bounds a bundle's memory.
MAX_SESSIONS = 1_000_000


def past_sessions(log: Interactions) -> PastSessions:
    """Return the latest sessions, with shoppers as hashes."""
    log = log.part(max(0, len(log) - MAX_SESSIONS), len(log))
    numbers, index = np.unique(log.user, return_inverse=True)
    hashes = np.array([shopper_hash(log.users[number]) for number in numbers], dtype=np.int64)
    order = np.argsort(hashes, kind="stable")
    sorted_index = np.empty(len(order), dtype=np.int32)
    sorted_index[order] = np.arange(len(order))
    return PastSessions(log.offsets, log.item.astype(np.int32), log.end, sorted_index[index], hashes[order])


def cooccurrence(log: Interactions) -> tuple[Any, Any]:
    """Return two CSR float32 [items, items]: `near`, items that occur near each item, and `follows`, after it.

    Each pair of events of a session counts 1 / events between them, up to WINDOW (Ludewig and Jannach 2018, "Evaluation
    of session-based recommendation algorithms", section 3.2, sequential rules). follows is that sum. near counts both
    directions, and divides by the root of the product of the two items' numbers of sessions.
    """
    session, item, items = log.session, log.item, len(log.items)
    before, after, weight = [], [], []
    for distance in range(1, WINDOW + 1):
        first = np.flatnonzero((session[distance:] == session[:-distance]) & (item[distance:] != item[:-distance]))
        before.append(item[first])
        after.append(item[first + distance])
        weight.append(np.full(len(first), 1 / distance))
    row, column, forward = (np.concatenate(parts) for parts in (before, after, weight))
    pair, total = _sum_by_pair(row * items + column, forward, items)
    follows = top_k_per_row(pair // items, pair % items, total, items, TOP)
    both_ways = np.concatenate((pair, pair % items * items + pair // items))
    pair, total = _sum_by_pair(both_ways, np.concatenate((total, total)), items)
    row, column = np.divmod(pair, items)
    sessions_with = np.bincount(np.unique(session * items + item) % items, minlength=items).astype(np.float64)
    near = top_k_per_row(row, column, total / np.sqrt(sessions_with[row] * sessions_with[column]), items, TOP)
    return near, follows


def _sum_by_pair(pair: Ints, value: Floats, items: int) -> tuple[Ints, Floats]:
    """Return the distinct pairs of items, sorted, and the sum of the values (float64 [n]) of each."""
    distinct, index = unique_inverse(pair, items * items)
    return distinct, segment_sum(index, value, len(distinct))
