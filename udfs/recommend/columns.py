"""Columns that the recommending function takes."""

from collections.abc import Sequence
from typing import Any

from udfs.events.packing import content_of
from udfs.recommend.recommender import Recommender
from udfs.sessions.columns import Sessions

#: The columns in order, and their SQL types. events: packed ones, oldest first; not all have to be the session's own.
#: The last is the trigger. is_ahead: its time is too far ahead of its record's. id_reused: another event had its id.
RECOMMEND_COLUMNS: dict[str, str] = {
    "user_id": "STRING",
    "event_id": "STRING",
    "event_time": "BIGINT",
    "session_start": "BIGINT",
    "session_end": "BIGINT",
    "session_events": "BIGINT",
    "events": "ARRAY<STRING>",
    "is_ahead": "BOOLEAN",
    "id_reused": "BOOLEAN",
}


def recommend_columns(recommender: Recommender, columns: Sequence[Any]) -> list[str]:
    """Return the JSON of recommendations for RECOMMEND_COLUMNS, as the job hands them over."""
    user_id, event_id, time_ms, *session, is_ahead, id_reused = columns
    content = [
        content_of(events[-1]) if reused else None for events, reused in zip(session[-1], id_reused, strict=True)
    ]
    return recommender.recommend(user_id, event_id, time_ms, Sessions.from_packed(*session), is_ahead, content)
