"""Features of time."""

import numpy as np

from udfs.core.arrays import Floats, Ints
from udfs.features.registry import feature
from udfs.features.zones import local_ms
from udfs.sessions.frame import EventFrame

# --- time -------------------------------------------------------------------------------------------------------------


@feature("int64", "ms")
def duration_ms(e: EventFrame) -> Ints:
    """From the whole session's first event to its last."""
    return e.end - e.start


@feature("float64", "events per minute")
def pace(e: EventFrame) -> Floats:
    """Events of the whole session after the first, by its duration; unknown for a duration of 0."""
    minutes = np.where(e.end > e.start, (e.end - e.start) / 60_000, np.nan)
    return np.divide(e.count - 1, minutes)


@feature("float64", "ms")
def gap_ms_mean(e: EventFrame) -> Floats:
    """Mean time between an event and the next."""
    return e.mean_of(e.gap_ms)


@feature("int64", "ms")
def gap_ms_max(e: EventFrame) -> Floats:
    """Longest time between an event and the next."""
    return e.max_of(e.gap_ms)


@feature("int64", "ms")
def since_previous_ms(e: EventFrame) -> Floats:
    """Time between the latest event and the one before."""
    return np.take(e.gap_ms, e.offsets[1:] - 1)


@feature("float64", "ms")
def dwell_ms_sum(e: EventFrame) -> Floats:
    """Time spent looking, in all."""
    return e.sum_of(e.dwell_ms)


@feature("float64", "ms")
def dwell_ms_mean(e: EventFrame) -> Floats:
    """Time spent looking, the mean where it is known."""
    return e.mean_of(e.dwell_ms)


@feature("float64", "ms")
def dwell_ms_max(e: EventFrame) -> Floats:
    """The longest look."""
    return e.max_of(e.dwell_ms)


@feature("float64", "ms")
def dwell_ms_last(e: EventFrame) -> Floats:
    """The latest look of known length."""
    return e.last_of(e.dwell_ms)


@feature("float64", "ms")
def dwell_ms_current(e: EventFrame) -> Floats:
    """Time spent looking at the current item, in all."""
    current = np.where(e.current >= 0, e.item.of[e.current], -2)
    return e.sum_of(np.where(e.item.of == current[e.session], e.dwell_ms, np.nan))


@feature("int64", "hour")
def hour(e: EventFrame) -> Ints:
    """Hour of the latest event, 0 to 23, in the zone that properties.timezone named last: an IANA name or an offset
    such as +02:00; UTC without one or for one that is unknown."""
    return local_ms(e) // 3_600_000 % 24


@feature("int64", "day")
def weekday(e: EventFrame) -> Ints:
    """Day of the week of the latest event, 0 is Monday, in the zone of `hour`."""
    return (local_ms(e) // 86_400_000 + 3) % 7  # 1970-01-01 was a Thursday
