"""The recent events that define each session's intent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from udfs.contracts.clickstream import EVENT_TYPES
from udfs.core.arrays import Ints, position_in_group
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

_WEIGHT_OF_CODE = np.array([TYPE_WEIGHT[name] for name in EVENT_TYPES])


@dataclass(frozen=True)
class Signals:
    """The N recent events that define each session's intent, sorted by session, oldest first."""

    session: Ints  #: int64 [N]
    weight: Ints  #: int64 [N], by the event's type and age
    item: Ints  #: int64 [N], row in the catalog, -1 for a search
    text: list[str]  #: [N], the title of the item or the query

    def slice(self, first: int, last: int) -> "Signals":
        """Return the signals of the sessions from `first` up to but not including `last`, renumbered from 0."""
        part = slice(*np.searchsorted(self.session, [first, last]))
        return Signals(self.session[part] - first, self.weight[part], self.item[part], self.text[part])


def item_rows(sessions: Sessions, row_of: Mapping[str, int]) -> Ints:
    """Return each event's row in the catalog, int64 [E]; -1 without an item or with an unknown one."""
    return np.fromiter(map(row_of.get, sessions.item_id, repeat(-1)), np.int64, len(sessions.item_id))


def signals_of(sessions: Sessions, rows: Ints, titles: Sequence[str], recent: int, decay: float) -> Signals:
    """Return the last `recent` events of each session that have a weight and a text.

    rows: int64 [E], as item_rows gives them. decay: weight of an event relative to the next newer one.
    """
    weight = _WEIGHT_OF_CODE[sessions.type_code]
    is_search = sessions.is_type("search")
    events = np.flatnonzero((weight > 0) & (is_search | (rows >= 0)))
    session = sessions.session_of[events]
    age = position_in_group(session[::-1])[::-1]  # 0 for a session's newest
    events, session, age = (column[age < recent] for column in (events, session, age))
    item = np.where(is_search[events], -1, rows[events])
    return Signals(
        session=session,
        weight=np.rint(weight[events] * decay**age).astype(np.int64),
        item=item,
        text=[titles[row] if row >= 0 else query for row, query in zip(item, sessions.query[events], strict=True)],
    )
