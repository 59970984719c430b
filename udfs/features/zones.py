"""UTC offsets of time zones."""

import functools
import re
from bisect import bisect_left
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from importlib import resources
from zoneinfo import ZoneInfo

import numpy as np

from udfs.contracts.fields import MAX_TIME_MS, MIN_TIME_MS
from udfs.core.arrays import Ints, Texts, factorize
from udfs.core.clock import DAY_MS
from udfs.features.registry import shared
from udfs.sessions.frame import EventFrame


@shared
def local_ms(frame: EventFrame) -> Ints:
    """int64 [S]: the latest event's time on the shopper's clock, ms since 1970-01-01T00:00 local time."""
    time: Ints = frame.event_time[frame.offsets[1:] - 1]
    return np.add(time, utc_offset_ms(frame.last_text(frame.timezone), time))


def utc_offset_ms(zones: Texts, time: Ints) -> Ints:
    """int64 [n]: how far clocks in zones (str or None [n]) are ahead of UTC at times (int64 [n], epoch ms).

    A zone is an IANA name or ±HH:MM; anything else is UTC. Names and rules come from the package tzdata, so that all
    workers agree.
    """
    code, names = factorize(zones)
    first = MIN_TIME_MS // DAY_MS
    last = MAX_TIME_MS // DAY_MS
    days = last - first + 1
    # One look-up per zone and day. No zone's name is longer than 64 characters: longer texts need not fill the cache.
    index, pairs = factorize(code * days + np.clip(time // DAY_MS, first, last) - first)
    looked_up = [
        _offsets_of_day(names[zone][:64] if zone >= 0 else "UTC", first + day)
        for zone, day in (divmod(pair, days) for pair in pairs.tolist())
    ]
    before, change, after = np.array(looked_up, dtype=np.int64)[index].T
    offset: Ints = np.where(time < change, before, after)
    return offset


@functools.lru_cache(maxsize=100_000)
def _offsets_of_day(zone: str, day: int) -> tuple[int, int, int]:
    """Return a UTC day's first offset, when it changes (epoch ms; the day's end if it does not), and the last one."""
    seconds = range(day * 86_400, (day + 1) * 86_400)
    info = _zone(zone)

    def offset(second: int) -> int:
        inside = min(max(second, MIN_TIME_MS // 1000 + 86_400), MAX_TIME_MS // 1000 - 86_400)
        ahead = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=inside)).astimezone(info).utcoffset()
        return (ahead or timedelta()) // timedelta(milliseconds=1)

    before = offset(seconds[0])
    after = offset(seconds[-1])
    change = len(seconds) if before == after else bisect_left(seconds, True, key=lambda at: offset(at) != before)
    return before, (seconds[0] + change) * 1000, after


@functools.lru_cache(maxsize=10_000)
def _zone(name: str) -> tzinfo:
    if fixed := re.fullmatch(r"([+-])([01]\d|2[0-3]):([0-5]\d)", name, re.ASCII):
        ahead = timedelta(hours=int(fixed[2]), minutes=int(fixed[3]))
        return timezone(ahead if fixed[1] == "+" else -ahead)
    if name not in _zone_names():
        return UTC
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@functools.cache
def _zone_names() -> frozenset[str]:
    return frozenset(resources.files("tzdata").joinpath("zones").read_text().split())
