"""Columns that the recommending function takes."""

from collections.abc import Sequence
from typing import Any

from udfs.recommend.recommender import Recommender
from udfs.sessions.columns import Sessions


def recommend_columns(recommender: Recommender, columns: Sequence[Any]) -> list[str]:
    """Recommendations for columns in the order of RECOMMEND_COLUMNS, as the job hands them over."""
    user_id, event_id, time_ms, *rest = columns
    return recommender.recommend(user_id, event_id, time_ms, Sessions.from_packed(*rest))


#: What the recommending function takes, in order, and the SQL types; events are packed ones, the session's and maybe
#: others, oldest first.
RECOMMEND_COLUMNS: dict[str, str] = {
    "user_id": "STRING",
    "event_id": "STRING",
    "event_time": "BIGINT",
    "session_start": "BIGINT",
    "session_end": "BIGINT",
    "session_events": "BIGINT",
    "events": "ARRAY<STRING>",
}
