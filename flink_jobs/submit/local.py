"""The broker and the cluster on this machine, where the settings say that they are."""

from deploy.local.flink import LocalFlink
from deploy.local.kafka import LocalKafka
from flink_jobs.settings.settings import Settings


def local_kafka(settings: Settings, port: int | None = None) -> LocalKafka:
    """Returns the broker in home. port: instead of that of the settings."""
    return LocalKafka(settings.home / "kafka", port or _port(settings.kafka.bootstrap))


def local_flink(settings: Settings, port: int | None = None, slots: int = 2) -> LocalFlink:
    """Returns the cluster in home. port: instead of that of the settings."""
    port = port or _port(settings.flink.address)
    return LocalFlink(settings.home / "flink", port, slots, metrics_ports=settings.flink.metrics_ports)


def _port(addresses: str) -> int:
    return int(addresses.split(",")[0].rpartition(":")[2])
