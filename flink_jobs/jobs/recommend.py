"""The main job: events in, ranked recommendations out during the session.

Run by `shopstream submit recommend`, which builds the `flink run` for it, or on the embedded mini-cluster by
`python -m flink_jobs.jobs.recommend --jar CONNECTOR.jar --set name=value …`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pyflink.table import StatementSet

from flink_jobs.jobs.script import job_parser, job_settings, run_job
from flink_jobs.settings.settings import Settings
from flink_jobs.sql.dead_letters import dead_letter_table, dead_letter_view, insert_dead_letters
from flink_jobs.sql.environment import create_parser, create_views, flink_configuration, table_environment
from flink_jobs.sql.recommendations import INSERT_RECOMMENDATIONS, answer_views, recommendations_table
from flink_jobs.sql.sessions import clickstream_table, session_views
from udfs.functions.recommend import recommend as recommend_function
from udfs.ranking.options import RankOptions
from udfs.recommend.options import RecommendOptions

NAME = "shopstream-recommend"


def options(settings: Settings) -> RecommendOptions:
    """Returns the options of the function that answers triggers."""
    return RecommendOptions(
        bundles=settings.bundle_folder,
        encoder=settings.encoder.options(),
        rank=RankOptions(**settings.rank.model_dump()),
        max_events=settings.session.max_events,
        feature_modules=settings.features.modules,
        log_level=settings.python.log_level,
        max_bytes=settings.sink.answer_bytes,
    )


def build(
    settings: Settings,
    jars: Sequence[Path] = (),
    added: Sequence[Path] = (),
    recommend: Callable[[RecommendOptions], Any] = recommend_function,
) -> StatementSet:
    """Builds the job's two branches, recommendations and dead letters, as one statement set.

    jars: on the embedded mini-cluster. added: besides the one of `flink run`. recommend: makes the function of
    RECOMMEND_COLUMNS that answers.
    """
    table_env = table_environment(flink_configuration(settings, NAME, jars), added)
    create_parser(table_env, settings, packed=True)
    table_env.create_temporary_function("recommend", recommend(options(settings)))
    table_env.execute_sql(clickstream_table(settings))
    table_env.execute_sql(recommendations_table(settings))
    table_env.execute_sql(dead_letter_table(settings))
    views = session_views(settings) | answer_views(settings) | dead_letter_view(settings)
    create_views(table_env, views)
    statements = table_env.create_statement_set()
    statements.add_insert_sql(INSERT_RECOMMENDATIONS)
    statements.add_insert_sql(insert_dead_letters(settings))
    return statements


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the job."""
    called = job_parser(__doc__).parse_args(arguments)
    run_job(build(job_settings(called), called.jar, called.add_jar), called)


if __name__ == "__main__":
    main()
