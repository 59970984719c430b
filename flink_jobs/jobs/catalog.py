"""The catalog job: changed items in; out, with the vectors of their titles, to files next to the bundles.

Running rankers read these within seconds: a new item can be recommended, a removed or sold-out one no longer is. Run by
`shopstream submit catalog`, which builds the `flink run` for it, or on the embedded mini-cluster by
`python -m flink_jobs.jobs.catalog --jar CONNECTOR.jar --jar PARQUET.jar --set name=value …`.
"""

from collections.abc import Sequence
from pathlib import Path

from pyflink.table import StatementSet

from flink_jobs.jobs.script import job_parser, job_settings, run_job
from flink_jobs.settings.settings import Settings
from flink_jobs.sql.catalog import ITEMS_VIEW, catalog_table, changes_table, insert_changes
from flink_jobs.sql.dead_letters import dead_letter_table, insert_dead_letters
from flink_jobs.sql.environment import create_views, flink_configuration, table_environment
from udfs.catalog.encoding import CatalogOptions
from udfs.functions.catalog import read_items

NAME = "shopstream-catalog"


def options(settings: Settings) -> CatalogOptions:
    """Returns the options of the function that reads and encodes items."""
    catalog = settings.catalog
    return CatalogOptions(
        settings.bundle_folder,
        settings.encoder.options(),
        catalog.envelope,
        catalog.column_of(),
        settings.registry.options(),
    )


def build(settings: Settings, jars: Sequence[Path] = (), added: Sequence[Path] = ()) -> StatementSet:
    """Builds the job's two branches, catalog changes and dead letters, as one statement set.

    jars: on the embedded mini-cluster. added: besides the one of `flink run`.
    """
    config = flink_configuration(settings, NAME, jars)
    config.set_string("execution.checkpointing.interval", f"{settings.catalog.interval} ms")
    table_env = table_environment(config, added)
    table_env.create_temporary_function("read_items", read_items(options(settings)))
    table_env.execute_sql(catalog_table(settings))
    table_env.execute_sql(changes_table(settings))
    table_env.execute_sql(dead_letter_table(settings, "catalog-dlq"))
    create_views(table_env, {"items": ITEMS_VIEW})
    statements = table_env.create_statement_set()
    statements.add_insert_sql(insert_changes())
    statements.add_insert_sql(insert_dead_letters(settings, "items", "item"))
    return statements


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the job."""
    called = job_parser(__doc__).parse_args(arguments)
    run_job(build(job_settings(called), called.jar, called.add_jar), called)


if __name__ == "__main__":
    main()
