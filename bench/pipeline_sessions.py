"""Sessions kept in Python, for whoever has no SQL: what a peer's state is, and the answers to a batch of it.

The rules are those of flink_jobs.tables.session_views, so the answers are the same, to the byte.
"""

import json
import os
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np

from udfs.core.arrays import Ints
from udfs.encoder.encoder import EncoderStats
from udfs.encoder.options import EncoderOptions
from udfs.events.columns import EVENT_COLUMNS
from udfs.events.parsing import parse_event
from udfs.recommend.options import RecommendOptions
from udfs.recommend.recommender import Recommender
from udfs.sessions.columns import TYPE_CODE, Sessions

#: Events of a user that are looked through for repeats, and kept beside the newest one.
LAST = 72
GAP_MS = 1_800_000
TRIGGERS = frozenset(TYPE_CODE) - {"rate", "impression"}
#: Seconds between two notes of what the encoder did.
STATS_S = 0.5

#: Columns of Sessions that an event is kept as, in order.
_EVENT = (
    "event_time", "type_code", "item_id", "query", "price", "quantity", "rating", "dwell_ms",
    "event_id", "device", "timezone", "returning", "locale",
)  # fmt: skip
_NUMBERS = {"event_time": np.int64, "type_code": np.int8} | dict.fromkeys(
    ("price", "quantity", "rating", "dwell_ms"), np.float64
)
_PLACE = {name: place for place, name in enumerate(EVENT_COLUMNS)}
#: What is answered: user_id, event_id, event_time, the session's start, end and count, the last events, oldest first.
Due: TypeAlias = tuple[str, str, int, int, int, int, list[tuple[Any, ...]]]


class Shopper(msgspec.Struct, array_like=True):
    """What is kept of a user: the ids of the last events, and the session under way. Times are epoch ms."""

    ids: list[str] = []
    opening: int = 0
    start: int = 0
    end: int = 0
    count: int = 0
    events: list[tuple[Any, ...]] = []  #: the last ones since the opening, late ones and repeats among them

    def meet(self, value: bytes | None) -> Due | None:
        """Take the user's next record, and give what it asks for; None for no trigger, a repeat, or a broken one."""
        row: Any = parse_event(value)
        if row[_PLACE["error"]] is not None:
            return None
        event_id, kind, user, when = (row[_PLACE[name]] for name in ("event_id", "event_type", "user_id", "event_time"))
        event = tuple(TYPE_CODE[kind] if name == "type_code" else row[_PLACE[name]] for name in _EVENT)
        repeated = event_id in self.ids
        self.ids = [*self.ids[1 - LAST :], event_id]
        if not repeated and (not self.count or when - self.end >= GAP_MS):
            self.opening = self.start = self.end = when
            self.count, self.events = 0, []
        self.events = [*self.events[-LAST:], event]
        if repeated:
            return None
        if when <= self.opening - GAP_MS:  # late: a session of its own
            return (user, event_id, when, when, when, 1, self.events) if kind in TRIGGERS else None
        self.start, self.end, self.count = min(self.start, when), max(self.end, when), self.count + 1
        return (user, event_id, when, self.start, self.end, self.count, self.events) if kind in TRIGGERS else None


def sessions_of(dues: Sequence[Due]) -> Sessions:
    """The sessions of some answers that are due, as columns."""
    *_, start, end, count, events = zip(*dues, strict=True)
    columns = zip(_EVENT, zip(*chain.from_iterable(events), strict=True), strict=True)
    lengths: Ints = np.fromiter(map(len, events), np.int64, len(events))
    return Sessions(
        offsets=np.concatenate(([0], np.cumsum(lengths))),
        start=np.array(start, dtype=np.int64),
        end=np.array(end, dtype=np.int64),
        count=np.array(count, dtype=np.int64),
        **{name: np.array(column, dtype=_NUMBERS.get(name, object)) for name, column in columns},
    )


class Answers:
    """The job's own Recommender for batches of what is due. Notes in `folder` what its encoder did, for the harness."""

    def __init__(self, bundles: str, threads: int, folder: str) -> None:
        self._recommender = Recommender(RecommendOptions(Path(bundles), EncoderOptions(threads=threads)))
        self._note = Path(folder) / f"stats-{os.getpid()}.json"
        self._noted = 0.0

    def __call__(self, dues: Sequence[Due]) -> list[str]:
        """JSON of one recommendation for each."""
        if not dues:
            return []
        user_id, event_id, time_ms, *_ = zip(*dues, strict=True)
        answers = self._recommender.recommend(user_id, event_id, time_ms, sessions_of(dues))
        if time.monotonic() - self._noted > STATS_S:
            self._noted = time.monotonic()
            note(self._note, self._recommender.encoder_stats)
        return answers


def note(file: Path, stats: EncoderStats) -> None:
    """Write how many texts an encoder was asked for: replaced whole, as the harness may be reading."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"texts": stats.texts + stats.cached}))
    fresh.replace(file)
