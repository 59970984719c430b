"""Sessions as columns: flat event arrays and the offsets that cut them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from udfs.contracts import EVENT_TYPES

TYPE_CODE = {name: code for code, name in enumerate(EVENT_TYPES)}

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


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
    item_id: npt.NDArray[np.object_]  #: str or None [E]
    query: npt.NDArray[np.object_]  #: str or None [E]
    price: Floats  #: float64 [E], currency units
    quantity: Floats  #: float64 [E], pieces
    rating: Floats  #: float64 [E], 1 to 5
    dwell_ms: Floats  #: float64 [E], milliseconds

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
    ) -> "Sessions":
        """From S arrays a column, as Flink's ARRAY_AGG hands them over."""
        lengths = np.fromiter((len(times) for times in event_time), dtype=np.int64, count=len(event_time))
        types = _flat(event_type, np.object_)
        names, codes = np.unique(types.astype(str), return_inverse=True)
        return cls(
            offsets=np.concatenate(([0], np.cumsum(lengths))),
            start=np.asarray(start, dtype=np.int64),
            end=np.asarray(end, dtype=np.int64),
            count=np.asarray(count, dtype=np.int64),
            event_time=_flat(event_time, np.int64),
            type_code=np.array([TYPE_CODE[name] for name in names], dtype=np.int8)[codes],
            item_id=_flat(item_id, np.object_),
            query=_flat(query, np.object_),
            price=_flat(price, np.float64),
            quantity=_flat(quantity, np.float64),
            rating=_flat(rating, np.float64),
            dwell_ms=_flat(dwell_ms, np.float64),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def session_of(self) -> Ints:
        """int64 [E]: the session that each event belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def is_type(self, *names: str) -> npt.NDArray[np.bool_]:
        """bool [E]: events of these types."""
        return np.isin(self.type_code, [TYPE_CODE[name] for name in names])


def _flat(arrays: Sequence[Any], dtype: Any) -> npt.NDArray[Any]:
    if len(arrays) == 0:
        return np.empty(0, dtype=dtype)
    return np.asarray(np.concatenate(arrays), dtype=dtype)
