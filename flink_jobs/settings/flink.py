"""Settings of Flink: the cluster, checkpoints, and how rows cross into Python."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from flink_jobs.settings.fields import Addresses, Ports, PositiveDuration, SettingsGroup

#: Parameters of a job with transactions, by which another submission recognizes that it would share them.
PREFIX_PARAMETER, BROKERS_PARAMETER = "shopstream.transactional_id_prefix", "shopstream.kafka_bootstrap"
#: Defaults of checkpoint.interval: if results wait for checkpoints, and if they do not.
CHECKPOINT_MS, RARE_CHECKPOINT_MS = 1000, 10_000


class FlinkSettings(SettingsGroup):
    """Where Flink is."""

    address: Addresses = Field("localhost:8081", description="REST address of the cluster, host:port.")
    python: Path | None = Field(None, description="Python on the cluster's machines; none: the one that submits.")
    metrics_ports: Ports | None = Field(
        None,
        description="Ports on which the local cluster's processes serve metrics to Prometheus, one each, as in "
        "9249-9250, to anyone who reaches this machine; none: no metrics are served.",
    )


class CheckpointSettings(SettingsGroup):
    """Checkpoints, on which exactly-once results wait."""

    interval: PositiveDuration | None = Field(
        None, description="Time between checkpoints of the main job; none: 1 s, or 10 s with at-least-once."
    )
    folder: str | None = Field(None, description="Path or URI of the checkpoints; none: as the cluster is set up.")
    backend: Literal["hashmap", "rocksdb"] | None = Field(
        None, description="Where state is: in the JVM's heap, or in RocksDB on disk; none: as the cluster is set up."
    )
    changelog: bool = Field(
        False,
        description="Write changes of state as they happen, so that a checkpoint need not write all of it; the cluster "
        "has to say where to (state.changelog.storage).",
    )


class PythonSettings(SettingsGroup):
    """How rows cross into Python."""

    bundle_size: int = Field(256, ge=1, description="At most this many rows in one call of a Python function.")
    bundle_time: PositiveDuration = Field(
        20, description="How long a call waits for more rows; a row may wait twice as long."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        description="Log level of workers that recommend; DEBUG: a JSON line per answer, which has the user's id.",
    )
