"""Columns that the recommending function takes."""

from collections.abc import Sequence
from typing import Any

from udfs.recommend.recommender import Recommender
from udfs.sessions.columns import Sessions

#: The columns in order, and their SQL types. events: packed ones, oldest first; not all have to be the session's own.
RECOMMEND_COLUMNS: dict[str, str] = {
    "user_id": "STRING",
    "event_id": "STRING",
    "event_time": "BIGINT",
    "session_start": "BIGINT",
    "session_end": "BIGINT",
    "session_events": "BIGINT",
    "events": "ARRAY<STRING>",
}


def recommend_columns(recommender: Recommender, columns: Sequence[Any]) -> list[str]:
    """Return the JSON of recommendations for RECOMMEND_COLUMNS, as the job hands them over."""
    user_id, event_id, time_ms, *session = columns
    return recommender.recommend(user_id, event_id, time_ms, Sessions.from_packed(*session))
