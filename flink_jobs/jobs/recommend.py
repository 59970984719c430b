"""The main job: events in, ranked recommendations out while the session is under way.

Run by `shopstream submit recommend`, which builds the `flink run` for it, or on the embedded mini-cluster by
`python -m flink_jobs.jobs.recommend --jar CONNECTOR.jar --set name=value …`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pyflink.table import StatementSet

from flink_jobs.jobs.script import job_parser, run_job
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from flink_jobs.sql.dead_letters import INSERT_DEAD_LETTERS, dead_letter_table, dead_letter_view
from flink_jobs.sql.environment import create_parser, flink_configuration, table_environment
from flink_jobs.sql.recommendations import INSERT_RECOMMENDATIONS, answer_views, recommendations_table
from flink_jobs.sql.sessions import clickstream_table, session_views
from udfs.functions import recommend as recommend_function
from udfs.recommend import RecommendOptions

NAME = "shopstream-recommend"


def build(
    settings: Settings,
    jars: Sequence[Path] = (),
    recommend: Callable[[RecommendOptions], Any] = recommend_function,
) -> StatementSet:
    """The job's two branches, recommendations and dead letters, as one statement set.

    recommend: makes the function of RECOMMEND_COLUMNS that answers.
    """
    table_env = table_environment(flink_configuration(settings, NAME, jars))
    create_parser(table_env, settings, packed=True)
    table_env.create_temporary_function("recommend", recommend(settings.recommend_options()))
    table_env.execute_sql(clickstream_table(settings))
    table_env.execute_sql(recommendations_table(settings))
    table_env.execute_sql(dead_letter_table(settings))
    views = session_views(settings) | answer_views(settings) | dead_letter_view(settings)
    for name, query in views.items():
        table_env.execute_sql(f"CREATE TEMPORARY VIEW {name} AS {query}")
    statements = table_env.create_statement_set()
    statements.add_insert_sql(INSERT_RECOMMENDATIONS)
    statements.add_insert_sql(INSERT_DEAD_LETTERS)
    return statements


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the job."""
    options = job_parser(__doc__).parse_args(arguments)
    run_job(build(load_settings(options.config, options.set), options.jar), options)


if __name__ == "__main__":
    main()
