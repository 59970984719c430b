"""Flink jobs that `python -m bench pipeline` compares our job with: the cost of SQL and Kafka without our Python.

--contender identity: our job with the bare recommendation id as its answer. All rows cross into Python and back.
--contender floor: the same views on Flink's own JSON format, with no Python at all. Flink drops unreadable records.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from pyflink.table import DataTypes, EnvironmentSettings, StatementSet, TableEnvironment
from pyflink.table.udf import udf

from flink_jobs.jobs.recommend import build
from flink_jobs.jobs.script import job_parser, job_settings, run_job
from flink_jobs.settings.settings import Settings
from flink_jobs.sql.ddl import literal
from flink_jobs.sql.environment import flink_configuration
from flink_jobs.sql.recommendations import INSERT_RECOMMENDATIONS, answer_views, recommendations_table
from flink_jobs.sql.sessions import PACKED_FIELDS, session_views
from udfs.contracts.clickstream import EVENT_FIELDS, PROPERTIES
from udfs.events.columns import ANONYMOUS_ID, MORE_ITEMS, PACKED
from udfs.recommend.options import RecommendOptions

#: Epoch ms of an event_time: a number, or RFC 3339 in UTC with milliseconds; the simulated shop writes both.
FLOOR_TIME = """COALESCE(TRY_CAST(event_time AS BIGINT),
  1000 * UNIX_TIMESTAMP(OVERLAY(SUBSTRING(event_time, 1, 19) PLACING ' ' FROM 11 FOR 1))
  + TRY_CAST(SUBSTRING(event_time, 21, 3) AS BIGINT))"""
#: The recommendation id that our job gives (udfs.contracts.rankings.answer_id), as SQL, for ids without a slash: the
#: simulated shop has no others. `identity` writes it for itself, since its function is pickled.
ID_SQL = "user_id || '/' || event_id"


def identity(_: RecommendOptions) -> Any:
    """A function of RECOMMEND_COLUMNS that returns the bare recommendation id."""

    def answer(user_id: "pd.Series[Any]", event_id: "pd.Series[Any]", *_: "pd.Series[Any]") -> "pd.Series[Any]":
        return '{"recommendation_id":"' + user_id + "/" + event_id + '"}'

    return udf(answer, result_type=DataTypes.STRING(), func_type="pandas")


def floor(settings: Settings) -> StatementSet:
    """Sessions by our job's views; the answer is the recommendation id and the number of events collected."""
    configuration = flink_configuration(settings, "shopstream-floor")
    environment = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration)
    table_env = TableEnvironment.create(environment.build())
    types = {field.name: field.sql for field in EVENT_FIELDS if not field.in_properties} | {"event_time": "STRING"}
    columns = ", ".join(f"{name} {kind}" for name, kind in types.items())
    table_env.execute_sql(f"""CREATE TEMPORARY TABLE clickstream (
  {columns}, properties MAP<STRING, STRING>, arrival AS PROCTIME()
) WITH (
  'connector' = 'kafka', 'topic' = {literal(settings.topics.clickstream)},
  'properties.bootstrap.servers' = {literal(settings.kafka.bootstrap)},
  'properties.group.id' = {literal(settings.kafka.group)}, 'scan.startup.mode' = 'earliest-offset',
  'format' = 'json', 'json.ignore-parse-errors' = 'true'
)""")
    table_env.execute_sql(recommendations_table(settings))
    views = session_views(settings) | answer_views(settings)
    del views["parsed"]
    fields = [f"CAST({name} AS STRING)" for name in PACKED if name not in (*PROPERTIES, MORE_ITEMS)]
    properties = [f"properties['{name}']" for name in PROPERTIES]
    sources = {name: name for name in PACKED_FIELDS if name != ANONYMOUS_ID}
    sources |= {
        "visitor": "user_id",
        "logged_in": "CAST(NULL AS STRING)",
        "items": "CAST(1 AS BIGINT)",
        "event_time": FLOOR_TIME,
        "packed": f"CONCAT_WS(',', {', '.join([*fields, *properties])})",
    }
    selected = ", ".join(f"{sql} AS {name}" for name, sql in sources.items())
    views["events"] = f"SELECT {selected}, FALSE AS is_ahead, arrival FROM clickstream"  # noqa: S608
    opening = f"""'{{"recommendation_id":"' || {ID_SQL} || '","events":'"""
    answer = f"{opening} || CAST(CARDINALITY(events) AS STRING) || '}}'"
    before, _, after = views["answers"].partition("recommend(")
    views["answers"] = f"{before}{answer}{after[after.index(')') + 1 :]}"
    for name, query in views.items():
        table_env.execute_sql(f"CREATE TEMPORARY VIEW {name} AS {query}")
    statements = table_env.create_statement_set()
    statements.add_insert_sql(INSERT_RECOMMENDATIONS)
    return statements


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the jobs on the cluster that `flink run` names."""
    parser = job_parser(__doc__)
    parser.add_argument("--contender", choices=("identity", "floor"), required=True)
    options = parser.parse_args(arguments)
    settings = job_settings(options)
    job = floor(settings) if options.contender == "floor" else build(settings, recommend=identity)
    run_job(job, options)


if __name__ == "__main__":
    main()
