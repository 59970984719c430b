"""The main job loses a process in mid-work, on a real broker and a real cluster: nothing is lost, nothing is doubled.

`make chaos` runs them all with a seed that is printed. SHOPSTREAM_CHAOS_SEED=… repeats a run, SHOPSTREAM_CHAOS_ROUNDS=…
repeats each so often.
"""

import json
import os
import random
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import as_options, read_all, run_command, send

from deploy.local.flink import LocalFlink
from deploy.local.kafka import LocalKafka
from deploy.local.process import free_port
from flink_jobs import brokers, simulate
from flink_jobs.settings import Settings, load_settings
from flink_jobs.submit import cancel

pytestmark = pytest.mark.chaos

EVENTS = int(os.environ.get("SHOPSTREAM_CHAOS_EVENTS", "4000"))
ROUNDS = int(os.environ.get("SHOPSTREAM_CHAOS_ROUNDS", "1"))
SEED = int(os.environ.get("SHOPSTREAM_CHAOS_SEED", random.randrange(10**6)))
#: Events that are sent between two looks at the clock, and how long a broker is away.
PART, AWAY_S = 200, 60.0


@dataclass
class Machine:
    """A broker and a cluster of these tests' own, and the bundle."""

    kafka: LocalKafka
    flink: LocalFlink
    bundles: Path
    records: list[simulate.Record]

    def settings(self, name: str, *more: str) -> list[str]:
        topics = [f"topics.{field}={name}.{topic}" for field, topic in Settings().topics.model_dump().items()]
        assignments = [
            f"kafka.bootstrap={self.kafka.status().bootstrap}",
            f"flink.address={self.flink.status().url.removeprefix('http://')}",
            f"kafka.group={name}",
            f"sink.transactional_id_prefix={name}",
            f"bundles={self.bundles}",
            f"home={self.flink.home}",
            "encoder.provider=cpu",
            *topics,
            *more,
        ]
        brokers.create_topics(load_settings(None, assignments))
        return assignments

    def submit(self, assignments: list[str], *more: str) -> str:
        ran = run_command("submit", "recommend", "--json", *as_options(assignments), *more)
        assert ran.code == 0, ran.err
        return str(ran.json()["job_id"])

    def rest(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.flink.status().url + path, data, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)

    def stopped_with_savepoint(self, job: str) -> str:
        """The path of the savepoint that the job was stopped with."""
        asked = self.rest(f"/jobs/{job}/stop", {"targetDirectory": (self.flink.home / "savepoints").as_uri()})
        for _ in range(240):
            told = self.rest(f"/jobs/{job}/savepoints/{asked['request-id']}")
            if told["status"]["id"] == "COMPLETED":
                return str(told["operation"]["location"])
            time.sleep(0.5)
        raise AssertionError(told)

    def last_checkpoint(self, job: str) -> str:
        found = (self.flink.home / "checkpoints" / job).glob("chk-*/_metadata")
        return str(max(found, key=lambda file: int(file.parent.name.removeprefix("chk-"))).parent)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, bundles: Path) -> Iterator[Machine]:
    kafka = LocalKafka(tmp_path_factory.mktemp("kafka"), free_port())
    flink = LocalFlink(tmp_path_factory.mktemp("flink"), free_port(), slots=2)
    shop = simulate.simulate(simulate.make_catalog(600), events=EVENTS, shoppers=300, bad_share=0.01)
    try:
        kafka.start()
        flink.start()
        yield Machine(kafka, flink, bundles, list(shop))
    finally:
        flink.stop()
        kafka.stop()


def answered(settings: Settings) -> list[bytes]:
    return [record.value for record in read_all(settings, settings.topics.recommendations)]


def wait_for(settings: Settings, count: int, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while (found := len(answered(settings))) < count:
        assert time.monotonic() < deadline, f"{found} of {count} answers after {seconds:.0f} s"
        time.sleep(1)


@pytest.fixture(scope="module")
def undisturbed(machine: Machine) -> dict[str, bytes]:
    """What the job answers when nothing happens to it."""
    assignments = machine.settings("undisturbed")
    settings = load_settings(None, assignments)
    send(settings, [(record.key, record.value) for record in machine.records])
    job = machine.submit(assignments)
    triggers = {
        (fields := json.loads(record.value))["user_id"] + "/" + fields["event_id"]
        for record in machine.records
        if record.kind == "valid" and json.loads(record.value)["event_type"] in settings.triggers
    }
    wait_for(settings, len(triggers))
    cancel(settings, job)
    found = {json.loads(value)["recommendation_id"]: value for value in answered(settings)}
    assert found.keys() == triggers
    return found


# --- faults: each gives the id of the job that goes on ----------------------------------------------------------------

Fault = Callable[[Machine, str, list[str], random.Random], str]


def killed_task_manager(machine: Machine, job: str, _: list[str], __: random.Random) -> str:
    _kill(machine.flink.status().task_manager_pid)
    machine.flink.start()
    return job


def killed_python_worker(machine: Machine, job: str, _: list[str], chance: random.Random) -> str:
    manager = machine.flink.status().task_manager_pid
    workers = [
        each for each in psutil.Process(manager).children(recursive=True) if "beam_boot" in " ".join(each.cmdline())
    ]
    _kill(chance.choice(sorted(workers, key=lambda each: each.pid)).pid)
    return job


def killed_job_manager(machine: Machine, job: str, assignments: list[str], _: random.Random) -> str:
    """A standalone cluster forgets its jobs with its job manager: the job goes on from its last checkpoint."""
    _kill(machine.flink.status().job_manager_pid)
    machine.flink.stop()
    machine.flink.start()
    return machine.submit(assignments, "--restore", machine.last_checkpoint(job))


def killed_broker(machine: Machine, job: str, _: list[str], chance: random.Random) -> str:
    _kill(machine.kafka.status().pid)
    time.sleep(chance.uniform(0, 5))
    machine.kafka.start()
    return job


def broker_away(machine: Machine, job: str, _: list[str], __: random.Random) -> str:
    broker = psutil.Process(machine.kafka.status().pid)
    broker.suspend()
    time.sleep(AWAY_S)
    broker.resume()
    return job


def stopped_and_restored(machine: Machine, job: str, assignments: list[str], _: random.Random) -> str:
    return machine.submit(assignments, "--restore", machine.stopped_with_savepoint(job))


def rescaled(machine: Machine, job: str, assignments: list[str], _: random.Random) -> str:
    for slots in (2, 1):
        changed = [*assignments, f"parallelism={slots}"]
        job = machine.submit(changed, "--restore", machine.stopped_with_savepoint(job))
        _until_running(machine, job)
    return job


def _until_running(machine: Machine, job: str) -> None:
    for _ in range(240):
        if all(vertex["status"] == "RUNNING" for vertex in machine.rest(f"/jobs/{job}")["vertices"]):
            return
        time.sleep(0.5)
    raise AssertionError(f"job {job} does not run")


def _kill(pid: int | None) -> None:
    assert pid is not None
    victim = psutil.Process(pid)
    victim.kill()
    victim.wait(20)


FAULTS: list[Fault] = [
    killed_task_manager, killed_python_worker, killed_job_manager, killed_broker, broker_away, stopped_and_restored,
    rescaled,
]  # fmt: skip


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_nothing_is_lost_or_doubled(
    machine: Machine, undisturbed: dict[str, bytes], fault: Fault, number: int, capsys: pytest.CaptureFixture[str]
):
    chance = random.Random(f"{SEED} {number} {fault.__name__}")
    assignments = machine.settings(f"{fault.__name__}-{number}")
    settings = load_settings(None, assignments)
    job = machine.submit(assignments)
    try:
        messages = [(record.key, record.value) for record in machine.records]
        cut = chance.randrange(len(messages) // 4, len(messages) * 3 // 4)
        for first in range(0, cut, PART):
            send(settings, messages[first : min(first + PART, cut)])
            time.sleep(chance.uniform(0, 0.2))
        wait_for(settings, 1)
        before = len(answered(settings))
        struck = time.monotonic()
        job = fault(machine, job, assignments, chance)
        send(settings, messages[cut:])
        wait_for(settings, before + 1)
        took = time.monotonic() - struck
        wait_for(settings, len(undisturbed))
        time.sleep(3 * settings.checkpoint.interval / 1000)  # anything too much would come now
        found = answered(settings)
    finally:
        cancel(settings, job)
    by_id = {json.loads(value)["recommendation_id"]: value for value in found}
    lost, doubled = len(undisturbed.keys() - by_id.keys()), len(found) - len(by_id)
    with capsys.disabled():
        print(
            f"\n{fault.__name__} (seed {SEED}, round {number}): {len(messages):,} records in, {len(found):,} out, "
            f"{lost} lost, {doubled} doubled, next answer after {took:.1f} s",
            flush=True,
        )
    assert (lost, doubled) == (0, 0)
    assert by_id == undisturbed
