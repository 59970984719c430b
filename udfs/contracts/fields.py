"""Field types and bounds shared by the records on every topic."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

#: RFC 3339 covers the years 1 to 9999; the same bounds hold for epoch milliseconds.
MIN_TIME_MS = -62_135_596_800_000

MAX_TIME_MS = 253_402_300_799_999

Text = Annotated[str, Meta(min_length=1)]

#: Most characters of ids and queries. An answer has its user's id four times, and the jobs' rows have the last events
#: of a session each: what had no bounds there would be more than a broker takes, or than a worker has memory.
MAX_ID = 1024

MAX_QUERY = 1_000_000

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]

NonNegative = Annotated[float, Meta(ge=0)]

EpochMs = Annotated[int, Meta(ge=MIN_TIME_MS, le=MAX_TIME_MS)]

ZonedTime = Annotated[datetime, Meta(tz=True)]

# The JSON of a 64-bit signed integer: what a Flink BIGINT and an Arrow int64 hold.
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]

PositiveCount = Annotated[int, Meta(ge=1, le=2**63 - 1)]
