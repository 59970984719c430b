"""The recent events that define each session's intent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from udfs.contracts.clickstream import EVENT_TYPES
from udfs.core.arrays import Ints
from udfs.sessions.columns import Sessions

#: How much an event of a type says about what the shopper wants, in 1/1024.
TYPE_WEIGHT = {
    "view": 1024,
    "click": 1024,
    "search": 1536,
    "add_to_cart": 2048,
    "remove_from_cart": 512,
    "purchase": 1536,
    "rate": 1024,
    "impression": 0,
}


@dataclass(frozen=True)
class Signals:
    """The recent events that say what a session is about: N of them, sorted by session, oldest first.

    session int64 [N]; weight int64 [N], of the event by type and age; item int64 [N], row in the catalogue or -1;
    text: str [N], the item's title or the query.
    """

    session: Ints
    weight: Ints
    item: Ints
    text: list[str]


def item_rows(sessions: Sessions, row_of: Mapping[str, int]) -> Ints:
    """int64 [E]: each event's row in the catalogue, -1 without an item or with one that is not in it."""
    return np.fromiter((row_of.get(item, -1) for item in sessions.item_id), np.int64, len(sessions.item_id))


def signals_of(sessions: Sessions, rows: Ints, titles: Sequence[str], recent: int, decay: float) -> Signals:
    """The last `recent` events of each session that have a weight and a text. rows: int64 [E], item_rows."""
    weight = np.array([TYPE_WEIGHT[name] for name in EVENT_TYPES])[sessions.type_code]
    search = sessions.is_type("search")
    chosen = np.flatnonzero((weight > 0) & (search | (rows >= 0)))
    session = sessions.session_of[chosen]
    # Age 0 is a session's newest signal: the signals up to its end, less the place.
    age = np.searchsorted(session, session, side="right") - 1 - np.arange(len(chosen))
    chosen, session, age = (column[age < recent] for column in (chosen, session, age))
    faded = np.rint(weight[chosen] * decay**age).astype(np.int64)
    item = np.where(search[chosen], -1, rows[chosen])
    text = [titles[row] if row >= 0 else query for row, query in zip(item, sessions.query[chosen], strict=True)]
    return Signals(session, faded, item, text)
