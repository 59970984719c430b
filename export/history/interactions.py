"""Past sessions as columns of whole numbers, on which models are trained and measured."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from udfs.contracts.clickstream import EVENT_TYPES, INTERACTIONS
from udfs.core.arrays import Bools, Ints, factorize
from udfs.events.columns import EVENTS
from udfs.sessions.columns import TYPE_CODE
from udfs.sessions.sessionize import GAP_MS, sessionize

COLUMNS = ("session_id", "user_id", "event_time", "event_type", "item_id")
_SCHEMA = pa.schema([EVENTS.field(name) for name in COLUMNS])


@dataclass(frozen=True)
class Interactions:
    """S sessions with N interactions in all. Every session has at least one.

    Sessions are sorted by start; the events of a session by time, and at one time in the order in which they were read.
    """

    items: list[str]  #: item ids, in the order of `item`
    users: list[str]  #: user ids, in the order of `user`
    offsets: Ints  #: int64 [S + 1]: the events of session s are offsets[s]:offsets[s + 1]
    user: Ints  #: int64 [S], the user of each session
    item: Ints  #: int64 [N], the item of each event
    time: Ints  #: int64 [N], epoch ms
    type_code: npt.NDArray[np.int8]  #: int8 [N], index in EVENT_TYPES

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def session(self) -> Ints:
        """int64 [N]: the session of each event."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def start(self) -> Ints:
        """int64 [S], epoch ms."""
        return np.asarray(self.time[self.offsets[:-1]])

    @property
    def end(self) -> Ints:
        """int64 [S], epoch ms."""
        return np.asarray(self.time[self.offsets[1:] - 1])

    @property
    def first_of_item(self) -> Bools:
        """bool [N]: the first event of each item in each session."""
        pair, _ = factorize(self.session * (len(self.items) + 1) + self.item)
        return np.diff(np.maximum.accumulate(pair), prepend=-1) > 0

    def part(self, first: int, last: int) -> "Interactions":
        """Return the sessions from `first` up to but not including `last`; items and users keep their numbers."""
        events = slice(*self.offsets[[first, last]])
        offsets = self.offsets[first : last + 1] - self.offsets[first]
        columns = {name: getattr(self, name)[events] for name in ("item", "time", "type_code")}
        return replace(self, offsets=offsets, user=self.user[first:last], **columns)

    def split(self, share: float) -> tuple["Interactions", "Interactions"]:
        """Return the earlier sessions, and the latest `share` of all sessions."""
        cut = len(self) - round(len(self) * share)
        return self.part(0, cut), self.part(cut, len(self))

    def without_repeats(self) -> "Interactions":
        """Return the first event of each item in each session."""
        return self._keep(self.first_of_item)

    def of_items(self, items: int) -> "Interactions":
        """Return the events of the first `items` items, and drop the other items."""
        return replace(self._keep(self.item < items), items=self.items[:items])

    def without_items(self, hidden: Bools) -> "Interactions":
        """Return the events of other items than some. hidden: bool [items]."""
        return self._keep(~hidden[self.item])

    def asked(self, *, recommend_seen: bool) -> Bools:
        """Return the positions that a ranker can be asked for, bool [N]: the events after the first of a session.

        recommend_seen: also those whose item the session has seen before.
        """
        asked = np.arange(len(self.item)) > self.offsets[:-1][self.session]
        return np.asarray(asked if recommend_seen else asked & self.first_of_item)

    def before(self, time: int) -> "Interactions":
        """Return the events before a time (epoch ms)."""
        return self._keep(self.time < time)

    def longer_than(self, events: int) -> "Interactions":
        """Return the sessions with more than `events` events."""
        return self.of_sessions(np.diff(self.offsets) > events)

    def of_sessions(self, kept: Bools) -> "Interactions":
        """Return some sessions. kept: bool [S]."""
        return self._keep(kept[self.session])

    def _keep(self, kept: Bools) -> "Interactions":
        session = self.session[kept]
        remaining, sizes = np.unique(session, return_counts=True)
        columns = {name: getattr(self, name)[kept] for name in ("item", "time", "type_code")}
        return replace(self, offsets=np.concatenate(([0], np.cumsum(sizes))), user=self.user[remaining], **columns)


def interactions(
    batches: Iterable[pa.RecordBatch], gap_ms: int | None = None, items: Sequence[str] = ()
) -> Interactions:
    """Read Interactions from click events (schema udfs.events.files.EVENTS).

    gap_ms: see cut_sessions. items: see interactions_of.
    """
    events = pa.Table.from_batches([batch.select(COLUMNS) for batch in batches], _SCHEMA)
    return interactions_of(events, cut_sessions(events, gap_ms), items)


def cut_sessions(events: pa.Table, gap_ms: int | None) -> Ints:
    """Return the session of each event, int64 [n], -1 for an event whose type is not the contract's.

    Every other event counts, whether or not it is an interaction, exactly as in the job. Events with one session_id
    share a session; with gap_ms, or where an event has no session_id, one user's events do that have less than gap_ms
    (30 min by default) between them.
    """
    known = pc.is_in(events["event_type"], pa.array(EVENT_TYPES)).to_numpy()
    session = np.full(len(events), -1)
    events = events.filter(pa.array(known))
    if gap_ms is None and not events["session_id"].null_count:
        session[known] = factorize(events["session_id"].to_numpy(zero_copy_only=False))[0]
    else:
        user, _ = _sorted_codes(events["user_id"])
        session[known] = sessionize(user, events["event_time"].to_numpy().astype(np.int64), gap_ms or GAP_MS)
    return session


def interactions_of(events: pa.Table, session: Ints, items: Sequence[str] = ()) -> Interactions:
    """Return the interactions among events (COLUMNS); events of one time stay in the order in which they come.

    session: int64 [n], of each event. items: ids that come first, in this order; others follow as they appear.
    """
    wanted = pc.and_(pc.is_valid(events["item_id"]), pc.is_in(events["event_type"], pa.array(sorted(INTERACTIONS))))
    session = session[wanted.to_numpy()]
    events = events.filter(wanted).combine_chunks()
    time = events["event_time"].to_numpy().astype(np.int64)
    user, users = _sorted_codes(events["user_id"])
    kind, names = factorize(events["event_type"].to_numpy(zero_copy_only=False))
    type_code = np.array([TYPE_CODE[name] for name in names], dtype=np.int8)[kind]
    ids = np.concatenate((np.array(items, dtype=object), events["item_id"].to_numpy(zero_copy_only=False)))
    item, known = factorize(ids)
    item = item[len(items) :]
    start = np.full(session.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(start, session, time)
    order = np.lexsort((np.arange(len(time)), time, session, start[session]))
    _, first, sizes = np.unique(session[order], return_index=True, return_counts=True)
    by_start = np.argsort(first)
    return Interactions(
        items=list(known),
        users=users,
        offsets=np.concatenate(([0], np.cumsum(sizes[by_start]))),
        user=user[order][first[by_start]],
        item=item[order],
        time=time[order],
        type_code=type_code[order],
    )


def _sorted_codes(column: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """Return the strings [n] as int64 [n], numbered in sorted order, so that the file's order does not matter."""
    codes, names = factorize(column.to_numpy(zero_copy_only=False))
    order = np.argsort(names)
    number = np.empty(len(names), dtype=np.int64)
    number[order] = np.arange(len(names))
    return number[codes], names[order].tolist()
