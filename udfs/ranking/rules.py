"""Rules for a ranking as a whole: at most so many items of a group, and diversity."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from udfs.core.arrays import Floats, Ints, Scores, group_starts
from udfs.core.exact import SCORE_SCALE, VECTOR_SCALE

#: The name of the reason that a penalty for similarity is.
DIVERSITY = "diversity"

#: What such a reason says.
DIVERSITY_REASON = "unlike the items before it"


@dataclass(frozen=True)
class Cap:
    """At most `limit` items of one group in a ranking."""

    codes: Ints  #: int64 [items], the group of each item, -1 for none
    limit: int | Ints  #: for all sessions, or of each one, int64 [sessions]


def select_by_rules(
    session: Ints, item: Ints, score: Floats, *, k: int, caps: Sequence[Cap], diversity: float, vectors: Scores
) -> tuple[Ints, Floats]:
    """Choose up to k items of each session, one rank at a time, by maximal marginal relevance under the caps.

    Carbonell and Goldstein 1998. session, item, score: [n] of candidates, by session and then best first. diversity:
    what an item loses, in units of the score, where one ranked above it has the same title. vectors: float32
    [items, dimensions], on the grid.
    Returns the chosen indices by session and then in rank order, int64 [R], and each one's diversity penalty, float64
    [R], a whole number of 1/SCORE_SCALE that is not positive.
    """
    sessions = int(session.max(initial=-1)) + 1
    cost = np.zeros(len(session))  # for similarity to the items chosen so far
    chosen = np.zeros(len(session), dtype=bool)
    codes = [cap.codes[item] for cap in caps]
    counts = [np.zeros((sessions, code.max(initial=0) + 1), dtype=np.int64) for code in codes]
    by_rank: list[Ints] = []
    limits = [cap.limit if isinstance(cap.limit, int) else cap.limit[session] for cap in caps]
    for _ in range(k):
        is_open = ~chosen
        for limit, code, count in zip(limits, codes, counts, strict=True):
            is_open &= (code < 0) | (count[session, code] < limit)
        left = np.flatnonzero(is_open)
        if not len(left):
            break
        best = left[np.lexsort((left, cost[left] - score[left], session[left]))]
        best = best[group_starts(session[best])]
        chosen[best] = True
        by_rank.append(best)
        for code, count in zip(codes, counts, strict=True):
            grouped = best[code[best] >= 0]
            count[session[grouped], code[grouped]] += 1
        if diversity:
            newest = np.full(sessions, -1)
            newest[session[best]] = item[best]
            similarity = np.einsum("nd,nd->n", vectors[item], vectors[newest[session]]) / VECTOR_SCALE**2
            # A session whose ranking is complete has no newest item; the cost of what is left no longer matters.
            more = np.rint(np.maximum(similarity, 0) * (diversity * SCORE_SCALE))
            cost = np.where(chosen, cost, np.maximum(cost, more))
    selected = np.concatenate(by_rank) if by_rank else np.empty(0, dtype=np.int64)
    rank = np.repeat(np.arange(len(by_rank)), [len(best) for best in by_rank])
    selected = selected[np.lexsort((rank, session[selected]))]
    return selected, -cost[selected]
