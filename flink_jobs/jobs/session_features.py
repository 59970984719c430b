"""Closed sessions: event-time session windows in, features of each session out, to Kafka and to the lake.

Run by `shopstream submit session-features`, which builds the `flink run` for it, or on the embedded mini-cluster by
`python -m flink_jobs.jobs.session_features --jar CONNECTOR.jar --set name=value …`. With --recorded the same in Flink's
batch mode, from recorded events into the lake alone: what `shopstream backfill` runs.

Records that cannot be read are left to the main job, which sends them to `clickstream.dlq`: here they would come twice.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from pyflink.table import StatementSet, TableEnvironment

from flink_jobs.jobs.script import job_parser, run_job
from flink_jobs.settings.loading import load_settings
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
from flink_jobs.sql.ddl import FIELDS, literal
from flink_jobs.sql.environment import create_parser, create_views, flink_configuration, table_environment
from flink_jobs.sql.lake import LAKE, lake_table, lake_views, recorded_table, recounted_view
from udfs.features import DAY_MS, load_modules
from udfs.functions import close_sessions
from udfs.lake import DAY, TABLES

NAME = "shopstream-session-features"
BACKFILL_NAME = "shopstream-backfill"


def build(table_env: TableEnvironment, settings: Settings) -> StatementSet:
    """The stream's branches as one statement set: session features, late events, the lake's sessions and events."""
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
    """The batch job: whole days of the lake, written anew from `recorded`.

    recorded: URI of a folder of Parquet files (recorded_schema), or LAKE, whose events stay as they are. first
    and last: the days (YYYY-MM-DD) that are written, both included; all that have rows where None. Of the lake's events
    those of the days around them are read too, see `_around`.
    """
    if recorded == LAKE:
        fields = ", ".join(FIELDS)
        days = _between(*_around(settings, first, last))
        create_views(table_env, {"recorded": f"SELECT {fields} FROM lake_events WHERE {days}"})  # noqa: S608
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
    """With the function on closed sessions and the lake's tables.

    jars: on the embedded mini-cluster; added: to those that `flink run` brings.
    """
    load_modules(settings.features.modules)  # whose features are columns of the lake
    config = flink_configuration(settings, NAME if streaming else BACKFILL_NAME, jars)
    # An event's row is taken from its session's arrays: without this they would be copied for each event.
    config.set_string("pipeline.object-reuse", "true")
    if streaming:
        config.set_string("execution.checkpointing.interval", f"{settings.lake.interval} ms")
        config.set_string("table.exec.source.idle-timeout", f"{settings.watermark.idle} ms")
    table_env = table_environment(config, added, streaming=streaming)
    table_env.create_temporary_function("close_sessions", close_sessions(settings.closing_options()))
    for name in TABLES:
        table_env.execute_sql(lake_table(settings, name, streaming=streaming))
    return table_env


def _around(settings: Settings, first: str | None, last: str | None) -> tuple[str | None, str | None]:
    """The days whose events are read for sessions that start from `first` to `last`.

    With the day before `first`, a session that began then is known not to begin on `first`. With the day after `last`,
    what began on `last` is whole, unless it goes on for that whole day too: it is cut there.
    """
    margin = timedelta(days=1 + settings.session.gap // DAY_MS)
    before = str(date.fromisoformat(first) - margin) if first else None
    return before, str(date.fromisoformat(last) + margin) if last else None


def _between(first: str | None, last: str | None) -> str:
    """SQL: the row's day is not before `first` nor after `last`."""
    day = DAY.name
    bounds = [f"`{day}` >= {literal(first)}"] if first else []
    bounds += [f"`{day}` <= {literal(last)}"] if last else []
    return " AND ".join(bounds) or "TRUE"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the job, or with --recorded the batch job."""
    parser = job_parser(__doc__)
    parser.add_argument("--add-jar", action="append", type=Path, default=[], help="beside the one of `flink run`")
    parser.add_argument("--recorded", metavar="URI", help=f"batch: folder of Parquet files with events, or {LAKE}")
    parser.add_argument("--from", dest="first", metavar="DAY", help="batch: the first day to be written")
    parser.add_argument("--to", dest="last", metavar="DAY", help="batch: the last day to be written")
    options = parser.parse_args(arguments)
    settings = load_settings(options.config, options.set)
    table_env = environment(settings, streaming=not options.recorded, jars=options.jar, added=options.add_jar)
    if options.recorded:
        run_job(build_backfill(table_env, settings, options.recorded, options.first, options.last), options)
    else:
        run_job(build(table_env, settings), options)


if __name__ == "__main__":
    main()
