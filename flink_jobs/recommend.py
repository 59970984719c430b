"""The main job: events in, ranked recommendations out while the session is under way.

Run by `shopstream submit recommend`, which builds the `flink run` for it, or on the embedded mini-cluster by
`python -m flink_jobs.recommend --jar CONNECTOR.jar --set name=value …`.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pyflink.common import Configuration
from pyflink.table import EnvironmentSettings, StatementSet, TableEnvironment

from flink_jobs import tables
from flink_jobs.settings import BROKERS_TOLD, PREFIX_TOLD, Settings, load_settings
from udfs.functions.events import mask_record, parse
from udfs.functions.recommend import recommend as functions_recommend
from udfs.recommend.options import RecommendOptions

NAME = "shopstream-recommend"
#: With checkpoint.backend=rocksdb. Most keys that a step looks for are not there, which a Bloom filter tells without a
#: read; filters and indexes that do not fit in memory are read in parts.
ROCKSDB = {
    "execution.checkpointing.incremental": "true",
    "state.backend.rocksdb.use-bloom-filter": "true",
    "state.backend.rocksdb.memory.partitioned-index-filters": "true",
}

#: With checkpoint.changelog. The log has some kilobytes for an event, and is read when a job is restored: it begins
#: anew each minute, not each ten.
CHANGELOG = {"state.changelog.enabled": "true", "state.changelog.periodic-materialize.interval": "1 min"}


def flink_configuration(settings: Settings, jars: Sequence[Path] = ()) -> Configuration:
    """Flink's own options, from ours. jars: only on the embedded mini-cluster; `flink run` takes them by -j."""
    config = Configuration()
    options = {
        "pipeline.name": NAME,
        "parallelism.default": str(settings.parallelism),
        "execution.checkpointing.interval": f"{settings.checkpoint_ms()} ms",
        # What a job that was cancelled, or lost its job manager, can go on from.
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "table.exec.state.ttl": f"{settings.state_ttl_ms()} ms",
        "table.local-time-zone": "UTC",
        # A row waits for the others of its batch: the larger of the two decides the latency, so they are equal.
        "python.fn-execution.bundle.size": str(settings.python.bundle_size),
        "python.fn-execution.arrow.batch.size": str(settings.python.bundle_size),
        "python.fn-execution.bundle.time": str(settings.python.bundle_time),
        # As it does at each exchange between tasks: three times up to 100 ms by default.
        "execution.buffer-timeout.interval": "10 ms",
        # Both sinks take the parsed records from one reading of Kafka and one call of `parse`.
        "table.optimizer.reuse-optimize-block-with-digest-enabled": "true",
    }
    if settings.sink.guarantee == "at-least-once":
        options["execution.checkpointing.mode"] = "AT_LEAST_ONCE"
    else:
        told = {PREFIX_TOLD: settings.sink.transactional_id_prefix, BROKERS_TOLD: settings.kafka.bootstrap}
        options["pipeline.global-job-parameters"] = json.dumps(told)
    folder = settings.checkpoint.folder
    if jars:
        # The mini-cluster keeps checkpoints in memory, 5 MB at most, and retries for ever, unless told otherwise.
        folder = folder or (settings.home / "embedded" / "checkpoints").absolute().as_uri()
        options |= {"restart-strategy.type": "fixed-delay", "restart-strategy.fixed-delay.attempts": "3"}
        options["pipeline.jars"] = ";".join(jar.absolute().as_uri() for jar in jars)
        options["python.executable"] = options["python.client.executable"] = sys.executable
    if folder:
        options["execution.checkpointing.dir"] = folder
    if settings.checkpoint.backend:
        options["state.backend.type"] = settings.checkpoint.backend
    if settings.checkpoint.backend == "rocksdb":
        options |= ROCKSDB
    if settings.checkpoint.changelog:
        options |= CHANGELOG
        if jars:
            log = (settings.home / "embedded" / "changelog").absolute().as_uri()
            options |= {"state.changelog.storage": "filesystem", "dstl.dfs.base-path": log}
    for name, value in options.items():
        config.set_string(name, value)
    return config


def table_environment(config: Configuration, added: Sequence[Path] = (), *, streaming: bool = True) -> TableEnvironment:
    """Where a job's tables are made. added: jars beside those that `flink run` brings."""
    mode = EnvironmentSettings.new_instance()
    mode = mode.in_streaming_mode() if streaming else mode.in_batch_mode()
    table_env = TableEnvironment.create(mode.with_configuration(config).build())
    for jar in added:
        table_env.execute_sql(f"ADD JAR {tables.literal(str(jar))}")
    return table_env


def create_parser(table_env: TableEnvironment, settings: Settings, *, packed: bool = False) -> None:
    """The functions that read events, packed or not, and with pseudonyms the one that makes letters."""
    table_env.create_temporary_function("parse", parse(settings.keys_file, packed=packed))
    if settings.keys_file:
        table_env.create_temporary_function("mask", mask_record(settings.keys_file))


def build(
    settings: Settings,
    jars: Sequence[Path] = (),
    recommend: Callable[[RecommendOptions], Any] = functions_recommend,
) -> StatementSet:
    """The job's two branches, recommendations and dead letters, as one statement set.

    recommend: makes the function of RECOMMEND_COLUMNS that answers.
    """
    table_env = table_environment(flink_configuration(settings, jars))
    create_parser(table_env, settings, packed=True)
    table_env.create_temporary_function("recommend", recommend(settings.recommend_options()))
    table_env.execute_sql(tables.clickstream_table(settings))
    table_env.execute_sql(tables.recommendations_table(settings))
    table_env.execute_sql(tables.dead_letter_table(settings))
    views = tables.session_views(settings) | tables.answer_views(settings) | tables.dead_letter_view(settings)
    for name, query in views.items():
        table_env.execute_sql(f"CREATE TEMPORARY VIEW {name} AS {query}")
    statements = table_env.create_statement_set()
    statements.add_insert_sql(tables.INSERT_RECOMMENDATIONS)
    statements.add_insert_sql(tables.INSERT_DEAD_LETTERS)
    return statements


def job_parser(description: str | None) -> argparse.ArgumentParser:
    """What every job's file is called with."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, help="settings file (TOML)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one setting; may be repeated")
    parser.add_argument("--jar", action="append", type=Path, default=[], help="connector, on the mini-cluster alone")
    parser.add_argument("--wait", action="store_true", help="wait for the job to end (it does when kafka.bounded)")
    parser.add_argument("--explain", action="store_true", help="print the plan and run nothing")
    return parser


def run(statements: StatementSet, options: argparse.Namespace) -> None:
    """Submit the job where PyFlink finds a cluster; with --wait, stay until it ends; with --explain, show its plan."""
    if options.explain:
        print(statements.explain())  # noqa: T201
        return
    result = statements.execute()
    if options.wait:
        result.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the job."""
    options = job_parser(__doc__).parse_args(arguments)
    run(build(load_settings(options.config, options.set), options.jar), options)


if __name__ == "__main__":
    main()
