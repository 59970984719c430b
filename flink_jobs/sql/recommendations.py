"""The recommendations' table, and the views that answer each trigger once."""

from flink_jobs.settings.settings import Settings
from flink_jobs.sql.ddl import create_table, kafka_options, literal, sink_options
from udfs.recommend.columns import RECOMMEND_COLUMNS


def recommendations_table(settings: Settings) -> str:
    """The sink of the recommendations, key user_id."""
    options = kafka_options(settings, settings.topics.recommendations, "user_id") | sink_options(
        settings, "recommendations"
    )
    return create_table("recommendations", "  `user_id` STRING,\n  `value` STRING", options)


def answer_views(settings: Settings) -> dict[str, str]:
    """Views that answer each trigger, once: of one event_id within the state's time to live, the first answer."""
    triggers = ", ".join(literal(kind) for kind in sorted(settings.triggers))
    return {
        "answered": f"""SELECT user_id, event_id, arrival, recommend({", ".join(RECOMMEND_COLUMNS)}) AS `value`
FROM in_session WHERE event_type IN ({triggers})""",
        "answers": """SELECT user_id, `value` FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY user_id, event_id ORDER BY arrival) AS nth FROM answered
) WHERE nth = 1""",
    }


INSERT_RECOMMENDATIONS = "INSERT INTO recommendations SELECT user_id, `value` FROM answers"
