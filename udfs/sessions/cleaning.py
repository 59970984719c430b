"""Cleaning of sessions: which values are not to be believed, what is a repeat, and who is no person.

Rules never drop an event but for repeats: a value out of bounds becomes unknown, an item that is not in the catalogue
is counted, a session that no person could have had is flagged. In session, on close and in a backfill the same rules
hold, as features are computed from cleaned sessions only (udfs.sessions.Events.of).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from udfs.catalog.attributes import Catalog
from udfs.core.arrays import Bools, Ints, factorize
from udfs.sessions.columns import Sessions


class Bound(NamedTuple):
    """What a value may be, both ends included, its unit, and why; anything else is unknown."""

    low: float
    high: float
    unit: str
    why: str


#: By column of an event: the rules that repair.
BOUNDS: Mapping[str, Bound] = {
    "price": Bound(0, 1e9, "currency", "Prices in the currencies of the smallest units stay below."),
    "quantity": Bound(1, 1e6, "pieces", "Wholesale orders stay below: Online Retail's largest line is 80,995."),
    "rating": Bound(1, 5, "stars", "The scale of the contract."),
    "dwell_ms": Bound(0, 86_400_000, "ms", "A page left open for more than a day is not being looked at."),
}

#: What a shopper does one at a time. A checkout buys a whole basket at once, a page shows many impressions at once.
BY_HAND = ("view", "click", "search")

#: More of these than BOT_EVENTS within BOT_MS are a bot's: a rate that no person reaches, the kind of criterion that
#: labels a few sessions with certainty (Duskin and Feitelson, Distinguishing humans from robots in web search logs,
#: 2009). The fastest of yoochoose_100k's 17,794 sessions has 9 clicks in that time; a page may send a click and a view.
BOT_EVENTS = 30

BOT_MS = 10_000


@dataclass(frozen=True)
class Cleaned:
    """What cleaning found in S sessions."""

    repeats: Ints  #: int64 [S], events dropped because their event_id had come before
    repairs: Mapping[str, Ints]  #: by column of BOUNDS int64 [S], values that became unknown
    bot: Bools  #: bool [S], a rate that no person reaches

    @property
    def repaired(self) -> Ints:
        """int64 [S]: values that became unknown, of all columns."""
        return np.asarray(sum(self.repairs.values()))


def clean(sessions: Sessions) -> tuple[Sessions, Cleaned]:
    """Sessions in canonical order, without repeats and with nothing out of bounds, and what was found in them.

    Neither the order of a session's events nor repeats of them change the result, but for `repeats`; cleaned sessions
    stay as they are. Only the events at hand are looked at.
    """
    canonical = sessions.canonical()
    wrong = _out_of_bounds(canonical)
    repairs = {name: np.add.reduceat(each, canonical.offsets[:-1], dtype=np.int64) for name, each in wrong.items()}
    sound = _without(canonical, wrong)
    return sound, Cleaned(sessions.count - canonical.count, repairs, _bots(sound))


def cleaned(sessions: Sessions) -> Sessions:
    """The same sessions as `clean` gives, without counting."""
    canonical = sessions.canonical()
    return _without(canonical, _out_of_bounds(canonical))


def unknown_items(sessions: Sessions, catalogue: Catalog) -> Ints:
    """int64 [S]: events whose item is not in the catalogue."""
    codes, items = factorize(sessions.item_id)
    unknown = np.array([*(item not in catalogue.row_of for item in items), False])  # of each different item
    return np.add.reduceat(unknown[codes], sessions.offsets[:-1], dtype=np.int64)


def _out_of_bounds(canonical: Sessions) -> dict[str, Bools]:
    """bool [E] by column of BOUNDS."""
    values = {name: getattr(canonical, name) for name in BOUNDS}
    return {name: (values[name] < bound.low) | (values[name] > bound.high) for name, bound in BOUNDS.items()}


def _without(canonical: Sessions, wrong: Mapping[str, Bools]) -> Sessions:
    repaired = {name: np.where(each, np.nan, getattr(canonical, name)) for name, each in wrong.items() if each.any()}
    # Events of one time without an id are in the order of their values.
    return replace(canonical, **repaired).canonical() if repaired else canonical


def _bots(sessions: Sessions) -> Bools:
    """bool [S]: more than BOT_EVENTS events by hand within BOT_MS."""
    events = np.flatnonzero(sessions.is_type(*BY_HAND))
    session, time = sessions.session_of[events], sessions.event_time[events]
    fast = (session[BOT_EVENTS:] == session[:-BOT_EVENTS]) & (time[BOT_EVENTS:] - time[:-BOT_EVENTS] <= BOT_MS)
    bot = np.zeros(len(sessions), dtype=bool)
    bot[session[BOT_EVENTS:][fast]] = True
    return bot
