"""The recommendations' table, and the views that answer each trigger once."""

from flink_jobs.settings.settings import Settings
from flink_jobs.sql.ddl import literal, user_sink
from udfs.events.packing import CONTENT_DIGITS
from udfs.recommend.columns import RECOMMEND_COLUMNS


def recommendations_table(settings: Settings) -> str:
    """Writes the DDL of `recommendations`, the sink of the answers."""
    return user_sink(settings, "recommendations", settings.topics.recommendations, "recommendations")


def answer_views(settings: Settings) -> dict[str, str]:
    """Answers each trigger once; of repeats, with one id and content within the state TTL, the first is answered.

    The function is called on what is left, so that repeats are not ranked and no answer crosses an exchange.
    """
    triggers = ", ".join(literal(kind) for kind in sorted(settings.triggers))
    return {
        "triggers": f"""SELECT *, SUBSTRING(SHA256(events[CARDINALITY(events)]) FROM 1 FOR {CONTENT_DIGITS}) AS content
FROM in_session WHERE event_type IN ({triggers})""",
        "answers": f"""SELECT user_id, recommend({", ".join(RECOMMEND_COLUMNS)}) AS `value` FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY user_id, event_id, content ORDER BY arrival) AS nth FROM triggers
) WHERE nth = 1""",
    }


INSERT_RECOMMENDATIONS = "INSERT INTO recommendations SELECT user_id, `value` FROM answers"
