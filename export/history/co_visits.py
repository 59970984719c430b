"""Counts past sessions: item-to-item weights, and the interactions with each item.

Item-to-item collaborative filtering with cosine normalisation (Linden, Smith, York 2003, "Amazon.com recommendations";
Deshpande & Karypis 2004, "Item-based top-N recommendation algorithms", eq. 2), where what a session adds to a pair
falls with the distance of its items, as in sequential rules (Ludewig & Jannach 2018, "Evaluation of session-based
recommendation algorithms", section 3.2):

    weight(a → b) = Σ over sessions with both, closeness(a, b) / √(sessions with a × sessions with b)

closeness is 1 / distance when b comes after a, BACKWARD / distance when it comes before, and 1 in one basket. Distance
counts steps, the distinct times of a session; an item counts where the session interacted with it last. Each
session adds at most 1, so weights lie in (0, 1].
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from export.history.interactions import Interactions
from udfs.core.arrays import Floats, Ints, position_in_group

#: Two items of a session count as together if at most this many steps lie between them.
WINDOW = 10
#: Weight of b before a for a → b, relative to b after a.
BACKWARD = 0.5
#: At most this many of a session's latest distinct items count; bounds the pairs of very large baskets.
MAX_ITEMS = 64
#: Neighbours kept per item.
TOP = 50


@dataclass(frozen=True)
class ItemStatistics:
    """Statistics of N items from past sessions, in catalog order."""

    popularity: Floats  #: float64 [N], interactions
    co_visits: Any  #: CSR float32 [N, N], columns sorted

    @classmethod
    def of(cls, log: Interactions) -> "ItemStatistics":
        """Compute the statistics of a shop's interactions."""
        popularity = np.bincount(log.item, minlength=len(log.items)).astype(np.float64)
        return cls(popularity, co_visits_of(log.session, log.time, log.item, len(log.items)))


def co_visits_of(session: Ints, time: Ints, item: Ints, size: int) -> Any:
    """Return CSR float32 [size, size] from int64 [E] columns sorted by session, then time."""
    order = np.lexsort((item, time, session))  # so that the order of events of one time does not matter
    session, time, item = session[order], time[order], item[order]
    # The last event of each item in a session: np.unique finds the first one in the reversed array.
    _, first = np.unique((session * size + item)[::-1], return_index=True)
    keep = np.sort(len(item) - 1 - first)
    from_end = np.searchsorted(session[keep], session[keep], side="right") - np.arange(len(keep))
    keep = keep[from_end <= MAX_ITEMS]
    session, time, item = session[keep], time[keep], item[keep]
    step = np.cumsum(np.diff(session, prepend=0).astype(bool) | np.diff(time, prepend=0).astype(bool))

    total = sp.csr_array((size, size), dtype=np.float64)
    for shift in range(1, MAX_ITEMS):
        distance = step[shift:] - step[:-shift]
        near = np.flatnonzero((session[shift:] == session[:-shift]) & (distance <= WINDOW))
        before, after, apart = item[near], item[near + shift], distance[near]
        forward = 1 / np.maximum(apart, 1)
        backward = np.where(apart == 0, forward, BACKWARD * forward)
        pairs = (np.concatenate((before, after)), np.concatenate((after, before)))
        total += sp.coo_array((np.concatenate((forward, backward)), pairs), shape=(size, size)).tocsr()
    sessions_with = np.maximum(np.bincount(item, minlength=size), 1)
    entries = total.tocoo()
    weight = entries.data / np.sqrt(sessions_with[entries.row].astype(np.float64) * sessions_with[entries.col])
    return top_k_per_row(entries.row, entries.col, weight, size, TOP)


def top_k_per_row(row: Ints, column: Ints, weight: Floats, size: int, k: int) -> Any:
    """Return the k heaviest entries of each row, ties to the lower column, as CSR float32 with sorted columns."""
    weight = weight.astype(np.float32)
    order = np.lexsort((column, -weight, row))
    top = order[position_in_group(row[order]) < k]
    matrix = sp.csr_array((weight[top], (row[top], column[top])), shape=(size, size))
    matrix.sort_indices()
    return matrix
