"""Requests to rank items for sessions, and what rankers look up for them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from udfs.catalog.items import LiveItems
from udfs.core.arrays import Bools, Ints, Scores
from udfs.core.exact import to_grid
from udfs.sessions.columns import Sessions
from udfs.sessions.signals import Signals, item_rows, signals_of

#: Texts [n], and which of them are searches, bool [n], to vectors, float32 [n, dimensions].
EncodeTexts = Callable[[Sequence[str], Bools], Scores]


@dataclass(frozen=True)
class RankRequest:
    """S requests of one batch: to rank items for these sessions.

    A new input of rankers becomes a field here: nothing between who asks and the ranker that reads it has to change.
    """

    user_id: Sequence[str]  #: [S]
    sessions: Sessions  #: S of them, each up to and including the event that asks

    def slice(self, first: int, last: int) -> "RankRequest":
        """Return the requests from `first` up to but not including `last`."""
        return RankRequest(self.user_id[first:last], self.sessions.slice(first, last))


@dataclass(frozen=True)
class RankInputs:
    """A request with what is looked up once for it in the catalog and by the encoder."""

    request: RankRequest
    rows: Ints  #: int64 [E], each event's row in the catalog, -1 without an item or with an unknown one
    signals: Signals  #: N of them
    vectors: Scores  #: float32 [N, dimensions], of the signals' texts, whole numbers on the grid of udfs.core.exact

    @classmethod
    def of(
        cls, request: RankRequest, items: LiveItems, encode: EncodeTexts, *, recent: int, decay: float
    ) -> "RankInputs":
        """Look up a request's items and encode its texts. recent, decay: see signals_of."""
        rows = item_rows(request.sessions, items.row_of)
        signals = signals_of(request.sessions, rows, items.titles, recent, decay)
        return cls(request, rows, signals, to_grid(encode(signals.text, signals.item < 0)))

    def __len__(self) -> int:
        return len(self.request.sessions)

    def chunks(self, most: int) -> Iterator["RankInputs"]:
        """Give at most `most` requests at a time, in order."""
        if len(self) <= most:
            yield self
            return
        for first in range(0, len(self), most):
            last = min(first + most, len(self))
            events = slice(*self.request.sessions.offsets[[first, last]])
            signals = slice(*np.searchsorted(self.signals.session, [first, last]))
            yield RankInputs(
                request=self.request.slice(first, last),
                rows=self.rows[events],
                signals=self.signals.slice(first, last),
                vectors=self.vectors[signals],
            )

    @cached_property
    def interactions(self) -> Ints:
        """int64 [n]: the events that are interactions with items of the catalog. These items count as seen."""
        return np.flatnonzero((self.rows >= 0) & self.request.sessions.is_interaction)
