"""Flink's own options, made from settings, and the table environment of a job."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyflink.common import Configuration
from pyflink.table import EnvironmentSettings, TableEnvironment

from flink_jobs.settings.flink import BROKERS_PARAMETER, PREFIX_PARAMETER
from flink_jobs.settings.settings import Settings
from flink_jobs.sql.ddl import literal
from udfs.core.paths import flink_uri
from udfs.functions.events import mask_record, parse

#: With checkpoint.backend=rocksdb. Most keys that a step looks up are absent; a Bloom filter shows that without a read.
#: Filters and indexes that do not fit in memory are read in parts.
ROCKSDB = {
    "execution.checkpointing.incremental": "true",
    "state.backend.rocksdb.use-bloom-filter": "true",
    "state.backend.rocksdb.memory.partitioned-index-filters": "true",
}
#: With checkpoint.changelog. The log takes some kilobytes per event and is read when a job is restored, so it starts
#: again every minute, not every ten.
CHANGELOG = {"state.changelog.enabled": "true", "state.changelog.periodic-materialize.interval": "1 min"}


def flink_configuration(settings: Settings, name: str, jars: Sequence[Path] = ()) -> Configuration:
    """Returns Flink's own options for the job `name`.

    jars: on the embedded mini-cluster alone; `flink run` takes them by -j.
    """
    config = Configuration()
    options = {
        "pipeline.name": name,
        "parallelism.default": str(settings.parallelism),
        "execution.checkpointing.interval": f"{settings.checkpoint_ms()} ms",
        # A cancelled job, or one that lost its job manager, can resume from it.
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "table.exec.state.ttl": f"{settings.state_ttl_ms()} ms",
        "table.local-time-zone": "UTC",
        # Bundle and Arrow batch sizes are equal: latency follows the larger.
        "python.fn-execution.bundle.size": str(settings.python.bundle_size),
        "python.fn-execution.arrow.batch.size": str(settings.python.bundle_size),
        "python.fn-execution.bundle.time": str(settings.python.bundle_time),
        # A row also waits at each exchange between tasks: by default up to 100 ms, three times.
        "execution.buffer-timeout.interval": "10 ms",
        # Both sinks share one reading of Kafka and one call of `parse`.
        "table.optimizer.reuse-optimize-block-with-digest-enabled": "true",
    }
    if settings.sink.guarantee == "at-least-once":
        options["execution.checkpointing.mode"] = "AT_LEAST_ONCE"
    else:
        parameters = {
            PREFIX_PARAMETER: settings.sink.transactional_id_prefix,
            BROKERS_PARAMETER: settings.kafka.bootstrap,
        }
        options["pipeline.global-job-parameters"] = json.dumps(parameters)
    folder = settings.checkpoint.folder
    if jars:
        # By default the mini-cluster keeps checkpoints in memory, at most 5 MB, and retries for ever.
        folder = folder or flink_uri(settings.home / "embedded" / "checkpoints")
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
            log = flink_uri(settings.home / "embedded" / "changelog")
            options |= {"state.changelog.storage": "filesystem", "dstl.dfs.base-path": log}
    for option, value in options.items():
        config.set_string(option, value)
    return config


def table_environment(config: Configuration, added: Sequence[Path] = (), *, streaming: bool = True) -> TableEnvironment:
    """Makes the environment of a job's tables. added: jars besides the one of `flink run`."""
    mode = EnvironmentSettings.new_instance()
    mode = mode.in_streaming_mode() if streaming else mode.in_batch_mode()
    table_env = TableEnvironment.create(mode.with_configuration(config).build())
    for jar in added:
        table_env.execute_sql(f"ADD JAR {literal(str(jar))}")
    return table_env


def create_parser(table_env: TableEnvironment, settings: Settings, *, packed: bool = False) -> None:
    """Creates the function that reads events, packed or not, and with pseudonyms the one that masks records."""
    parser = parse(
        settings.privacy.keys_file,
        packed=packed,
        envelope=settings.clickstream.envelope,
        registry=settings.registry.options(),
    )
    table_env.create_temporary_function("parse", parser)
    if settings.privacy.keys_file:
        table_env.create_temporary_function("mask", mask_record(settings.privacy.keys_file))


def create_views(table_env: TableEnvironment, views: Mapping[str, str]) -> None:
    """Creates views in order."""
    for name, query in views.items():
        table_env.execute_sql(f"CREATE TEMPORARY VIEW {name} AS {query}")
