"""The event frame: what session features are computed from."""

from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from udfs.catalog.attributes import Catalog
from udfs.contracts.clickstream import EVENT_TYPES, INTERACTIONS
from udfs.core.arrays import Bools, Floats, Ints, Texts, factorize, group_ids, segment_sum
from udfs.sessions.cleaning import cleaned
from udfs.sessions.columns import Sessions


class Present(NamedTuple):
    """The known ones among values of events: N of them, in the events' order."""

    event: Ints  #: int64 [N]
    session: Ints  #: int64 [N]
    values: Floats  #: float64 [N]
    n: Ints  #: int64 [S], of each session


class Groups(NamedTuple):
    """The events of a session that have something in common, such as the item: G groups in all.

    Groups are numbered by session, then by their first event.
    """

    of: Ints  #: int64 [E], the group of each event, -1 without one
    first: Ints  #: int64 [G], the first event of each group
    session: Ints  #: int64 [G], the session of each group

    def sizes(self, where: Bools | None = None) -> Ints:
        """int64 [G]: events of each group, or those of them that are in `where` (bool [E])."""
        of = self.of + 1
        return np.bincount(of if where is None else of * where, minlength=len(self.session) + 1)[1:]


class Shares(NamedTuple):
    """Into what sessions divide, K parts in all; numbered by session, then by the first event of the part's items."""

    session: Ints  #: int64 [K], the session of each part
    events: Ints  #: int64 [K], the events in each part


@dataclass(frozen=True)
class EventFrame(Sessions):
    """What features are computed from: cleaned sessions, what is known of their items, and sums over sessions.

    Here the events of a session are in canonical order. Each result is a session's own to the bit, whatever
    sessions are beside it: whole numbers are exact in any order; floats are added one after the other (np.bincount).
    """

    catalogue: Catalog | None
    memo: dict[Any, Any] = field(default_factory=dict)  #: what udfs.features.shared has computed

    @classmethod
    def of(cls, sessions: Sessions, catalogue: Catalog | None = None) -> "EventFrame":
        """From sessions in any order, which are cleaned."""
        clean = cleaned(sessions)
        return cls(**{each.name: getattr(clean, each.name) for each in fields(Sessions)}, catalogue=catalogue)

    # --- columns that features share ----------------------------------------------------------------------------------

    @cached_property
    def session(self) -> Ints:
        """int64 [E]: the session that each event belongs to."""
        return self.session_of

    @cached_property
    def type_counts(self) -> Ints:
        """int64 [S, event types]: events by type."""
        kinds = len(EVENT_TYPES)
        return np.bincount(self.session * kinds + self.type_code, minlength=len(self) * kinds).reshape(-1, kinds)

    @cached_property
    def gap_ms(self) -> Floats:
        """float64 [E]: time since the session's event before, NaN for its first one."""
        gap = np.diff(self.event_time, prepend=0).astype(np.float64)
        gap[self.offsets[:-1]] = np.nan
        return gap

    @cached_property
    def item(self) -> Groups:
        """The events of each item of each session."""
        return self.groups(self._items[0])

    @cached_property
    def met(self) -> Bools:
        """bool [E]: interactions with an item."""
        return (self.item.of >= 0) & self.is_type(*INTERACTIONS)

    @cached_property
    def current(self) -> Ints:
        """int64 [S]: the event that met an item last, -1 without one; its item is the current one."""
        return self.last_where(self.met)

    @cached_property
    def item_row(self) -> Ints:
        """int64 [groups of item]: the catalogue's row of each item of each session, -1 if it is not in there."""
        codes, items = self._items
        row_of = {} if self.catalogue is None else self.catalogue.row_of
        rows = np.fromiter(map(row_of.get, items, repeat(-1)), np.int64, len(items))  # of each different item
        return np.take(rows, codes[self.item.first])

    @cached_property
    def category(self) -> "Shares":
        """What categories the items met are of; nothing without a catalogue."""
        return self._shares(None if self.catalogue is None else self.catalogue.category)

    @cached_property
    def brand(self) -> "Shares":
        """What brands the items met are of; nothing without a catalogue."""
        return self._shares(None if self.catalogue is None else self.catalogue.brand)

    @cached_property
    def _items(self) -> tuple[Ints, npt.NDArray[Any]]:
        return factorize(self.item_id)

    @cached_property
    def _met_sizes(self) -> Ints:
        return self.item.sizes(self.met)

    def _shares(self, codes: Ints | None) -> "Shares":
        met = self._met_sizes
        code = np.append([] if codes is None else codes, -1).astype(np.int64)[self.item_row]
        known = np.flatnonzero((met > 0) & (code >= 0))
        session = self.item.session[known]
        of, first = group_ids(session * (code.max(initial=0) + 1) + code[known])
        return Shares(session[first], segment_sum(of, met[known], len(first)).astype(np.int64))

    # --- over sessions ------------------------------------------------------------------------------------------------

    def count_of(self, mask: Bools) -> Ints:
        """bool [E] to int64 [S]: how many."""
        return np.add.reduceat(mask, self.offsets[:-1], dtype=np.int64)

    def known(self, values: Floats) -> Present:
        """The known ones among values, float64 [E]. Looked for once in an array, which must not change."""
        if id(values) not in self.memo:
            event = np.flatnonzero(~np.isnan(values))
            session = self.session[event]
            found = Present(event, session, values[event], np.bincount(session, minlength=len(self)))
            self.memo[id(values)] = values, found  # which keeps the id from being another's
        known: Present = self.memo[id(values)][1]
        return known

    def sum_of(self, values: Floats) -> Floats:
        """float64 [E] to float64 [S]; unknown values count nothing."""
        known = self.known(values)
        return segment_sum(known.session, known.values, len(self))

    def mean_of(self, values: Floats) -> Floats:
        """float64 [E] to float64 [S]: the mean of the known values, NaN without one."""
        return self.sum_of(values) / self.known(values).n

    def min_of(self, values: Floats) -> Floats:
        """float64 [E] to float64 [S]: the least known value, NaN without one."""
        return self._reduced(np.minimum, values)

    def max_of(self, values: Floats) -> Floats:
        """float64 [E] to float64 [S]: the greatest known value, NaN without one."""
        return self._reduced(np.maximum, values)

    def last_where(self, mask: Bools) -> Ints:
        """bool [E] to int64 [S]: the last such event of each session, -1 without one."""
        last = np.full(len(self), -1)
        events = np.flatnonzero(mask)
        last[self.session[events]] = events  # the last write wins
        return last

    def last_of(self, values: Floats) -> Floats:
        """float64 [E] to float64 [S]: the last known value, NaN without one."""
        known = self.known(values)
        last = np.full(len(self), np.nan)
        last[known.session] = known.values  # the last write wins
        return last

    def last_text(self, texts: Texts) -> Texts:
        """[E] to [S]: the last known text, None without one."""
        found: Texts = texts[self.offsets[1:] - 1]
        if np.any(found == np.array(None)):  # or the last events say it all
            last = self.last_where(texts != np.array(None))
            found = np.where(last >= 0, texts[last], np.array(None))
        return found

    def _reduced(self, reduce: np.ufunc, values: Floats) -> Floats:
        known = self.known(values)
        some = known.n > 0
        reduced = np.full(len(self), np.nan)
        reduced[some] = reduce.reduceat(known.values, (np.cumsum(known.n) - known.n)[some])
        return reduced

    def groups(self, codes: Ints) -> Groups:
        """Events of one session with one code; int64 [E], -1 for none. Which number stands for what is all the same."""
        events = np.flatnonzero(codes >= 0)
        of = np.full(len(codes), -1)
        of[events], first = group_ids(self.session[events] * (codes.max() + 1) + codes[events])
        return Groups(of, events[first], self.session[events[first]])

    def distinct(self, groups: Groups, where: Bools | None = None) -> Ints:
        """int64 [S]: groups of each session, or those with an event in `where` (bool [E])."""
        return np.bincount(groups.session[groups.sizes(where) > 0], minlength=len(self))
