"""The real parts that tests share: one broker, one cluster, one exported bundle of one simulated shop."""

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from filelock import FileLock
from mini_cluster import MiniCluster
from support import run_command
from xdist.scheduler import LoadScopeScheduling

from deploy.local.flink import LocalFlink
from deploy.local.kafka import LocalKafka
from deploy.local.process import free_port
from flink_jobs.brokers.topics import create_topics
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from flink_jobs.simulation.simulate import write_shop
from udfs.bundles.bundle import CURRENT

SHOP_EVENTS = 20_000
os.environ["HF_HUB_OFFLINE"] = "1"
# Every Java process of the tests lives for seconds or minutes: optimising its code thoroughly takes more of two cores
# than it gives, half of the time that a job takes to start.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
os.environ["OMP_WAIT_POLICY"] = "passive"  # as export.ranker.train says, before a test module loads LightGBM
# Timings never decide a test.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")


#: Files that take minutes, the longest first. The second needs no `bundles`, which the first one's worker exports.
LONGEST = ("test_faults.py", "test_wheel.py", "test_readme.py", "test_secured_kafka.py", "test_lake_kill.py")
#: Files whose tests share nothing but session fixtures: each test goes to whichever worker is free.
APART = ("test_readme.py", "test_bench.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, then what starts brokers and clusters: no worker is left with them at the end."""
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (order.get(item.path.name, len(order)), not starts_services(item)))


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name a failed test at once: a run that is cut off has no summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        sys.stderr.write(f"\nfailed after {report.duration:.0f} s in {report.when}: {report.nodeid}\n")


class FileScheduling(LoadScopeScheduling):
    """Gives whole files to workers, for the sake of module fixtures.

    Not by --dist loadgroup: xdist 3.8 writes a test's group into an attribute that pytest 9.2 does not read.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        return nodeid if file.endswith(APART) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling:
    """The files in the order of collection."""
    config.option.loadscopereorder = False
    return FileScheduling(config, log)


def starts_services(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("flink", "e2e", "chaos"))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with catalog.jsonl, sessions.jsonl and events.jsonl of a simulated shop."""
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder, events=SHOP_EVENTS, sessions=5000, items=600, shoppers=300)
    return folder


@pytest.fixture(scope="session")
def bundles(shop: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder with a bundle of the shop, its ranker learned; made by one worker for all."""
    base = tmp_path_factory.getbasetemp()
    out = (base if worker_id == "master" else base.parent) / "bundles"
    with FileLock(out.with_suffix(".lock")):
        if not (out / CURRENT).exists():
            files = ("--catalog", str(shop / "catalog.jsonl"), "--sessions", str(shop / "sessions.jsonl"))
            ran = run_command("export", "train", *files, "--out", str(out))
            assert ran.code == 0, ran.err
    return out


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real broker without topics."""
    broker = LocalKafka(tmp_path_factory.mktemp("kafka"), free_port())
    try:
        yield broker.start().bootstrap
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def metrics_ports() -> tuple[int, int]:
    """Where the processes of `flink` answer Prometheus."""
    return free_port(), free_port()


@pytest.fixture(scope="session")
def flink(tmp_path_factory: pytest.TempPathFactory, metrics_ports: tuple[int, int]) -> Iterator[str]:
    """The REST address of a real standalone cluster with two slots."""
    ports = ",".join(map(str, metrics_ports))
    cluster = LocalFlink(tmp_path_factory.mktemp("flink"), free_port(), slots=2, metrics_ports=ports)
    try:
        yield cluster.start().url.removeprefix("http://")
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def mini_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniCluster]:
    """PyFlink's mini-cluster, for one job at a time."""
    cluster = MiniCluster(tmp_path_factory.mktemp("mini-cluster"))
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def assignments_of(kafka: str) -> Callable[..., list[str]]:
    """Assignments of settings for one name: topics, group and transactions of its own, on the shared broker.

    Call it with the name and more assignments; the topics are created.
    """

    def assignments(name: str, *more: str) -> list[str]:
        own_names = [f"topics.{field}={name}.{topic}" for field, topic in Settings().topics.model_dump().items()]
        values = [f"kafka.bootstrap={kafka}", f"kafka.group={name}", f"sink.transactional_id_prefix={name}"]
        values += [*own_names, "encoder.provider=cpu", *more]
        create_topics(load_settings(None, values))
        return values

    return assignments


@pytest.fixture
def own(assignments_of: Callable[..., list[str]], request: pytest.FixtureRequest) -> Callable[..., list[str]]:
    """Assignments of settings for this test alone.

    Call it with more assignments, and once for each job that must not meet the others.
    """
    names = (f"{request.node.name.split('[')[0]}-{made}" for made in itertools.count(1))
    return lambda *more: assignments_of(next(names), *more)
