"""Cleans sessions: finds values out of bounds, duplicates and bots.

Only duplicates are dropped. A value out of bounds becomes unknown, an item that is not in the catalog is counted, and a
session faster than any person is flagged. The same rules hold in session, on close and in a backfill, as features are
computed from cleaned sessions only (EventFrame.of).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from udfs.catalog.attributes import Catalog
from udfs.core.arrays import Bools, Ints, factorize
from udfs.core.clock import DAY_MS
from udfs.sessions.columns import Sessions


class Bound(NamedTuple):
    """The range of a value, both ends included, its unit, and the reason; any other value is unknown."""

    low: float
    high: float
    unit: str
    why: str


#: By column of events: the rules that make values unknown.
BOUNDS: Mapping[str, Bound] = {
    "price": Bound(0, 1e9, "currency", "Prices in the currencies of the smallest units stay below."),
    "quantity": Bound(1, 1e6, "pieces", "Wholesale orders stay below: Online Retail's largest line is 80,995."),
    "rating": Bound(1, 5, "stars", "The scale of the contract."),
    "dwell_ms": Bound(0, DAY_MS, "ms", "A page left open for more than a day is not being looked at."),
}

#: What a shopper does one at a time. A checkout buys a whole basket at once, a page shows many impressions at once.
BY_HAND = ("view", "click", "search")

#: A session with more events BY_HAND than this within BOT_MS is a bot's. No person reaches that rate: a criterion that
#: labels few sessions, but with certainty (Duskin and Feitelson, Distinguishing humans from robots in web search logs,
#: 2009). The fastest of yoochoose_100k's 17,794 sessions has 9 clicks in that time; a page may send a click and a view.
BOT_EVENTS = 30

BOT_MS = 10_000


@dataclass(frozen=True)
class Cleaned:
    """What cleaning found in S sessions."""

    duplicates: Ints  #: int64 [S], events dropped because an equal one had come before
    repairs: Mapping[str, Ints]  #: by column of BOUNDS int64 [S], values that became unknown
    bot: Bools  #: bool [S]

    @property
    def repaired(self) -> Ints:
        """int64 [S]: values of any column that became unknown."""
        return np.asarray(sum(self.repairs.values()))


def clean(sessions: Sessions) -> tuple[Sessions, Cleaned]:
    """Return sessions in canonical order, without duplicates and values out of bounds, and what was found.

    The result does not depend on the order of a session's events, nor on duplicates but for their number. Cleaned
    sessions stay as they are.
    """
    canonical = sessions.canonical()
    wrong = _out_of_bounds(canonical)
    repairs = {name: np.add.reduceat(mask, canonical.offsets[:-1], dtype=np.int64) for name, mask in wrong.items()}
    sound = _without(canonical, wrong)
    return sound, Cleaned(sessions.count - sound.count, repairs, _bots(sound))


def cleaned(sessions: Sessions) -> Sessions:
    """Return the sessions that `clean` returns, without counting."""
    canonical = sessions.canonical()
    return _without(canonical, _out_of_bounds(canonical))


def unknown_items(sessions: Sessions, catalog: Catalog) -> Ints:
    """int64 [S]: the number of events whose item is not in the catalog."""
    codes, items = factorize(sessions.item_id)
    unknown = np.array([*(item not in catalog.row_of for item in items), False])  # by code; the last: no item
    return np.add.reduceat(unknown[codes], sessions.offsets[:-1], dtype=np.int64)


def _out_of_bounds(canonical: Sessions) -> dict[str, Bools]:
    """bool [E] by column of BOUNDS."""
    values = canonical.columns
    return {name: (values[name] < bound.low) | (values[name] > bound.high) for name, bound in BOUNDS.items()}


def _without(canonical: Sessions, wrong: Mapping[str, Bools]) -> Sessions:
    repaired = {name: np.where(mask, np.nan, canonical.columns[name]) for name, mask in wrong.items() if mask.any()}
    # Again: events of one time without an id are in the order of their values.
    return canonical.with_columns(repaired).canonical() if repaired else canonical


def _bots(sessions: Sessions) -> Bools:
    """bool [S]: more than BOT_EVENTS events by hand within BOT_MS."""
    events = np.flatnonzero(sessions.is_type(*BY_HAND))
    session = sessions.session_of[events]
    time = sessions.event_time[events]
    fast = (session[BOT_EVENTS:] == session[:-BOT_EVENTS]) & (time[BOT_EVENTS:] - time[:-BOT_EVENTS] <= BOT_MS)
    bot = np.zeros(len(sessions), dtype=bool)
    bot[session[BOT_EVENTS:][fast]] = True
    return bot
