"""Records of `session-features`."""

from msgspec import Struct

from udfs.contracts.fields import EpochMs, Text


class SessionFeatures(Struct):
    """One record of `session-features`, keyed by user_id: a closed session. Times are epoch ms."""

    session_id: Text
    user_id: Text
    session_start: EpochMs
    session_end: EpochMs
    features: dict[str, float | int | str | None]
