"""Cuts events into sessions: the one definition for training, which the jobs write out in SQL."""

import numpy as np

from udfs.core.arrays import Ints, group_starts

#: Time without an event that ends a session, by default.
GAP_MS = 1_800_000


def sessionize(user: Ints, time: Ints, gap_ms: int = GAP_MS) -> Ints:
    """Return the session of each of n events, int64 [n], numbered by user and then by time.

    user: int64 [n]. time: int64 [n], epoch ms, in any order. A user's event opens a session when it comes gap_ms or
    more after the one before. Every event counts, impressions and searches included, exactly as in the jobs.
    """
    order = np.lexsort((time, user))
    opening = group_starts(user[order]) | (np.diff(time[order], prepend=0) >= gap_ms)
    session = np.empty(len(order), dtype=np.int64)
    session[order] = np.cumsum(opening) - 1
    return session
