"""Field types and bounds that records share."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

#: RFC 3339 covers the years 1 to 9999; the same bounds hold for epoch milliseconds.
MIN_TIME_MS = -62_135_596_800_000

MAX_TIME_MS = 253_402_300_799_999

Text = Annotated[str, Meta(min_length=1)]

#: Characters of an id at most. An answer contains its user's id four times, and a row of a job the last events of a
#: session: without bounds, records could be too large for the broker, or rows for a worker's memory.
MAX_ID = 1024

#: Characters of a query at most, for the same reason.
MAX_QUERY = 1_000_000

#: Line items of an event at most.
MAX_LINES = 1000

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]

Property = Annotated[str, Meta(max_length=MAX_ID)]

NonNegative = Annotated[float, Meta(ge=0)]

EpochMs = Annotated[int, Meta(ge=MIN_TIME_MS, le=MAX_TIME_MS)]

ZonedTime = Annotated[datetime, Meta(tz=True)]

# Up to the largest value of a Flink BIGINT or an Arrow int64.
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]

PositiveCount = Annotated[int, Meta(ge=1, le=2**63 - 1)]
