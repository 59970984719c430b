"""S sessions as flat event columns with offsets."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from udfs.contracts.clickstream import EVENT_TYPES
from udfs.core.arrays import Bools, Floats, Ints, Texts, factorize, group_ids, group_starts
from udfs.events.columns import PACKED
from udfs.events.packing import unpacked_events

TYPE_CODE = {name: code for code, name in enumerate(EVENT_TYPES)}


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
        codes, names = factorize(_flat(event_type, np.object_))

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
        within = ~group_starts(session)[1:]
        order = np.arange(len(session))
        if len(late := np.flatnonzero(within & (time[1:] < time[:-1]))):
            mixed = np.zeros(len(self), dtype=bool)
            mixed[session[late]] = True
            rows = np.flatnonzero(mixed[session])
            order[rows] = rows[np.lexsort((time[rows], session[rows]))]
        same = within & ~group_starts(time[order])[1:]
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
        codes, known = factorize(ids[order[again]])
        again, codes = again[codes >= 0], codes[codes >= 0]
        return np.delete(again, group_ids(session[again] * len(known) + codes)[1])

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

#: An odd number without pattern: its multiples, modulo 2^64, are apart from each other in all bits.
_SPREAD = np.int64(0x1E3779B97F4A7C15)


def _alike(texts: Texts, session: Ints) -> Bools:
    """bool [n]: a text (str or None [n]) that may well be there twice in its session; one that is, always."""
    hashes = np.fromiter(map(hash, texts), np.int64, len(texts)) + session * _SPREAD
    ordered = np.sort(hashes)
    crowded = np.zeros(1 << min(20, len(texts).bit_length() + 6), dtype=bool)  # by a hash's last bits
    crowded[ordered[1:][ordered[1:] == ordered[:-1]] & (len(crowded) - 1)] = True
    return np.asarray(crowded[hashes & (len(crowded) - 1)])


def _flat(arrays: Sequence[Any], dtype: Any) -> npt.NDArray[Any]:
    if len(arrays) == 0:
        return np.empty(0, dtype=dtype)
    return np.asarray(np.concatenate(arrays), dtype=dtype)
