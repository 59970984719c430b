"""The event frame: sessions and their items, as session features see them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from udfs.catalog.attributes import Catalog
from udfs.contracts.clickstream import EVENT_TYPES
from udfs.core.arrays import Bools, Floats, Ints, Texts, factorize, group_ids, segment_sum
from udfs.sessions.cleaning import cleaned
from udfs.sessions.columns import Sessions


class Present(NamedTuple):
    """The N values of events that are not missing, in the events' order."""

    event: Ints  #: int64 [N]
    session: Ints  #: int64 [N]
    values: Floats  #: float64 [N]
    n: Ints  #: int64 [S], the number of each session


class Groups(NamedTuple):
    """G groups: events of one session that have something in common, such as the item.

    Groups are numbered by session, then by their first event.
    """

    of: Ints  #: int64 [E], the group of each event, -1 without one
    first: Ints  #: int64 [G], the first event of each group
    session: Ints  #: int64 [G], the session of each group

    def sizes(self, where: Bools | None = None) -> Ints:
        """int64 [G]: the number of events in each group, or of those in `where` (bool [E])."""
        of = self.of + 1
        return np.bincount(of if where is None else of * where, minlength=len(self.session) + 1)[1:]


class Shares(NamedTuple):
    """K parts of sessions, such as categories, numbered by session, then by the first event of the part's items."""

    session: Ints  #: int64 [K], the session of each part
    events: Ints  #: int64 [K], the number of events in each part


@dataclass(frozen=True)
class EventFrame(Sessions):
    """What features are computed from: cleaned sessions, their items in the catalog, and sums over sessions.

    A session's events are in canonical order. Its results do not depend on the other sessions, to the bit: whole
    numbers are exact in any order, and floats are added one after the other (np.bincount).
    """

    catalog: Catalog | None = None
    memo: dict[Callable[..., Any], Any] = field(default_factory=dict)  #: results of udfs.features.shared's functions

    @classmethod
    def of(cls, sessions: Sessions, catalog: Catalog | None = None) -> "EventFrame":
        """Clean sessions, whose events may come in any order."""
        clean = cleaned(sessions)
        return cls(clean.offsets, clean.start, clean.end, clean.count, clean.columns, catalog)

    # --- columns that features share ----------------------------------------------------------------------------------

    @cached_property
    def type_counts(self) -> Ints:
        """int64 [S, event types]: events by type."""
        kinds = len(EVENT_TYPES)
        return np.bincount(self.session_of * kinds + self.type_code, minlength=len(self) * kinds).reshape(-1, kinds)

    @cached_property
    def gap_ms(self) -> Floats:
        """float64 [E]: time since the session's previous event, NaN for its first."""
        gap = np.diff(self.event_time, prepend=0).astype(np.float64)
        gap[self.offsets[:-1]] = np.nan
        return gap

    @cached_property
    def item(self) -> Groups:
        """The events of each item of each session."""
        return self.groups(self._items[0])

    @cached_property
    def interacted(self) -> Bools:
        """bool [E]: interactions with an item."""
        return (self.item.of >= 0) & self.is_interaction

    @cached_property
    def current(self) -> Ints:
        """int64 [S]: the last interaction with an item, -1 without one; its item is the current one."""
        return self.last_where(self.interacted)

    @cached_property
    def item_row(self) -> Ints:
        """int64 [groups of item]: the catalog's row of each item of each session, -1 for an unknown item."""
        codes, items = self._items
        row_of = {} if self.catalog is None else self.catalog.row_of
        rows = np.fromiter(map(row_of.get, items, repeat(-1)), np.int64, len(items))  # of each different item
        return np.take(rows, codes[self.item.first])

    @cached_property
    def category(self) -> Shares:
        """Categories of the items interacted with; none without a catalog."""
        return self._shares(None if self.catalog is None else self.catalog.category)

    @cached_property
    def brand(self) -> Shares:
        """Brands of the items interacted with; none without a catalog."""
        return self._shares(None if self.catalog is None else self.catalog.brand)

    @cached_property
    def _items(self) -> tuple[Ints, npt.NDArray[Any]]:
        return factorize(self.item_id)

    @cached_property
    def _interactions(self) -> Ints:
        """int64 [groups of item]: interactions with each item of each session."""
        return self.item.sizes(self.interacted)

    def _shares(self, codes: Ints | None) -> Shares:
        """Share out interactions by the codes of items (int64 [items of the catalog], -1 for none)."""
        code = np.append([] if codes is None else codes, -1).astype(np.int64)[self.item_row]
        known = np.flatnonzero((self._interactions > 0) & (code >= 0))
        session = self.item.session[known]
        part, first = group_ids(session * (code.max(initial=0) + 1) + code[known])
        return Shares(session[first], segment_sum(part, self._interactions[known], len(first)).astype(np.int64))

    # --- over sessions ------------------------------------------------------------------------------------------------

    def known(self, values: Floats | Present) -> Present:
        """Return the values (float64 [E]) that are not missing."""
        if isinstance(values, Present):
            return values
        event = np.flatnonzero(~np.isnan(values))
        session = self.session_of[event]
        return Present(event, session, values[event], np.bincount(session, minlength=len(self)))

    @cached_property
    def known_prices(self) -> Present:
        """The prices that are not missing."""
        return self.known(self.price)

    @cached_property
    def known_dwell_ms(self) -> Present:
        """The dwell times that are not missing."""
        return self.known(self.dwell_ms)

    @cached_property
    def known_gap_ms(self) -> Present:
        """The time between an event and the one before, where there is one."""
        return self.known(self.gap_ms)

    def count_of(self, mask: Bools) -> Ints:
        """bool [E] to int64 [S]: the number of events in the mask."""
        return np.add.reduceat(mask, self.offsets[:-1], dtype=np.int64)

    def sum_of(self, values: Floats | Present) -> Floats:
        """float64 [E] to float64 [S]: the sum of the known values, 0 without one."""
        known = self.known(values)
        return segment_sum(known.session, known.values, len(self))

    def mean_of(self, values: Floats | Present) -> Floats:
        """float64 [E] to float64 [S]: the mean of the known values, NaN without one."""
        known = self.known(values)
        return self.sum_of(known) / known.n

    def min_of(self, values: Floats | Present) -> Floats:
        """float64 [E] to float64 [S]: the lowest known value, NaN without one."""
        return self._reduced(np.minimum, self.known(values))

    def max_of(self, values: Floats | Present) -> Floats:
        """float64 [E] to float64 [S]: the highest known value, NaN without one."""
        return self._reduced(np.maximum, self.known(values))

    def last_where(self, mask: Bools) -> Ints:
        """bool [E] to int64 [S]: the last such event of each session, -1 without one."""
        last = np.full(len(self), -1)
        events = np.flatnonzero(mask)
        last[self.session_of[events]] = events  # the last write wins
        return last

    def last_of(self, values: Floats | Present) -> Floats:
        """float64 [E] to float64 [S]: the last known value, NaN without one."""
        known = self.known(values)
        last = np.full(len(self), np.nan)
        last[known.session] = known.values  # the last write wins
        return last

    def last_text(self, texts: Texts) -> Texts:
        """[E] to [S]: the last known text, None without one."""
        found: Texts = texts[self.offsets[1:] - 1]
        if np.any(found == np.array(None)):  # else the last events are enough
            last = self.last_where(texts != np.array(None))
            found = np.where(last >= 0, texts[last], np.array(None))
        return found

    def _reduced(self, reduce: np.ufunc, known: Present) -> Floats:
        has_any = known.n > 0
        first = np.cumsum(known.n) - known.n
        reduced = np.full(len(self), np.nan)
        reduced[has_any] = reduce.reduceat(known.values, first[has_any])
        return reduced

    def groups(self, codes: Ints) -> Groups:
        """Group the events of a session that have the same code (int64 [E], -1 for none); any numbers will do."""
        events = np.flatnonzero(codes >= 0)
        session = self.session_of[events]
        of = np.full(len(codes), -1)
        of[events], first = group_ids(session * (codes.max() + 1) + codes[events])
        return Groups(of, events[first], session[first])

    def distinct(self, groups: Groups, where: Bools | None = None) -> Ints:
        """int64 [S]: the number of groups of each session, or of those with an event in `where` (bool [E])."""
        return np.bincount(groups.session[groups.sizes(where) > 0], minlength=len(self))
