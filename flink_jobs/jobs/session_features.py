"""Closed sessions: event-time session windows in; the features of each session out, to Kafka and to the lake.

Run by `shopstream submit session-features`, which builds the `flink run` for it, or on the embedded mini-cluster by
`python -m flink_jobs.jobs.session_features --jar CONNECTOR.jar --set name=value …`. With --recorded, a batch job writes
recorded events into the lake alone: that is what `shopstream backfill` runs.

Unreadable records are left to the main job, which sends them to `clickstream.dlq`: here they would arrive twice.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from pyflink.table import StatementSet, TableEnvironment

from flink_jobs.jobs.script import job_parser, job_settings, run_job
from flink_jobs.settings.settings import Settings
from flink_jobs.sql.closed_sessions import (
    INSERT_LATE,
    INSERT_SESSION_FEATURES,
    batch_views,
    late_table,
    session_features_table,
    timed_clickstream_table,
    window_views,
)
from flink_jobs.sql.ddl import literal, quoted
from flink_jobs.sql.environment import create_parser, create_views, flink_configuration, table_environment
from flink_jobs.sql.lake import LAKE, lake_table, lake_views, recorded_schema, recorded_table, recounted_view
from udfs.core.clock import DAY_MS
from udfs.features.registry import load_modules
from udfs.functions.sessions import close_sessions
from udfs.lake.closing import ClosingOptions
from udfs.lake.schema import DAY, TABLES

NAME = "shopstream-session-features"
BACKFILL_NAME = "shopstream-backfill"


def options(settings: Settings) -> ClosingOptions:
    """Returns the options of the function that closes sessions."""
    return ClosingOptions(
        settings.bundle_folder, settings.session.max_events, settings.features.modules, settings.encoder.options()
    )


def build(table_env: TableEnvironment, settings: Settings) -> StatementSet:
    """Builds the stream's branches as one statement set: session features, late events, the lake's two tables."""
    create_parser(table_env, settings)
    table_env.execute_sql(timed_clickstream_table(settings))
    table_env.execute_sql(session_features_table(settings))
    table_env.execute_sql(late_table(settings))
    create_views(table_env, window_views(settings) | lake_views())
    statements = table_env.create_statement_set()
    statements.add_insert_sql(INSERT_SESSION_FEATURES)
    statements.add_insert_sql(INSERT_LATE)
    statements.add_insert_sql("INSERT INTO lake_sessions SELECT * FROM session_rows")
    statements.add_insert_sql("INSERT INTO lake_events SELECT * FROM event_rows")
    return statements


def build_backfill(
    table_env: TableEnvironment, settings: Settings, recorded: str, first: str | None, last: str | None
) -> StatementSet:
    """Builds the batch job, which rewrites whole days of the lake from `recorded`.

    recorded: URI of a folder of Parquet files with the columns of `recorded_schema`, or LAKE, whose events stay as they
    are. first, last: the first and the last day (YYYY-MM-DD) to write; None for all days that have rows. Of the lake's
    events, those of the days around them are read too, see `_days_to_read`.
    """
    if recorded == LAKE:
        days = _between(*_days_to_read(settings, first, last))
        names = ", ".join(recorded_schema().names)
        create_views(table_env, {"recorded": f"SELECT {names} FROM lake_events WHERE {days}"})  # noqa: S608
    else:
        table_env.execute_sql(recorded_table(recorded))
    create_views(table_env, batch_views(settings) | lake_views() | recounted_view())
    rows_of = {"sessions": "recounted"} if recorded == LAKE else {"sessions": "session_rows", "events": "event_rows"}
    statements = table_env.create_statement_set()
    for table, rows in rows_of.items():
        statements.add_insert_sql(
            f"INSERT OVERWRITE lake_{table} SELECT * FROM {rows} WHERE {_between(first, last)}"  # noqa: S608
        )
    return statements


def environment(
    settings: Settings, *, streaming: bool, jars: Sequence[Path] = (), added: Sequence[Path] = ()
) -> TableEnvironment:
    """Makes a table environment with the function that closes sessions and the lake's tables.

    jars: on the embedded mini-cluster. added: besides the one of `flink run`.
    """
    load_modules(settings.features.modules)  # their features are columns of the lake
    config = flink_configuration(settings, NAME if streaming else BACKFILL_NAME, jars)
    # An event's row is taken from its session's arrays: without this they would be copied for each event.
    config.set_string("pipeline.object-reuse", "true")
    if streaming:
        config.set_string("execution.checkpointing.interval", f"{settings.lake.interval} ms")
        config.set_string("table.exec.source.idle-timeout", f"{settings.watermark.idle} ms")
    table_env = table_environment(config, added, streaming=streaming)
    table_env.create_temporary_function("close_sessions", close_sessions(options(settings)))
    for name in TABLES:
        table_env.execute_sql(lake_table(settings, name, streaming=streaming))
    return table_env


def _days_to_read(settings: Settings, first: str | None, last: str | None) -> tuple[str | None, str | None]:
    """Returns the first and the last day whose events are read for sessions that start from `first` to `last`.

    With the day before `first`, a session that began then is known not to begin on `first`. With the day after `last`,
    what began on `last` is whole, unless it goes on for that whole day too: it is cut there.
    """
    margin = timedelta(days=1 + settings.session.gap // DAY_MS)
    before = str(date.fromisoformat(first) - margin) if first else None
    return before, str(date.fromisoformat(last) + margin) if last else None


def _between(first: str | None, last: str | None) -> str:
    """Writes the condition that a row's day is not before `first` nor after `last`."""
    day = quoted(DAY.name)
    bounds = [f"{day} >= {literal(first)}"] if first else []
    bounds += [f"{day} <= {literal(last)}"] if last else []
    return " AND ".join(bounds) or "TRUE"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the job, or with --recorded the batch job."""
    parser = job_parser(__doc__)
    parser.add_argument("--recorded", metavar="URI", help=f"batch: folder of Parquet files with events, or {LAKE}")
    parser.add_argument("--from", dest="first", metavar="DAY", help="batch: the first day to write")
    parser.add_argument("--to", dest="last", metavar="DAY", help="batch: the last day to write")
    called = parser.parse_args(arguments)
    settings = job_settings(called)
    table_env = environment(settings, streaming=not called.recorded, jars=called.jar, added=called.add_jar)
    if called.recorded:
        run_job(build_backfill(table_env, settings, called.recorded, called.first, called.last), called)
    else:
        run_job(build(table_env, settings), called)


if __name__ == "__main__":
    main()
