"""Sessions as columns: flat event arrays and the offsets that cut them, and what features read of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import chain, repeat
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from udfs.cleaning import cleaned
from udfs.contracts import EVENT_TYPES
from udfs.events import PACKED, unpacked_events

TYPE_CODE = {name: code for code, name in enumerate(EVENT_TYPES)}

#: Up to so many values a dictionary numbers them in less time than pandas needs to begin.
FEW = 512

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Sessions:
    """S sessions with E events in all; the events of session s are offsets[s]:offsets[s + 1], oldest first.

    Events are a session's last ones (setting session.max_events); start, end and count are the whole session's.
    Every session has at least one event. Missing numbers are NaN, missing strings None.
    """

    offsets: Ints  #: int64 [S + 1]
    start: Ints  #: int64 [S], epoch ms
    end: Ints  #: int64 [S], epoch ms
    count: Ints  #: int64 [S], events
    event_time: Ints  #: int64 [E], epoch ms
    type_code: npt.NDArray[np.int8]  #: int8 [E], place in EVENT_TYPES
    item_id: Texts  #: str or None [E]
    query: Texts  #: str or None [E]
    price: Floats  #: float64 [E], currency units
    quantity: Floats  #: float64 [E], pieces
    rating: Floats  #: float64 [E], 1 to 5
    dwell_ms: Floats  #: float64 [E], milliseconds
    event_id: Texts  #: str or None [E]
    device: Texts  #: str or None [E]
    timezone: Texts  #: str or None [E], as the shop sent it
    returning: Texts  #: str or None [E], as the shop sent it
    locale: Texts  #: str or None [E]

    @classmethod
    def from_arrays(
        cls,
        start: Sequence[int],
        end: Sequence[int],
        count: Sequence[int],
        event_time: Sequence[Any],
        event_type: Sequence[Any],
        item_id: Sequence[Any],
        query: Sequence[Any],
        price: Sequence[Any],
        quantity: Sequence[Any],
        rating: Sequence[Any],
        dwell_ms: Sequence[Any],
        event_id: Sequence[Any] | None = None,
        device: Sequence[Any] | None = None,
        timezone: Sequence[Any] | None = None,
        returning: Sequence[Any] | None = None,
        locale: Sequence[Any] | None = None,
    ) -> "Sessions":
        """From S arrays a column, as Flink's ARRAY_AGG hands them over; the last five may be left out."""
        lengths = np.fromiter((len(times) for times in event_time), dtype=np.int64, count=len(event_time))
        codes, names = coded(_flat(event_type, np.object_))

        def texts(arrays: Sequence[Any] | None) -> Texts:
            return np.full(lengths.sum(), None) if arrays is None else _flat(arrays, np.object_)

        return cls(
            offsets=np.concatenate(([0], np.cumsum(lengths))),
            start=np.asarray(start, dtype=np.int64),
            end=np.asarray(end, dtype=np.int64),
            count=np.asarray(count, dtype=np.int64),
            event_time=_flat(event_time, np.int64),
            type_code=np.array([TYPE_CODE[name] for name in names], dtype=np.int8)[codes],
            item_id=texts(item_id),
            query=texts(query),
            price=_flat(price, np.float64),
            quantity=_flat(quantity, np.float64),
            rating=_flat(rating, np.float64),
            dwell_ms=_flat(dwell_ms, np.float64),
            event_id=texts(event_id),
            device=texts(device),
            timezone=texts(timezone),
            returning=texts(returning),
            locale=texts(locale),
        )

    @classmethod
    def from_packed(
        cls, start: Sequence[int], end: Sequence[int], count: Sequence[int], packed: Sequence[Sequence[str]]
    ) -> "Sessions":
        """From S sequences of packed events (udfs.events.packed_events), one at least."""
        lengths = np.fromiter(map(len, packed), np.int64, len(packed))
        columns = dict(zip(PACKED, zip(*unpacked_events(chain.from_iterable(packed)), strict=True), strict=True))
        types = columns.pop("event_type")
        numbers: dict[str, Any] = dict.fromkeys(("price", "quantity", "rating", "dwell_ms"), np.float64)
        numbers["event_time"] = np.int64
        arrays: dict[str, Any] = {
            name: np.array(column, numbers[name]) if name in numbers else np.fromiter(column, np.object_, len(column))
            for name, column in columns.items()
        }
        return cls(
            offsets=np.concatenate(([0], np.cumsum(lengths))),
            start=np.asarray(start, dtype=np.int64),
            end=np.asarray(end, dtype=np.int64),
            count=np.asarray(count, dtype=np.int64),
            type_code=np.fromiter(map(TYPE_CODE.__getitem__, types), np.int8, len(types)),
            **arrays,
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def session_of(self) -> Ints:
        """int64 [E]: the session that each event belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def is_type(self, *names: str) -> Bools:
        """bool [E]: events of these types."""
        found = self.type_code == TYPE_CODE[names[0]]
        for name in names[1:]:
            found |= self.type_code == TYPE_CODE[name]
        return np.asarray(found)

    def part(self, first: int, last: int) -> "Sessions":
        """The sessions from `first` up to `last`, which is left out."""
        events = slice(*self.offsets[[first, last]])
        offsets = self.offsets[first : last + 1] - self.offsets[first]
        whole = {name: getattr(self, name)[first:last] for name in ("start", "end", "count")}
        return replace(self._at(events), offsets=offsets, **whole)

    def last(self, most: int) -> "Sessions":
        """Each session's last events, `most` at most; start, end and count stay the whole session's."""
        lengths = np.diff(self.offsets)
        if lengths.max(initial=0) <= most:
            return self
        stays = np.flatnonzero(self.offsets[self.session_of + 1] - np.arange(self.offsets[-1]) <= most)
        return replace(self._at(stays), offsets=np.concatenate(([0], np.cumsum(np.minimum(lengths, most)))))

    def own(self) -> "Sessions":
        """Without events before the start or after the end, and without repeats: of one event_id the first stays."""
        session = self.session_of
        stays = (self.event_time >= self.start[session]) & (self.event_time <= self.end[session])
        again = self._repeats(np.arange(len(session)))
        if stays.all() and not len(again):
            return self
        stays[again] = False
        lengths = np.add.reduceat(stays, self.offsets[:-1], dtype=np.int64)
        return replace(self._at(np.flatnonzero(stays)), offsets=np.concatenate(([0], np.cumsum(lengths))))

    def canonical(self) -> "Sessions":
        """The same, in whatever order a session's events come and however often each of them does.

        They are sorted by event_time, then event_id, then all other columns; of the events of one event_id the
        first stays. `count` is less what was dropped.
        """
        session, time = self.session_of, self.event_time
        within = ~opens(session)[1:]
        order = np.arange(len(session))
        if len(late := np.flatnonzero(within & (time[1:] < time[:-1]))):
            mixed = np.zeros(len(self), dtype=bool)
            mixed[session[late]] = True
            rows = np.flatnonzero(mixed[session])
            order[rows] = rows[np.lexsort((time[rows], session[rows]))]
        same = within & ~opens(time[order])[1:]
        if same.any():
            tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
            order[tied] = self._sorted(order[tied], np.cumsum(np.append(True, ~same))[tied])
        stays = np.ones(len(order), dtype=bool)
        stays[self._repeats(order)] = False
        if len(late) == 0 and not same.any() and stays.all():
            return self
        lengths = np.add.reduceat(stays, self.offsets[:-1], dtype=np.int64)
        count = self.count - (np.diff(self.offsets) - lengths)
        return replace(self._at(order[stays]), offsets=np.concatenate(([0], np.cumsum(lengths))), count=count)

    def _repeats(self, order: Ints) -> Ints:
        """int64 [n]: places in an order of the events (int64 [E], by session) that have the event_id of one before."""
        session, ids = self.session_of, self.event_id
        again = np.flatnonzero(_alike(ids, session)[order])
        if not len(again):
            return again
        codes, known = coded(ids[order[again]])
        again, codes = again[codes >= 0], codes[codes >= 0]
        return np.delete(again, grouped(session[again] * len(known) + codes)[1])

    def _sorted(self, rows: Ints, run: Ints) -> Ints:
        """Events (int64 [n]) sorted by the run of one time and session that they are in (int64 [n]), then all else."""
        keys = {"run": pa.array(run)}
        for name in dict.fromkeys(("event_id", *_EVENT_COLUMNS)):
            column = getattr(self, name)[rows]
            keys[name] = pa.array(column, pa.large_string() if column.dtype == np.object_ else None)
        order = pc.sort_indices(pa.table(keys), sort_keys=[(name, "ascending") for name in keys])
        return np.asarray(rows[np.asarray(order)], dtype=np.int64)

    def _at(self, events: Ints | slice) -> "Sessions":
        return replace(self, **{name: getattr(self, name)[events] for name in _EVENT_COLUMNS})


_EVENT_COLUMNS = tuple(each.name for each in fields(Sessions) if each.name not in ("offsets", "start", "end", "count"))


@dataclass(frozen=True)
class Catalogue:
    """What features read of a bundle's items, a row an item.

    vectors are on the ranking's grid (udfs.ranking.to_grid): whole numbers, whose sums and products are exact.
    """

    row_of: Mapping[str, int]  #: item id to row
    category: Ints  #: int64 [items], a number for each category, -1 without one
    brand: Ints  #: int64 [items], a number for each brand, -1 without one
    vectors: npt.NDArray[np.float32]  #: float32 [items, dimensions]

    @cached_property
    def squares(self) -> Floats:
        """float64 [items]: the squared length of each vector, a whole number."""
        return np.asarray(np.einsum("id,id->i", self.vectors, self.vectors, dtype=np.float64))


class Known(NamedTuple):
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
class Events(Sessions):
    """What features are computed from: cleaned sessions, what is known of their items, and sums over sessions.

    Here the events of a session are in canonical order. Each result is a session's own to the bit, whatever
    sessions are beside it: whole numbers are exact in any order; floats are added one after the other (np.bincount).
    """

    catalogue: Catalogue | None
    memo: dict[Any, Any] = field(default_factory=dict)  #: what udfs.features.shared has computed

    @classmethod
    def of(cls, sessions: Sessions, catalogue: Catalogue | None = None) -> "Events":
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
        """bool [E]: events with an item, but for impressions: what the shopper turned to."""
        return (self.item.of >= 0) & ~self.is_type("impression")

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
        return coded(self.item_id)

    @cached_property
    def _met_sizes(self) -> Ints:
        return self.item.sizes(self.met)

    def _shares(self, codes: Ints | None) -> "Shares":
        met = self._met_sizes
        code = np.append([] if codes is None else codes, -1).astype(np.int64)[self.item_row]
        known = np.flatnonzero((met > 0) & (code >= 0))
        session = self.item.session[known]
        of, first = grouped(session * (code.max(initial=0) + 1) + code[known])
        return Shares(session[first], added(of, met[known], len(first)).astype(np.int64))

    # --- over sessions ------------------------------------------------------------------------------------------------

    def count_of(self, mask: Bools) -> Ints:
        """bool [E] to int64 [S]: how many."""
        return np.add.reduceat(mask, self.offsets[:-1], dtype=np.int64)

    def known(self, values: Floats) -> Known:
        """The known ones among values, float64 [E]. Looked for once in an array, which must not change."""
        if id(values) not in self.memo:
            event = np.flatnonzero(~np.isnan(values))
            session = self.session[event]
            found = Known(event, session, values[event], np.bincount(session, minlength=len(self)))
            self.memo[id(values)] = values, found  # which keeps the id from being another's
        known: Known = self.memo[id(values)][1]
        return known

    def sum_of(self, values: Floats) -> Floats:
        """float64 [E] to float64 [S]; unknown values count nothing."""
        known = self.known(values)
        return added(known.session, known.values, len(self))

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
        of[events], first = grouped(self.session[events] * (codes.max() + 1) + codes[events])
        return Groups(of, events[first], self.session[events[first]])

    def distinct(self, groups: Groups, where: Bools | None = None) -> Ints:
        """int64 [S]: groups of each session, or those with an event in `where` (bool [E])."""
        return np.bincount(groups.session[groups.sizes(where) > 0], minlength=len(self))


def coded(values: npt.NDArray[Any]) -> tuple[Ints, npt.NDArray[Any]]:
    """Values [n] as numbers, int64 [n] from 0 on as they appear, -1 for None; and the different values.

    Values are texts, None, or whole numbers.
    """
    if len(values) <= FEW:
        number: dict[Any, int] = {}
        plain = values.tolist()
        codes = [-1 if value is None else number.setdefault(value, len(number)) for value in plain]
        return np.array(codes, dtype=np.int64), np.fromiter(number, values.dtype, len(number))
    from pandas import factorize  # here, as it takes commands 0.4 s that they do not have

    numbers, different = factorize(values)
    return numbers, different


def grouped(keys: Ints) -> tuple[Ints, Ints]:
    """Numbers for n keys, int64 [n] from 0 on as they appear; and where each is met first, rising int64.

    Keys are not negative, and below 2^63 / 2n. Sorting them, each with its place, takes half the time of hashing.
    """
    bits = len(keys).bit_length()
    ordered = np.sort(keys << bits | np.arange(len(keys)))
    place = ordered & ((1 << bits) - 1)
    opening = opens(ordered >> bits)
    is_first = np.zeros(len(keys), dtype=bool)
    is_first[place[opening]] = True
    numbers = np.empty(len(keys), dtype=np.int64)
    number = (np.cumsum(is_first) - 1)[place[opening]]
    numbers[place] = number[np.cumsum(opening) - 1]
    return numbers, np.flatnonzero(is_first)


def opens(values: npt.NDArray[Any]) -> Bools:
    """bool [n]: values (number [n]) that are other than the one before; the first one is."""
    other = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=other[1:])
    return other


#: An odd number without pattern: its multiples, modulo 2^64, are apart from each other in all bits.
_SPREAD = np.int64(0x1E3779B97F4A7C15)


def _alike(texts: Texts, session: Ints) -> Bools:
    """bool [n]: a text (str or None [n]) that may well be there twice in its session; one that is, always."""
    hashes = np.fromiter(map(hash, texts), np.int64, len(texts)) + session * _SPREAD
    ordered = np.sort(hashes)
    crowded = np.zeros(1 << min(20, len(texts).bit_length() + 6), dtype=bool)  # by a hash's last bits
    crowded[ordered[1:][ordered[1:] == ordered[:-1]] & (len(crowded) - 1)] = True
    return np.asarray(crowded[hashes & (len(crowded) - 1)])


def added(to: npt.NDArray[np.integer[Any]], values: npt.NDArray[Any], size: int) -> Floats:
    """float64 [size]: the sum of the values [n] that go to each place (whole [n]), one added after the other."""
    return np.asarray(np.bincount(to, values, minlength=size), dtype=np.float64)


def _flat(arrays: Sequence[Any], dtype: Any) -> npt.NDArray[Any]:
    if len(arrays) == 0:
        return np.empty(0, dtype=dtype)
    return np.asarray(np.concatenate(arrays), dtype=dtype)
