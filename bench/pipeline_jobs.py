"""Flink jobs that `python -m bench pipeline` holds the main job against: what SQL and Kafka cost without its Python.

--contender identity: the main job, its answer the recommendation's id alone. All rows cross into Python and back.
--contender floor: the same views over Flink's own JSON format; no Python at all. Flink drops what it cannot read.
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
from udfs.events import PACKED, PROPERTIES
from udfs.recommend import RecommendOptions

#: Epoch ms of an event_time, a number or RFC 3339 in UTC with milliseconds, as the simulated shop writes both.
FLOOR_TIME = """COALESCE(TRY_CAST(event_time AS BIGINT),
  1000 * UNIX_TIMESTAMP(OVERLAY(SUBSTRING(event_time, 1, 19) PLACING ' ' FROM 11 FOR 1))
  + TRY_CAST(SUBSTRING(event_time, 21, 3) AS BIGINT))"""


def identity(_: RecommendOptions) -> Any:
    """A function of RECOMMEND_COLUMNS that gives the recommendation's id."""

    def answer(user_id: "pd.Series[Any]", event_id: "pd.Series[Any]", *_: "pd.Series[Any]") -> "pd.Series[Any]":
        return '{"recommendation_id":"' + user_id + "/" + event_id + '"}'

    return udf(answer, result_type=DataTypes.STRING(), func_type="pandas")


def floor(settings: Settings) -> StatementSet:
    """Sessions by the main job's views; the answer is the recommendation's id and how many events were collected."""
    configuration = flink_configuration(settings, "shopstream-floor")
    environment = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration)
    table_env = TableEnvironment.create(environment.build())
    table_env.execute_sql(f"""CREATE TEMPORARY TABLE clickstream (
  event_id STRING, event_type STRING, user_id STRING, event_time STRING, item_id STRING, query STRING, price DOUBLE,
  quantity BIGINT, rating DOUBLE, dwell_ms BIGINT, properties MAP<STRING, STRING>, arrival AS PROCTIME()
) WITH (
  'connector' = 'kafka', 'topic' = {literal(settings.topics.clickstream)},
  'properties.bootstrap.servers' = {literal(settings.kafka.bootstrap)},
  'properties.group.id' = {literal(settings.kafka.group)}, 'scan.startup.mode' = 'earliest-offset',
  'format' = 'json', 'json.ignore-parse-errors' = 'true'
)""")
    table_env.execute_sql(recommendations_table(settings))
    views = session_views(settings) | answer_views(settings)
    del views["parsed"]
    listed = ", ".join(f"CAST({name} AS STRING)" for name in PACKED if name not in PROPERTIES)
    told = ", ".join(f"properties['{name}']" for name in PROPERTIES)
    read = {name: name for name in PACKED_FIELDS}
    read |= {"event_time": FLOOR_TIME, "packed": f"CONCAT_WS(',', {listed}, {told})"}
    fields = ", ".join(f"{sql} AS {name}" for name, sql in read.items())
    views["events"] = f"SELECT {fields}, arrival FROM clickstream"  # noqa: S608
    started = """'{"recommendation_id":"' || user_id || '/' || event_id || '","events":'"""
    answer = f"{started} || CAST(CARDINALITY(events) AS STRING) || '}}'"
    before, _, after = views["answered"].partition("recommend(")
    views["answered"] = f"{before}{answer}{after[after.index(')') + 1 :]}"
    for name, query in views.items():
        table_env.execute_sql(f"CREATE TEMPORARY VIEW {name} AS {query}")
    statements = table_env.create_statement_set()
    statements.add_insert_sql(INSERT_RECOMMENDATIONS)
    return statements


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the jobs, on the cluster that `flink run` names."""
    parser = job_parser(__doc__)
    parser.add_argument("--contender", choices=("identity", "floor"), required=True)
    options = parser.parse_args(arguments)
    settings = job_settings(options)
    job = floor(settings) if options.contender == "floor" else build(settings, recommend=identity)
    run_job(job, options)


if __name__ == "__main__":
    main()
