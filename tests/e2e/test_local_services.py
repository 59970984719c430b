"""The local broker and cluster, started and stopped for real, on free ports and in folders of their own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic

from deploy.local import process
from deploy.local.flink import MARK, LocalFlink, flink_command
from deploy.local.kafka import LocalKafka
from udfs.core.errors import ShopstreamError

pytestmark = pytest.mark.e2e

YEAR_2010_MS = 1_280_000_000_000


@pytest.fixture
def kafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalKafka]:
    """A broker that finds neither Java nor shell tools on the path."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    broker = LocalKafka(tmp_path / "my shöp 100%", process.free_port())
    yield broker
    broker.stop()


@pytest.fixture
def flink(tmp_path: Path) -> Iterator[LocalFlink]:
    cluster = LocalFlink(tmp_path / "my shöp", process.free_port(), slots=2, task_memory="1024m")
    yield cluster
    cluster.stop()


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((process.HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def running_with(text: str) -> list[int]:
    """The pids of processes that have this text on their command line; the test's own excepted."""
    others = (each for each in psutil.process_iter(["cmdline"]) if each.pid != os.getpid())
    return [each.pid for each in others if text in " ".join(each.info["cmdline"] or ())]


def read_all(bootstrap: str, topic: str, count: int) -> dict[bytes, tuple[bytes, int]]:
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=20_000
    )
    found: dict[bytes, tuple[bytes, int]] = {}
    try:
        for record in consumer:
            found[record.key] = (record.value, record.timestamp)
            if len(found) == count:
                break
    finally:
        consumer.close()
    return found


def test_broker_keeps_events_over_restart(kafka: LocalKafka) -> None:
    assert not kafka.status().running
    assert not kafka.stop().running
    first = kafka.start()
    assert first.running
    assert first.bootstrap == f"127.0.0.1:{kafka.port}"
    assert first.pid is not None
    assert first.log.exists()
    begin = time.monotonic()
    assert kafka.start() == first
    assert time.monotonic() - begin < 1.0

    with closing(KafkaAdminClient(bootstrap_servers=first.bootstrap)) as admin:
        admin.create_topics([NewTopic("events", 2, 1)])
        events = [ConfigResource(ConfigResourceType.TOPIC, "events")]
        for _ in range(100):
            if settings := admin.describe_configs(events, config_filter="all")["topic"]["events"]:
                break
            time.sleep(0.1)  # the broker does not know yet what its controller has made
    assert settings["retention.ms"]["value"] == "-1"  # its cleaner runs every five minutes: too rarely to wait for
    producer = KafkaProducer(bootstrap_servers=first.bootstrap)
    # A year of events, one a day: by default Kafka would open a segment a week.
    sent = {b"%d" % day: (b"view", YEAR_2010_MS + day * 86_400_000) for day in range(365)}
    for key, (value, timestamp) in sent.items():
        producer.send("events", key=key, value=value, timestamp_ms=timestamp)
    producer.close()
    assert read_all(first.bootstrap, "events", len(sent)) == sent
    assert len(list((kafka.home / "data").glob("events-*/*.log"))) == 2

    assert not kafka.stop().running
    assert not psutil.pid_exists(first.pid)
    moved = LocalKafka(kafka.home, process.free_port())
    assert moved.start().bootstrap == f"127.0.0.1:{moved.port}"
    assert kafka.status().bootstrap == moved.status().bootstrap
    with pytest.raises(ShopstreamError, match="already runs at"):
        kafka.start()
    assert read_all(moved.status().bootstrap, "events", len(sent)) == sent


def test_broker_refuses_taken_port(tmp_path: Path, taken_port: int) -> None:
    begin = time.monotonic()
    with pytest.raises(ShopstreamError) as refusal:
        LocalKafka(tmp_path / "kafka", taken_port).start()
    assert time.monotonic() - begin < 3.0
    message = str(refusal.value)
    assert f"port {taken_port}" in message
    assert f"(pid {os.getpid()})" in message
    assert "choose another with --port" in message
    assert "\n" not in message
    assert running_with(str(tmp_path)) == []


def test_broker_says_why_it_died(kafka: LocalKafka) -> None:
    (kafka.home / "data").mkdir(parents=True)
    (kafka.home / "data" / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=other\n")
    with pytest.raises(ShopstreamError, match=r"ended while it started: .*node") as failure:
        kafka.start()
    assert "\n" not in str(failure.value)
    assert not kafka.status().running
    assert running_with(str(kafka.home)) == []


def test_reused_pid_is_left_alone(kafka: LocalKafka) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        kafka.home.mkdir()
        process.write_record(kafka.home / "kafka.pid.json", stranger.pid, kafka.port)
        assert kafka.status().running
        later = (kafka.home / "kafka.pid.json").read_text().replace('"created": 1', '"created": 2')
        (kafka.home / "kafka.pid.json").write_text(later)
        assert not kafka.status().running
        kafka.stop()
        assert stranger.poll() is None
        stranger.kill()


def test_cluster_replaces_lost_task_manager(flink: LocalFlink) -> None:
    assert not flink.stop().running
    first = flink.start()
    assert first.running
    assert first.url == f"http://127.0.0.1:{flink.port}"
    assert (first.task_slots, first.free_slots) == (2, 2)
    assert all(log.exists() for log in first.logs)
    assert flink.start() == first

    listed = subprocess.run(
        [*flink_command(), "list"], env=flink.flink_env(), capture_output=True, text=True, check=False
    )
    assert listed.returncode == 0, listed.stderr
    assert "No running jobs." in listed.stdout

    assert first.task_manager_pid is not None
    worker = subprocess.Popen(  # stands for a Python worker, which inherits its task manager's environment
        [sys.executable, "-c", "import time; time.sleep(300)"], env={**os.environ, MARK: str(flink.home)}
    )
    process.terminate(first.task_manager_pid, timeout=0)
    assert not flink.status().running
    second = flink.start()
    assert second.running
    assert second.job_manager_pid == first.job_manager_pid
    assert second.task_manager_pid != first.task_manager_pid
    worker.wait(timeout=5)

    assert not flink.stop().running
    assert not flink.stop().running
    assert process.with_variable(MARK, str(flink.home)) == []
    for pid in (second.job_manager_pid, second.task_manager_pid):
        assert pid is not None
        assert not psutil.pid_exists(pid)
    assert not process.port_open(process.HOST, flink.port)


def test_cluster_refuses_taken_port(tmp_path: Path, taken_port: int) -> None:
    begin = time.monotonic()
    with pytest.raises(ShopstreamError, match=rf"port {taken_port}, .*choose another with --port"):
        LocalFlink(tmp_path / "flink", taken_port).start()
    assert time.monotonic() - begin < 3.0
    assert running_with(str(tmp_path)) == []


def test_cluster_refuses_unusable_memory(tmp_path: Path) -> None:
    cluster = LocalFlink(tmp_path / "flink", process.free_port(), task_memory="300m")
    with pytest.raises(ShopstreamError, match=r"Flink refuses its settings: .*[Mm]emory") as failure:
        cluster.start()
    assert "\n" not in str(failure.value)
    assert process.with_variable(MARK, str(cluster.home)) == []
