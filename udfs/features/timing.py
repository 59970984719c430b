"""Features of time."""

import numpy as np

from udfs.core.arrays import Floats, Ints
from udfs.core.clock import DAY_MS
from udfs.features.registry import feature
from udfs.features.zones import local_ms
from udfs.sessions.frame import EventFrame


@feature("int64", "ms")
def duration_ms(frame: EventFrame) -> Ints:
    """Time from the whole session's first event to its last."""
    return frame.end - frame.start


@feature("float64", "events per minute")
def pace(frame: EventFrame) -> Floats:
    """Events of the whole session after its first, per minute of its duration; unknown for a duration of 0."""
    minutes = np.where(frame.end > frame.start, (frame.end - frame.start) / 60_000, np.nan)
    return np.divide(frame.count - 1, minutes)


@feature("float64", "ms")
def gap_ms_mean(frame: EventFrame) -> Floats:
    """Mean time between an event and the next."""
    return frame.mean_of(frame.known_gap_ms)


@feature("int64", "ms")
def gap_ms_max(frame: EventFrame) -> Floats:
    """Longest time between an event and the next."""
    return frame.max_of(frame.known_gap_ms)


@feature("int64", "ms")
def since_previous_ms(frame: EventFrame) -> Floats:
    """Time between the latest event and the previous one."""
    return np.take(frame.gap_ms, frame.offsets[1:] - 1)


@feature("float64", "ms")
def dwell_ms_sum(frame: EventFrame) -> Floats:
    """Total dwell time."""
    return frame.sum_of(frame.known_dwell_ms)


@feature("float64", "ms")
def dwell_ms_mean(frame: EventFrame) -> Floats:
    """Mean known dwell time."""
    return frame.mean_of(frame.known_dwell_ms)


@feature("float64", "ms")
def dwell_ms_max(frame: EventFrame) -> Floats:
    """Longest dwell time."""
    return frame.max_of(frame.known_dwell_ms)


@feature("float64", "ms")
def dwell_ms_last(frame: EventFrame) -> Floats:
    """Latest known dwell time."""
    return frame.last_of(frame.known_dwell_ms)


@feature("float64", "ms")
def dwell_ms_current(frame: EventFrame) -> Floats:
    """Total dwell time on the current item."""
    current = np.where(frame.current >= 0, frame.item.of[frame.current], -2)
    return frame.sum_of(np.where(frame.item.of == current[frame.session_of], frame.dwell_ms, np.nan))


@feature("int64", "hour")
def hour(frame: EventFrame) -> Ints:
    """Hour of the latest event, 0 to 23, in the zone last given by properties.timezone: an IANA name or an offset such
    as +02:00; UTC if it is missing or unknown."""
    return local_ms(frame) // 3_600_000 % 24


@feature("int64", "day")
def weekday(frame: EventFrame) -> Ints:
    """Day of the week of the latest event, 0 is Monday, in the zone of `hour`."""
    return (local_ms(frame) // DAY_MS + 3) % 7  # 1970-01-01 was a Thursday
