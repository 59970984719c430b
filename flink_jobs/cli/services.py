"""`shopstream kafka` and `shopstream flink`: the broker and the cluster on this machine."""

from dataclasses import asdict
from typing import Annotated

import typer

from deploy.local.flink import Status as FlinkStatus
from deploy.local.kafka import Status as KafkaStatus
from flink_jobs.brokers.topics import BROKERS_REPLICATION, DEFAULT_PARTITIONS, create_topics
from flink_jobs.cli.options import Assignments, Config, Json
from flink_jobs.console import result
from flink_jobs.settings.loading import load_settings
from flink_jobs.submit.local import local_flink, local_kafka

app = typer.Typer()
kafka_app = typer.Typer(help="A real Kafka broker on this machine.", no_args_is_help=True)
flink_app = typer.Typer(help="A real Flink cluster on this machine.", no_args_is_help=True)
app.add_typer(kafka_app, name="kafka")
app.add_typer(flink_app, name="flink")

Port = Annotated[int | None, typer.Option(help="Port; by default that of the settings.")]


def _show_kafka(status: KafkaStatus, as_json: bool) -> None:
    text = f"Kafka runs at {status.bootstrap}" if status.running else f"Kafka does not run (folder {status.home})"
    result(asdict(status), text, as_json)


def _show_flink(status: FlinkStatus, as_json: bool) -> None:
    running = f"Flink runs at {status.url}, {status.free_slots} of {status.task_slots} slots free"
    result(asdict(status), running if status.running else f"Flink does not run (folder {status.home})", as_json)


@kafka_app.command("start")
def kafka_start(
    config: Config = None, assignments: Assignments = None, port: Port = None, as_json: Json = False
) -> None:
    """Start a broker and create the topics; fine if it runs already. Next: `shopstream flink start`."""
    settings = load_settings(config, assignments or ())
    status = local_kafka(settings, port).start()
    own = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"bootstrap": status.bootstrap})})
    create_topics(own)
    _show_kafka(status, as_json)


@kafka_app.command("stop")
def kafka_stop(config: Config = None, assignments: Assignments = None, as_json: Json = False) -> None:
    """Stop the broker; its data stays. Fine if it does not run."""
    _show_kafka(local_kafka(load_settings(config, assignments or ())).stop(), as_json)


@kafka_app.command("status")
def kafka_status(config: Config = None, assignments: Assignments = None, as_json: Json = False) -> None:
    """Show whether the broker runs, and where."""
    _show_kafka(local_kafka(load_settings(config, assignments or ())).status(), as_json)


@kafka_app.command("topics")
def kafka_topics(
    config: Config = None,
    assignments: Assignments = None,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of new topics.")] = DEFAULT_PARTITIONS,
    replication: Annotated[
        int | None, typer.Option(min=1, help="Replication factor of new topics; by default the broker's own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Create missing topics of the settings, on any cluster. Next: `shopstream submit recommend`."""
    settings = load_settings(config, assignments or ())
    created = create_topics(settings, partitions, replication or BROKERS_REPLICATION)
    result({"created": created}, f"created {', '.join(created)}" if created else "no topic is missing", as_json)


@flink_app.command("start")
def flink_start(
    config: Config = None,
    assignments: Assignments = None,
    port: Port = None,
    slots: Annotated[int, typer.Option(min=1, help="Task slots.")] = 2,
    as_json: Json = False,
) -> None:
    """Start a job manager and a task manager; fine if they run already. Next: `shopstream submit recommend`."""
    _show_flink(local_flink(load_settings(config, assignments or ()), port, slots).start(), as_json)


@flink_app.command("stop")
def flink_stop(config: Config = None, assignments: Assignments = None, as_json: Json = False) -> None:
    """Stop the cluster and its jobs. Fine if it does not run."""
    _show_flink(local_flink(load_settings(config, assignments or ())).stop(), as_json)


@flink_app.command("status")
def flink_status(config: Config = None, assignments: Assignments = None, as_json: Json = False) -> None:
    """Show whether the cluster runs, where, and how many slots are free."""
    _show_flink(local_flink(load_settings(config, assignments or ())).status(), as_json)
