"""Sessions kept in Python, for contenders without SQL: the state of one user, and the answers to a batch of triggers.

The rules are those of our job's SQL views, so the answers are the same, to the byte.
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
from udfs.sessions.columns import COLUMN_DTYPES, TYPE_CODE, Sessions

#: A user's latest events: ids to find repeats by, and events kept besides the newest one.
LAST = 72
GAP_MS = 1_800_000
TRIGGERS = frozenset(TYPE_CODE) - {"rate", "impression"}
#: Seconds between two reports of the encoder's counters.
STATS_S = 0.5

_COLUMN = {name: number for number, name in enumerate(EVENT_COLUMNS)}
#: A due answer: user_id, event_id, event_time, the session's start, end and count, its latest events, oldest first.
Due: TypeAlias = tuple[str, str, int, int, int, int, list[tuple[Any, ...]]]


class Shopper(msgspec.Struct, array_like=True):
    """The state of one user: the ids of the latest events, and the current session. Times are epoch ms.

    The simulated shop uses no id for two events, so ids alone tell repeats.
    """

    ids: list[str] = []
    opening: int = 0
    start: int = 0
    end: int = 0
    count: int = 0
    events: list[tuple[Any, ...]] = []  #: the latest since the opening, including late ones and repeats

    def add(self, value: bytes | None) -> Due | None:
        """Add the user's next record; return the answer that it is due.

        None for an event that is no trigger, a repeat, or a record that cannot be read.
        """
        row: Any = parse_event(value)
        if row[_COLUMN["error"]] is not None:
            return None
        event_id, event_type, user, time_ms = (
            row[_COLUMN[name]] for name in ("event_id", "event_type", "user_id", "event_time")
        )
        event = tuple(TYPE_CODE[event_type] if name == "type_code" else row[_COLUMN[name]] for name in COLUMN_DTYPES)
        repeated = event_id in self.ids
        self.ids = [*self.ids[1 - LAST :], event_id]
        if not repeated and (not self.count or time_ms - self.end >= GAP_MS):
            self.opening = self.start = self.end = time_ms
            self.count = 0
            self.events = []
        self.events = [*self.events[-LAST:], event]
        if repeated:
            return None
        is_trigger = event_type in TRIGGERS
        if time_ms <= self.opening - GAP_MS:  # late: a session of its own
            return (user, event_id, time_ms, time_ms, time_ms, 1, self.events) if is_trigger else None
        self.start = min(self.start, time_ms)
        self.end = max(self.end, time_ms)
        self.count += 1
        return (user, event_id, time_ms, self.start, self.end, self.count, self.events) if is_trigger else None


def sessions_of(dues: Sequence[Due]) -> Sessions:
    """The sessions of due answers, as columns."""
    *_, start, end, count, events = zip(*dues, strict=True)
    columns = zip(COLUMN_DTYPES, zip(*chain.from_iterable(events), strict=True), strict=True)
    lengths: Ints = np.fromiter(map(len, events), np.int64, len(events))
    return Sessions(
        offsets=np.concatenate(([0], np.cumsum(lengths))),
        start=np.array(start, dtype=np.int64),
        end=np.array(end, dtype=np.int64),
        count=np.array(count, dtype=np.int64),
        columns={name: np.array(column, dtype=COLUMN_DTYPES[name]) for name, column in columns},
    )


class Answers:
    """Answers batches with the job's own Recommender. Its encoder's counters go to a file in `folder`."""

    def __init__(self, bundles: str, threads: int, folder: str) -> None:
        self._recommender = Recommender(RecommendOptions(Path(bundles), EncoderOptions(threads=threads)))
        self._stats_file = Path(folder) / f"stats-{os.getpid()}.json"
        self._written_at = 0.0

    def __call__(self, dues: Sequence[Due]) -> list[str]:
        """Return the JSON of one recommendation per due answer."""
        if not dues:
            return []
        user_id, event_id, time_ms, *_ = zip(*dues, strict=True)
        answers = self._recommender.recommend(user_id, event_id, time_ms, sessions_of(dues))
        if time.monotonic() - self._written_at > STATS_S:
            self._written_at = time.monotonic()
            write_stats(self._stats_file, self._recommender.encoder_stats)
        return answers


def write_stats(file: Path, stats: EncoderStats) -> None:
    """Write how many texts an encoder was asked for; the file is replaced at once, as the benchmark reads it."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"texts": stats.texts + stats.cached}))
    fresh.replace(file)
