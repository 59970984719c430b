"""Epoch milliseconds."""

from datetime import UTC, datetime, timedelta

DAY_MS = 86_400_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_MILLISECOND = timedelta(milliseconds=1)


def epoch_ms(time: int | datetime) -> int:
    """Milliseconds since 1970-01-01 UTC, rounded down; integers are taken as they are."""
    return time if isinstance(time, int) else (time - _EPOCH) // _MILLISECOND
