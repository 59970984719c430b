"""S sessions as flat event columns with offsets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from udfs.contracts.clickstream import EVENT_FIELDS, EVENT_TYPES, INTERACTIONS
from udfs.core.arrays import Bools, Ints, Texts, factorize, group_ids, group_starts
from udfs.events.columns import MORE_ITEMS, PACKED
from udfs.events.packing import further_items, unpacked_events

Column = npt.NDArray[Any]

TYPE_CODE = {name: code for code, name in enumerate(EVENT_TYPES)}

_IS_INTERACTION = np.array([name in INTERACTIONS for name in EVENT_TYPES])


def _dtypes() -> dict[str, Any]:
    dtypes: dict[str, Any] = {}
    for field in EVENT_FIELDS:
        if field.name == "event_type":
            dtypes["type_code"] = np.int8
        elif field.name in PACKED:
            number = np.int64 if field.required else np.float64
            dtypes[field.name] = np.object_ if field.sql == "STRING" else number
    return dtypes


#: dtypes of Sessions.columns. Texts are objects, str or None; a number that may be missing is float64, NaN or not;
#: type_code int8 is the event_type's position in EVENT_TYPES.
COLUMN_DTYPES = _dtypes()


@dataclass(frozen=True)
class Sessions:
    """S sessions with E events in all; the events of session s are offsets[s]:offsets[s + 1], oldest first.

    Events are a session's last ones (setting session.max_events); start, end and count are the whole session's.
    Every session has at least one event. A column of events is an attribute too: `sessions.price`.
    """

    offsets: Ints  #: int64 [S + 1]
    start: Ints  #: int64 [S], epoch ms
    end: Ints  #: int64 [S], epoch ms
    count: Ints  #: int64 [S], events
    columns: Mapping[str, Column]  #: [E] each, one per field of an event: names and dtypes of COLUMN_DTYPES

    def __post_init__(self) -> None:
        self.__dict__.update(self.columns)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Column: ...

    @classmethod
    def from_arrays(
        cls, start: Sequence[int], end: Sequence[int], count: Sequence[int], **events: Sequence[Any]
    ) -> "Sessions":
        """Make S sessions from S arrays per field, as Flink's ARRAY_AGG hands them over.

        events: by the field's name; event_time and event_type are required, any other field may be left out. count: of
        records; an order counts as one event per line item.
        """
        lengths = np.fromiter(map(len, events["event_time"]), np.int64, len(events["event_time"]))
        more_items = _flat(events.pop(MORE_ITEMS, [[None] * int(lengths.sum())]), np.object_)
        codes, names = factorize(_flat(events.pop("event_type"), np.object_))
        given = {name: _flat(arrays, COLUMN_DTYPES[name]) for name, arrays in events.items()}
        type_code = np.array([TYPE_CODE[name] for name in names], dtype=np.int8)[codes]
        records = np.array(lengths)
        columns = unknown_columns(lengths.sum()) | given | {"type_code": type_code}
        lengths, columns = _with_line_items(lengths, columns, more_items)
        return cls(
            offsets=np.concatenate(([0], np.cumsum(lengths))),
            start=np.asarray(start, dtype=np.int64),
            end=np.asarray(end, dtype=np.int64),
            count=np.asarray(count, dtype=np.int64) + lengths - records,
            columns=columns,
        )

    @classmethod
    def from_packed(
        cls, start: Sequence[int], end: Sequence[int], count: Sequence[int], packed: Sequence[Sequence[str]]
    ) -> "Sessions":
        """Make S sessions from S sequences of packed events (udfs.events.packing), at least one each.

        An order becomes one event per line item; count has these already.
        """
        lengths = np.fromiter(map(len, packed), np.int64, len(packed))
        columns: dict[str, Column] = {}
        for name, values in zip(PACKED, zip(*unpacked_events(chain.from_iterable(packed)), strict=True), strict=True):
            if name == MORE_ITEMS:
                lengths, columns = _with_line_items(lengths, columns, values)
            elif name == "event_type":
                columns["type_code"] = np.fromiter(map(TYPE_CODE.__getitem__, values), np.int8, len(values))
            elif COLUMN_DTYPES[name] is np.object_:
                columns[name] = np.fromiter(values, np.object_, len(values))
            else:
                columns[name] = np.array(values, COLUMN_DTYPES[name])
        return cls(
            offsets=np.concatenate(([0], np.cumsum(lengths))),
            start=np.asarray(start, dtype=np.int64),
            end=np.asarray(end, dtype=np.int64),
            count=np.asarray(count, dtype=np.int64),
            columns=columns,
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def session_of(self) -> Ints:
        """int64 [E]: the session of each event."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def is_type(self, *names: str) -> Bools:
        """bool [E]: events of these types."""
        found = self.type_code == TYPE_CODE[names[0]]
        for name in names[1:]:
            found |= self.type_code == TYPE_CODE[name]
        return np.asarray(found)

    @property
    def is_interaction(self) -> Bools:
        """bool [E]: events of the types in INTERACTIONS."""
        return np.asarray(_IS_INTERACTION[self.type_code])

    def with_columns(self, changed: Mapping[str, Column]) -> "Sessions":
        """Return the same sessions with other values ([E] each) in some columns."""
        return replace(self, columns={**self.columns, **changed})

    def slice(self, first: int, last: int) -> "Sessions":
        """Return the sessions from `first` up to, not including, `last`."""
        events = slice(*self.offsets[[first, last]])
        return replace(
            _take(self, events, self.offsets[first : last + 1] - self.offsets[first]),
            start=self.start[first:last],
            end=self.end[first:last],
            count=self.count[first:last],
        )

    def tail(self, most: int) -> "Sessions":
        """Return at most `most` of each session's last events; start, end and count stay the whole session's."""
        lengths = np.diff(self.offsets)
        if lengths.max(initial=0) <= most:
            return self
        kept = np.flatnonzero(self.offsets[self.session_of + 1] - np.arange(self.offsets[-1]) <= most)
        return _take(self, kept, np.concatenate(([0], np.cumsum(np.minimum(lengths, most)))))

    def within_bounds(self) -> "Sessions":
        """Drop events before the start or after the end, and duplicates: the first of equal events is kept."""
        session = self.session_of
        kept = (self.event_time >= self.start[session]) & (self.event_time <= self.end[session])
        duplicates = self._duplicates(np.arange(len(session)))
        if kept.all() and not len(duplicates):
            return self
        kept[duplicates] = False
        lengths = np.add.reduceat(kept, self.offsets[:-1], dtype=np.int64)
        return _take(self, np.flatnonzero(kept), np.concatenate(([0], np.cumsum(lengths))))

    def canonical(self) -> "Sessions":
        """Sort and deduplicate events, so that neither the order in which they arrived nor duplicates matter.

        They are sorted by event_time, then event_id, then all other columns; the first of equal events is kept. Two
        with one event_id and other values are two events.
        `count` is reduced by the number of events dropped.
        """
        session = self.session_of
        time = self.event_time
        same_session = ~group_starts(session)[1:]
        order = np.arange(len(session))
        late = np.flatnonzero(same_session & (time[1:] < time[:-1]))
        if len(late):
            is_unordered = np.zeros(len(self), dtype=bool)
            is_unordered[session[late]] = True
            rows = np.flatnonzero(is_unordered[session])
            order[rows] = rows[np.lexsort((time[rows], session[rows]))]
        same_time = same_session & ~group_starts(time[order])[1:]
        if same_time.any():
            tied = np.flatnonzero(np.append(same_time, False) | np.append(False, same_time))
            order[tied] = self._sorted(order[tied], np.cumsum(np.append(True, ~same_time))[tied])
        kept = np.ones(len(order), dtype=bool)
        kept[self._duplicates(order)] = False
        if len(late) == 0 and not same_time.any() and kept.all():
            return self
        lengths = np.add.reduceat(kept, self.offsets[:-1], dtype=np.int64)
        dropped = np.diff(self.offsets) - lengths
        canonical = _take(self, order[kept], np.concatenate(([0], np.cumsum(lengths))))
        return replace(canonical, count=self.count - dropped)

    def _duplicates(self, order: Ints) -> Ints:
        """int64 [n]: positions in an order of the events (int64 [E], by session) whose event has come before.

        Events are equal if all their columns are, and they have an id.
        """
        session = self.session_of
        ids = self.event_id
        suspects = np.flatnonzero(_may_repeat(ids, session)[order])
        if not len(suspects):
            return suspects
        codes, known = factorize(ids[order[suspects]])
        suspects = suspects[codes >= 0]
        codes = codes[codes >= 0]
        group, first = group_ids(session[suspects] * len(known) + codes)
        if len(first) == len(suspects):
            return np.empty(0, np.int64)
        for name in COLUMN_DTYPES:
            _, codes = np.unique(_sortable(self.columns[name][order[suspects]]), return_inverse=True)
            group, first = group_ids(group * len(suspects) + codes)
        return np.delete(suspects, first)

    def _sorted(self, rows: Ints, run: Ints) -> Ints:
        """Sort events (int64 [n]) by run (int64 [n], numbers of one session and time), then by all other columns."""
        keys = {"run": pa.array(run)}
        for name in dict.fromkeys(("event_id", *COLUMN_DTYPES)):
            column = self.columns[name][rows]
            keys[name] = pa.array(column, pa.large_string() if column.dtype == np.object_ else None)
        order = pc.sort_indices(pa.table(keys), sort_keys=[(name, "ascending") for name in keys])
        return np.asarray(rows[np.asarray(order)], dtype=np.int64)


def _take(sessions: Sessions, events: Ints | slice, offsets: Ints) -> Sessions:
    columns = {name: column[events] for name, column in sessions.columns.items()}
    return Sessions(offsets, sessions.start, sessions.end, sessions.count, columns)


def _with_line_items(
    lengths: Ints, columns: dict[str, Column], more_items: Sequence[str | None] | Texts
) -> tuple[Ints, dict[str, Column]]:
    """Put an event for each further line item (MORE_ITEMS, [E]) behind the one of its order, with an id of its own."""
    orders = [place for place, more in enumerate(more_items) if more is not None]
    if not orders:
        return lengths, columns
    lines = [further_items(more_items[place]) for place in orders]
    copies = np.ones(len(more_items), dtype=np.int64)
    copies[orders] += [len(each) for each in lines]
    columns = {name: np.repeat(column, copies) for name, column in columns.items()}
    first = np.cumsum(copies) - copies
    for place, each in zip(first[orders].tolist(), lines, strict=True):
        for name, values in zip(("item_id", "price", "quantity"), zip(*each, strict=True), strict=True):
            columns[name][place + 1 : place + 1 + len(each)] = np.array(values, COLUMN_DTYPES[name])
        order = columns["event_id"][place]
        columns["event_id"][place + 1 : place + 1 + len(each)] = [f"{order}#{n + 2}" for n in range(len(each))]
    session = np.repeat(np.arange(len(lengths)), lengths)
    return np.bincount(session, copies, minlength=len(lengths)).astype(np.int64), columns


def unknown_columns(events: int) -> dict[str, Column]:
    """Return all columns of events but event_time and type_code, with nothing known: NaN or None."""
    missing = {np.object_: np.full(events, None), np.float64: np.full(events, np.nan)}
    return {name: missing[dtype] for name, dtype in COLUMN_DTYPES.items() if dtype in missing}


def _sortable(column: Column) -> Column:
    """Return values that NumPy can sort: of texts, their codes."""
    return factorize(column)[0] if column.dtype == np.object_ else column


#: An odd number without pattern: its multiples, modulo 2^64, are apart from each other in all bits.
_SPREAD = np.int64(0x1E3779B97F4A7C15)


def _may_repeat(texts: Texts, session: Ints) -> Bools:
    """bool [n]: texts (str or None [n]) that may be in their session twice; those that are, always."""
    hashes = np.fromiter(map(hash, texts), np.int64, len(texts)) + session * _SPREAD
    ordered = np.sort(hashes)
    crowded = np.zeros(1 << min(20, len(texts).bit_length() + 6), dtype=bool)  # by a hash's last bits
    crowded[ordered[1:][ordered[1:] == ordered[:-1]] & (len(crowded) - 1)] = True
    return np.asarray(crowded[hashes & (len(crowded) - 1)])


def _flat(arrays: Sequence[Any], dtype: Any) -> Column:
    if len(arrays) == 0:
        return np.empty(0, dtype=dtype)
    return np.asarray(np.concatenate(arrays), dtype=dtype)
