"""The catalogue job: items in as they change, with the vectors of their titles out to segments beside the bundles.

Rankers that run take them up within seconds: a new item can be recommended, one that was removed or is sold out no
longer is. Run by `shopstream submit catalog`, which builds the `flink run` for it, or on the embedded mini-cluster by
`python -m flink_jobs.jobs.catalog --jar CONNECTOR.jar --jar PARQUET.jar --set name=value …`.
"""

from collections.abc import Sequence
from pathlib import Path

from pyflink.table import StatementSet

from flink_jobs.jobs.script import job_parser, run_job
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from flink_jobs.sql.catalog import ITEMS_VIEW, catalog_table, insert_segments, segments_table
from flink_jobs.sql.dead_letters import dead_letter_table, insert_dead_letters
from flink_jobs.sql.environment import flink_configuration, table_environment
from udfs.functions import read_items

NAME = "shopstream-catalog"


def build(settings: Settings, jars: Sequence[Path] = (), added: Sequence[Path] = ()) -> StatementSet:
    """The job's two branches, segments and dead letters, as one statement set.

    jars: on the embedded mini-cluster; added: to those that `flink run` brings.
    """
    config = flink_configuration(settings, NAME, jars)
    config.set_string("execution.checkpointing.interval", f"{settings.catalog.interval} ms")
    table_env = table_environment(config, added)
    table_env.create_temporary_function("read_items", read_items(settings.catalog_options()))
    table_env.execute_sql(catalog_table(settings))
    table_env.execute_sql(segments_table(settings))
    table_env.execute_sql(dead_letter_table(settings, "catalog-dlq"))
    table_env.execute_sql(f"CREATE TEMPORARY VIEW items AS {ITEMS_VIEW}")
    statements = table_env.create_statement_set()
    statements.add_insert_sql(insert_segments())
    statements.add_insert_sql(insert_dead_letters("items", "item", "udfs.catalog.parse_item"))
    return statements


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the job."""
    parser = job_parser(__doc__)
    parser.add_argument("--add-jar", action="append", type=Path, default=[], help="beside the one of `flink run`")
    options = parser.parse_args(arguments)
    run_job(build(load_settings(options.config, options.set), options.jar, options.add_jar), options)


if __name__ == "__main__":
    main()
