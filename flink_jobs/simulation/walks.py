"""Simulated sessions: when shoppers visit, and what they do."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from flink_jobs.simulation.world import (
    ADD,
    CLICK,
    IMPRESSION,
    PURCHASE,
    REMOVE,
    ROUND_MS,
    SEARCH,
    VIEW,
    Ints,
    World,
)
from udfs.contracts.clickstream import EVENT_TYPES

JITTER_MS = 30 * 60_000
LONGEST_MS = 45 * 60_000
SESSIONS_A_BLOCK = 4096
CART = 5
#: Probability of the next event, cumulative: a row per previous event (the last row: none yet), columns EVENT_TYPES.
_NEXT = np.cumsum(
    [
        #  view click search add remove purchase rate impression
        [0.26, 0.18, 0.11, 0.18, 0.00, 0.00, 0.03, 0.24],
        [0.86, 0.00, 0.05, 0.00, 0.00, 0.00, 0.00, 0.09],
        [0.14, 0.30, 0.00, 0.00, 0.00, 0.00, 0.00, 0.56],
        [0.24, 0.10, 0.12, 0.00, 0.08, 0.22, 0.00, 0.24],
        [0.40, 0.00, 0.25, 0.00, 0.00, 0.15, 0.00, 0.20],
        [0.25, 0.00, 0.12, 0.00, 0.00, 0.34, 0.12, 0.17],
        [0.40, 0.00, 0.25, 0.00, 0.00, 0.00, 0.00, 0.35],
        [0.14, 0.40, 0.14, 0.00, 0.00, 0.00, 0.00, 0.32],
        [0.28, 0.00, 0.44, 0.00, 0.00, 0.00, 0.00, 0.28],
    ],
    axis=1,
)
_PAUSE_S = np.array([18.0, 1.5, 3.0, 6.0, 5.0, 4.0, 6.0, 2.5])  # median time until the next event
ROW = np.dtype(
    [(name, "i8") for name in ("emit", "time", "number", "session", "who", "item", "dwell")]
    + [(name, "i1") for name in ("query", "type", "quantity", "rating", "returning", "fault")]
)
Rows: TypeAlias = npt.NDArray[np.void]


class _Visits(NamedTuple):
    """Visits of shoppers `who` that begin at `start` (epoch ms); no later visit begins before `until`."""

    who: Ints
    start: Ints
    until: int


def visits(world: World, rng: np.random.Generator, start_ms: int) -> Iterator[_Visits]:
    """Yields visits block by block, for ever. A shopper visits when activity · rounds passes a whole number."""
    at_once = max(1, int(SESSIONS_A_BLOCK / world.activity.sum()))
    for turn in itertools.count(step=at_once):
        visits = np.floor(np.arange(turn, turn + at_once + 1)[:, None] * world.activity + world.offset)
        rounds, who = np.nonzero(np.diff(visits, axis=0))
        opens = start_ms + (turn + rounds) * ROUND_MS + world.phase[who]  # ascending, as phases are
        nexts = np.append(opens, start_ms + (turn + at_once) * ROUND_MS)
        for at in range(0, len(who), SESSIONS_A_BLOCK):
            block = slice(at, at + SESSIONS_A_BLOCK)
            start = opens[block] + rng.integers(0, JITTER_MS, len(opens[block]))
            yield _Visits(who[block], start, int(nexts[min(block.stop, len(who))]))


def walk(world: World, rng: np.random.Generator, who: Ints, start: Ints) -> Rows:
    """Walks all sessions together, step by step; returns their events in order of time."""
    n = len(who)
    order = rng.permutation(n)
    session, who, clock = order, who[order], start[order].astype(float)
    length = np.sort(np.minimum(rng.geometric(1 / 10, n), 60))[
        ::-1
    ]  # longest first, so that the sessions still going are a prefix
    last = np.full(n, len(EVENT_TYPES))
    kind = np.where(rng.random(n) < 0.8, world.likes[who, rng.integers(0, 4, n)], world.kind[world.any_item(rng, n)])
    item = world.item_like(rng, kind, who, world.any_item(rng, n))
    quantity = np.ones(n, np.int64)
    cart, carried, held = np.zeros((n, CART), np.int64), np.ones((n, CART), np.int64), np.zeros(n, np.int64)
    steps = []
    for step in range(length[0]):
        m = int(np.searchsorted(-length, -step))
        before = last[:m]
        now = (rng.random((m, 1)) >= _NEXT[before]).sum(axis=1)
        now = np.minimum(now, IMPRESSION)
        leaves = (now == PURCHASE) | (now == REMOVE)
        cannot_add = (now == ADD) & ((held[:m] == CART) | ~world.in_stock[item[:m]])
        now[(leaves & (held[:m] == 0)) | cannot_add] = VIEW

        fresh = (now == IMPRESSION) | (now == SEARCH)
        fresh |= ((now == CLICK) & (before != IMPRESSION)) | ((now == VIEW) & (before != CLICK))
        new = np.flatnonzero(fresh)
        kind[new] = _next_kind(world, rng, kind[new], who[new], before[new])
        item[new] = world.item_like(rng, kind[new], who[new], item[new])

        add = np.flatnonzero(now == ADD)
        cart[add, held[add]] = item[add]
        quantity[add] = carried[add, held[add]] = np.minimum(rng.geometric(0.8, len(add)), 9)
        held[add] += 1
        out = np.flatnonzero((now == PURCHASE) | (now == REMOVE))
        held[out] -= 1
        item[out], quantity[out] = cart[out, held[out]], carried[out, held[out]]
        kind[out] = world.kind[item[out]]

        pause = np.clip(_PAUSE_S[now] * np.exp(rng.normal(0, 0.8, m)) * 1000, 200, 600_000)
        rows = np.zeros(m, ROW)
        rows["session"], rows["who"], rows["item"], rows["type"] = session[:m], who[:m], item[:m], now
        rows["time"], rows["dwell"], rows["quantity"] = clock[:m], pause, quantity[:m]
        rows["query"] = rng.integers(0, 3, m)
        rows["rating"] = np.clip(np.rint(world.quality[item[:m]] + rng.normal(0, 0.7, m)), 1, 5)
        steps.append(rows[clock[:m] - start[session[:m]] < LONGEST_MS])
        clock[:m] += pause
        last[:m] = now
    walked: Rows = np.concatenate(steps)
    return sort_rows(walked, "time")


def sort_rows(rows: Rows, by: str) -> Rows:
    """Sorts rows by a column; rows with the same value keep their order."""
    ordered: Rows = rows[np.argsort(rows[by], kind="stable")]
    return ordered


def _next_kind(world: World, rng: np.random.Generator, kind: Ints, who: Ints, before: Ints) -> Ints:
    """Draws the next kind: mostly the same, or what goes with it (more often after the cart), or a whim."""
    n = len(kind)
    spin = rng.random(n)
    related = world.companions[kind, rng.integers(0, world.companion_count[kind])]
    goes_on = np.where((before == ADD) | (before == PURCHASE), 0.6, 0.2)
    whim = world.likes[who, rng.integers(0, 4, n)]
    moved = np.where(spin < goes_on, related, np.where(spin > 0.95, whim, kind))
    return np.where(before == SEARCH, kind, moved)  # a search finds the kind that was searched for
