"""What a learned ranker's sources know of past sessions: the sessions themselves, and which item is met near which."""

from typing import Any

import numpy as np

from export.history.co_visits import strongest
from export.history.interactions import Interactions
from udfs.bundle import PastSessions
from udfs.candidates import numbered, shopper_hash
from udfs.sessions import Floats, Ints, added

#: Events between two items of a session that still count, and neighbours kept for an item.
WINDOW, TOP = 10, 100
#: Past sessions kept, the latest ones: they bound a bundle's memory.
MAX_SESSIONS = 1_000_000


def past_sessions(log: Interactions) -> PastSessions:
    """The latest sessions, with shoppers by their hash."""
    log = log.part(max(0, len(log) - MAX_SESSIONS), len(log))
    numbers, place = np.unique(log.user, return_inverse=True)
    hashes = np.array([shopper_hash(log.users[number]) for number in numbers], dtype=np.int64)
    order = np.argsort(hashes, kind="stable")
    to = np.empty(len(order), dtype=np.int32)
    to[order] = np.arange(len(order))
    return PastSessions(log.offsets, log.item.astype(np.int32), log.end, to[place], hashes[order])


def near(log: Interactions, items: int) -> tuple[Any, Any]:
    """Two CSR float32 [items, items]: what is met beside each item, and what is met after it.

    Each pair of events of a session counts 1 / events between them, up to WINDOW (Ludewig and Jannach 2018, "Evaluation
    of session-based recommendation algorithms", section 3.2, sequential rules). beside: both ways, over the root of the
    product of the items' sessions; follows: forwards, the sum itself.
    """
    session, item = log.session, log.item
    before, after, weight = [], [], []
    for distance in range(1, WINDOW + 1):
        first = np.flatnonzero((session[distance:] == session[:-distance]) & (item[distance:] != item[:-distance]))
        before.append(item[first])
        after.append(item[first + distance])
        weight.append(np.full(len(first), 1 / distance))
    row, column, forward = (np.concatenate(parts) for parts in (before, after, weight))
    pair, total = _summed(row * items + column, forward, items)
    follows = strongest(pair // items, pair % items, total, items, TOP)
    both_ways = np.concatenate((pair, pair % items * items + pair // items))
    pair, total = _summed(both_ways, np.concatenate((total, total)), items)
    row, column = np.divmod(pair, items)
    sessions_with = np.bincount(np.unique(session * items + item) % items, minlength=items).astype(np.float64)
    beside = strongest(row, column, total / np.sqrt(sessions_with[row] * sessions_with[column]), items, TOP)
    return beside, follows


def _summed(pair: Ints, value: Floats, items: int) -> tuple[Ints, Floats]:
    """The different pairs of items, sorted, and the sum of the values of each."""
    different, place = numbered(pair, items * items)
    return different, added(place, value, len(different))
