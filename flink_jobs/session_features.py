"""Closed sessions: event-time session windows in, features of each session out, to Kafka and to the lake.

Run by `shopstream submit session-features`, which builds the `flink run` for it, or on the embedded mini-cluster by
`python -m flink_jobs.session_features --jar CONNECTOR.jar --set name=value …`. With --recorded the same in Flink's
batch mode, from recorded events into the lake alone: what `shopstream backfill` runs.

Records that cannot be read are left to the main job, which sends them to `clickstream.dlq`: here they would come twice.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

from pyflink.table import StatementSet, TableEnvironment

from flink_jobs import tables
from flink_jobs.backfill import LAKE
from flink_jobs.recommend import create_parser, flink_configuration, job_parser, run, table_environment
from flink_jobs.settings import Settings, load_settings
from udfs.core.clock import DAY_MS
from udfs.features.registry import load_modules
from udfs.functions.sessions import close_sessions
from udfs.lake.schema import DAY, TABLES

NAME = "shopstream-session-features"
BACKFILL_NAME = "shopstream-backfill"


def build(table_env: TableEnvironment, settings: Settings) -> StatementSet:
    """The stream's branches as one statement set: session features, late events, the lake's sessions and events."""
    create_parser(table_env, settings)
    table_env.execute_sql(tables.timed_clickstream_table(settings))
    table_env.execute_sql(tables.session_features_table(settings))
    table_env.execute_sql(tables.late_table(settings))
    _create_views(table_env, tables.window_views(settings) | tables.lake_views())
    statements = table_env.create_statement_set()
    statements.add_insert_sql(tables.INSERT_SESSION_FEATURES)
    statements.add_insert_sql(tables.INSERT_LATE)
    statements.add_insert_sql("INSERT INTO lake_sessions SELECT * FROM session_rows")
    statements.add_insert_sql("INSERT INTO lake_events SELECT * FROM event_rows")
    return statements


def build_backfill(
    table_env: TableEnvironment, settings: Settings, recorded: str, first: str | None, last: str | None
) -> StatementSet:
    """The batch job: whole days of the lake, written anew from `recorded`.

    recorded: URI of a folder of Parquet files (tables.recorded_schema), or LAKE, whose events stay as they are. first
    and last: the days (YYYY-MM-DD) that are written, both included; all that have rows where None. Of the lake's events
    those of the days around them are read too, see `_around`.
    """
    if recorded == LAKE:
        fields = ", ".join(tables.FIELDS)
        days = _between(*_around(settings, first, last))
        _create_views(table_env, {"recorded": f"SELECT {fields} FROM lake_events WHERE {days}"})  # noqa: S608
    else:
        table_env.execute_sql(tables.recorded_table(recorded))
    _create_views(table_env, tables.batch_views(settings) | tables.lake_views() | tables.recounted_view())
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
    config = flink_configuration(settings, jars)
    config.set_string("pipeline.name", NAME if streaming else BACKFILL_NAME)
    # An event's row is taken from its session's arrays: without this they would be copied for each event.
    config.set_string("pipeline.object-reuse", "true")
    if streaming:
        config.set_string("execution.checkpointing.interval", f"{settings.lake.interval} ms")
        config.set_string("table.exec.source.idle-timeout", f"{settings.watermark.idle} ms")
    table_env = table_environment(config, added, streaming=streaming)
    table_env.create_temporary_function("close_sessions", close_sessions(settings.closing_options()))
    for name in TABLES:
        table_env.execute_sql(tables.lake_table(settings, name, streaming=streaming))
    return table_env


def _create_views(table_env: TableEnvironment, views: Mapping[str, str]) -> None:
    for name, query in views.items():
        table_env.execute_sql(f"CREATE TEMPORARY VIEW {name} AS {query}")


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
    bounds = [f"`{day}` >= {tables.literal(first)}"] if first else []
    bounds += [f"`{day}` <= {tables.literal(last)}"] if last else []
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
        run(build_backfill(table_env, settings, options.recorded, options.first, options.last), options)
    else:
        run(build(table_env, settings), options)


if __name__ == "__main__":
    main()
