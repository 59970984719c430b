"""The main job meets a fault while it works, on a real broker and a real cluster: nothing is lost, nothing is doubled.

One fault is tried whenever tests run; `make chaos` tries them all with more events and prints a table at the end. The
seed is printed: SHOPSTREAM_CHAOS_SEED=… repeats a run, SHOPSTREAM_CHAOS_ROUNDS=… repeats each fault so often.
"""

import itertools
import json
import os
import random
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from mini_cluster import MiniCluster
from support import another_bundle, as_options, linked_bundles, read_all, run_command, send

from deploy.local.flink import LocalFlink
from deploy.local.kafka import LocalKafka
from deploy.local.process import free_port
from flink_jobs.brokers.topics import create_topics
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from flink_jobs.simulation.catalog import make_catalog
from flink_jobs.simulation.records import Record
from flink_jobs.simulation.simulate import simulate
from flink_jobs.submit.cluster import cancel
from udfs.bundles.bundle import MANIFEST, current_id, set_current

pytestmark = pytest.mark.e2e

EVENTS = int(os.environ.get("SHOPSTREAM_CHAOS_EVENTS", "1000"))
ROUNDS = int(os.environ.get("SHOPSTREAM_CHAOS_ROUNDS", "1"))
SEED = int(os.environ.get("SHOPSTREAM_CHAOS_SEED", random.randrange(10**6)))
#: Events that are sent between two looks at the clock, and while something is waited for; how long a broker is away.
PART, FEW, AWAY_S = 200, 3, 60.0
#: Of the file system that checkpoints fill up.
DISK_MB = 64
#: Items in stock in the other bundle; that in use has twice as many.
OTHER_ITEMS = 300


@dataclass
class Machine:
    """A broker and a cluster of these tests' own, the events, and a folder with two bundles, one of them in use."""

    kafka: LocalKafka
    flink: LocalFlink
    bundles: Path
    other: str  #: id of the bundle that is not in use
    records: list[Record]

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
        create_topics(load_settings(None, assignments))
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

    def metric(self, job: str, name: str) -> int:
        """The sum of a metric of a job's Python functions; 0 while Flink does not know it."""
        found = 0
        for vertex in self.rest(f"/jobs/{job}")["vertices"]:
            path = f"/jobs/{job}/vertices/{vertex['id']}/metrics"
            ids = [each["id"] for each in self.rest(path) if each["id"].endswith(name)]
            found += sum(int(each["value"]) for each in self.rest(f"{path}?get={','.join(ids)}")) if ids else 0
        return found

    def workers(self) -> list[psutil.Process]:
        """The task manager's Python processes."""
        manager = psutil.Process(self.flink.status().task_manager_pid)
        found = [each for each in manager.children(recursive=True) if "beam_boot" in " ".join(each.cmdline())]
        return sorted(found, key=lambda each: each.pid)

    def stopped_with_savepoint(self, job: str) -> str:
        """The path of the savepoint that the job was stopped with."""
        asked = self.rest(f"/jobs/{job}/stop", {"targetDirectory": (self.flink.home / "savepoints").as_uri()})
        for _ in range(240):
            savepoint = self.rest(f"/jobs/{job}/savepoints/{asked['request-id']}")
            if savepoint["status"]["id"] == "COMPLETED":
                return str(savepoint["operation"]["location"])
            time.sleep(0.5)
        raise AssertionError(savepoint)

    def last_checkpoint(self, job: str) -> str:
        found = (self.flink.home / "checkpoints" / job).glob("chk-*/_metadata")
        return str(max(found, key=lambda file: int(file.parent.name.removeprefix("chk-"))).parent)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, bundles: Path) -> Iterator[Machine]:
    kafka = LocalKafka(tmp_path_factory.mktemp("kafka"), free_port())
    flink = LocalFlink(tmp_path_factory.mktemp("flink"), free_port(), slots=2)
    shop = simulate(make_catalog(600), events=EVENTS, shoppers=300, bad_share=0.01)
    two = linked_bundles(bundles, tmp_path_factory.mktemp("two"))
    try:
        kafka.start()
        flink.start()
        yield Machine(kafka, flink, two, another_bundle(two, kept=OTHER_ITEMS), list(shop))
    finally:
        flink.stop()
        kafka.stop()


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of DISK_MB, which only root can mount."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system of its own cannot be mounted here")
    yield folder
    unmount = ["umount", "--lazy", str(folder)]
    subprocess.run(unmount, check=True)


def answered(settings: Settings) -> list[bytes]:
    return [record.value for record in read_all(settings, settings.topics.recommendations)]


def wait_for(settings: Settings, count: int, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while (found := len(answered(settings))) < count:
        assert time.monotonic() < deadline, f"{found} of {count} answers after {seconds:.0f} s"
        time.sleep(1)


def answers_when_left_alone(machine: Machine, mini_cluster: MiniCluster, name: str, *more: str) -> dict[str, bytes]:
    """What the job answers when nothing happens to it, by recommendation id."""
    assignments = machine.settings(name, *more)
    settings = load_settings(None, assignments)
    send(settings, [(record.key, record.value) for record in machine.records])
    mini_cluster.run("recommend", assignments)
    triggers = {
        (fields := json.loads(record.value))["user_id"] + "/" + fields["event_id"]
        for record in machine.records
        if record.kind == "valid" and json.loads(record.value)["event_type"] in settings.triggers
    }
    found = {json.loads(value)["recommendation_id"]: value for value in answered(settings)}
    assert found.keys() == triggers
    return found


@pytest.fixture(scope="module")
def undisturbed(machine: Machine, mini_cluster: MiniCluster) -> dict[str, bytes]:
    return answers_when_left_alone(machine, mini_cluster, "undisturbed")


@pytest.fixture(scope="module")
def undisturbed_other(
    machine: Machine, mini_cluster: MiniCluster, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The same with the other bundle."""
    bundles = linked_bundles(machine.bundles, tmp_path_factory.mktemp("other"))
    set_current(bundles, machine.other)
    return answers_when_left_alone(machine, mini_cluster, "other", f"bundles={bundles}")


@dataclass
class Trial:
    """A job under way, with events that are still to come, for a fault to happen to."""

    machine: Machine
    assignments: list[str]
    chance: random.Random
    left: list[tuple[bytes | None, bytes | None]]  #: messages that have not been sent
    job: str = ""  #: id of the job that goes on
    struck: float = 0.0  #: when the fault began, or ended what it is measured from
    before: int = 0  #: answers until then
    note: str = ""  #: what else the table says

    def __post_init__(self) -> None:
        self.settings = load_settings(None, self.assignments)

    def submit(self, *more: str) -> None:
        self.job = self.machine.submit(self.assignments, *more)

    def send(self, count: int) -> None:
        send(self.settings, self.left[:count])
        del self.left[:count]

    def strike(self) -> None:
        """The time until the next answer counts from now."""
        self.before = len(answered(self.settings))
        self.struck = time.monotonic()

    def send_until(self, done: Callable[[], bool], what: str, seconds: float = 120) -> None:
        """Send a few events at a time until something has happened."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"after {seconds:.0f} s there is no {what}"
            self.send(FEW)
            time.sleep(0.5)

    def answers_with(self, bundle: str) -> bool:
        """Whether the latest answer of a partition is by that bundle."""
        latest = {record.partition: record for record in read_all(self.settings, self.settings.topics.recommendations)}
        return any(json.loads(record.value)["model"] == bundle for record in latest.values())

    def log_lines(self, *parts: str) -> list[str]:
        """Lines of the task manager's log with all these parts."""
        lines = self.machine.flink.status().logs[1].read_text(errors="replace").splitlines()
        return [line for line in lines if all(part in line for part in parts)]


# --- faults -----------------------------------------------------------------------------------------------------------

Fault = Callable[[Trial], None]


def killed_task_manager(trial: Trial) -> None:
    _kill(trial.machine.flink.status().task_manager_pid)
    trial.machine.flink.start()


def killed_python_worker(trial: Trial) -> None:
    _kill(trial.chance.choice(trial.machine.workers()).pid)


def killed_job_manager(trial: Trial) -> None:
    """A standalone cluster forgets its jobs with its job manager: the job goes on from its last checkpoint."""
    flink = trial.machine.flink
    _kill(flink.status().job_manager_pid)
    flink.stop()
    flink.start()
    trial.submit("--restore", trial.machine.last_checkpoint(trial.job))


def killed_broker(trial: Trial) -> None:
    _kill(trial.machine.kafka.status().pid)
    time.sleep(trial.chance.uniform(0, 5))
    trial.machine.kafka.start()


def broker_away(trial: Trial) -> None:
    broker = psutil.Process(trial.machine.kafka.status().pid)
    broker.suspend()
    time.sleep(AWAY_S)
    broker.resume()


def stopped_and_restored(trial: Trial) -> None:
    trial.submit("--restore", trial.machine.stopped_with_savepoint(trial.job))


def rescaled(trial: Trial) -> None:
    for slots in (2, 1):
        trial.submit("--restore", trial.machine.stopped_with_savepoint(trial.job), "--set", f"parallelism={slots}")
        _until_running(trial.machine, trial.job)


def full_checkpoint_disk(trial: Trial) -> None:
    """The file system of the checkpoints is full until some have failed, and some seconds more."""
    assert trial.settings.checkpoint.folder is not None
    ballast = Path(trial.settings.checkpoint.folder.removeprefix("file://")) / "ballast"
    _fill(ballast)

    def counts() -> dict[str, int]:
        return dict(trial.machine.rest(f"/jobs/{trial.job}/checkpoints")["counts"])

    trial.send_until(lambda: bool(counts()["failed"]), "failed checkpoint")
    time.sleep(trial.chance.uniform(5, 20))
    with pytest.raises(OSError, match="No space left"):
        ballast.with_name("more").write_bytes(bytes(1 << 20))
    trial.note = f"{counts()['failed']} checkpoints failed, {counts()['restored']} restarts"
    ballast.unlink()
    ballast.with_name("more").unlink()
    trial.strike()


def broken_bundles(trial: Trial) -> None:
    """CURRENT names a bundle that is cut short, with other content, without a manifest; at last it is mended."""
    machine, bundles = trial.machine, trial.settings.bundle_folder
    good, before = bundles / machine.other, current_id(bundles)
    damages = {
        "items.parquet": lambda content: content[: len(content) // 2],
        "item_vectors.npy": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        MANIFEST: lambda _: None,
    }
    for name, damage in damages.items():
        whole = (good / name).read_bytes()
        (good / name).unlink()  # what is written to a link would be in the bundle that it links to
        if (content := damage(whole)) is not None:
            (good / name).write_bytes(content)
        set_current(bundles, machine.other)
        trial.send_until(lambda: bool(trial.log_lines(str(good), name)), f"complaint of {name}")  # noqa: B023
        if name == MANIFEST:
            trial.send_until(lambda: machine.metric(trial.job, ".bundle.refused") > len(damages), "metric")
        assert len(trial.log_lines(str(good), name, "staying with bundle " + before)) == 1
        set_current(bundles, before)
        (good / name).unlink(missing_ok=True)
        (good / name).write_bytes(whole)
    assert not trial.answers_with(machine.other)
    set_current(bundles, machine.other)
    trial.strike()
    trial.send_until(lambda: trial.answers_with(machine.other), "answer by the mended bundle")


def swapped_bundles(trial: Trial) -> None:
    """To another good bundle, back, and to it again."""
    bundles = trial.settings.bundle_folder
    for wanted in (trial.machine.other, current_id(bundles), trial.machine.other):
        set_current(bundles, wanted)
        trial.strike()
        trial.send_until(lambda: trial.answers_with(wanted), f"answer by bundle {wanted}")  # noqa: B023


def overrun(trial: Trial) -> None:
    """All that is left at once, for a job that is slow: a call for each row. Its memory stays as it was."""
    machine = trial.machine
    processes = {
        "task manager": [psutil.Process(machine.flink.status().task_manager_pid)],
        "workers": machine.workers(),
    }
    first = {name: _megabytes(each) for name, each in processes.items()}
    most = dict(first)
    count = len(trial.left)
    trial.send(count)
    begun, answers = time.monotonic(), len(answered(trial.settings))
    while (now := len(answered(trial.settings))) < answers + count // 2:
        most = {name: max(most[name], _megabytes(each)) for name, each in processes.items()}
        assert time.monotonic() < begun + 240
    rate = (now - answers) / (time.monotonic() - begun)
    memory = ", ".join(f"{name} {first[name]:.0f} MB, then {most[name]:.0f} at most" for name in first)
    trial.note = f"{count:,} events at once, {rate:.0f} answers/s; {memory}"
    assert most["task manager"] < int(machine.flink.task_memory.removesuffix("m")) * (1 << 20) / 1e6 * 1.05
    assert most["workers"] < first["workers"] + 100
    trial.strike()


def _megabytes(processes: Sequence[psutil.Process]) -> float:
    return sum(each.memory_info().rss for each in processes) / 1e6


def _fill(file: Path) -> None:
    """Until there is no space left."""
    with file.open("wb", buffering=0) as ballast:
        for size in (1 << 20, 1 << 12):
            with pytest.raises(OSError, match="No space left"):
                list(map(ballast.write, itertools.repeat(bytes(size))))


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


#: The one that is tried whenever tests run, and the others.
ALWAYS: Fault = killed_task_manager
FAULTS: list[Fault] = [
    killed_python_worker, killed_job_manager, killed_broker, broker_away, stopped_and_restored, rescaled,
    full_checkpoint_disk, broken_bundles, swapped_bundles, overrun,
]  # fmt: skip
#: Those that have to do with state are tried with a log of its changes, too.
CHANGELOG = "checkpoint.changelog=true"
WITH_CHANGELOG: list[Fault] = [killed_job_manager, stopped_and_restored, rescaled]
ALL = [
    pytest.param(ALWAYS, (), id=ALWAYS.__name__),
    pytest.param(ALWAYS, (CHANGELOG,), id=f"{ALWAYS.__name__}-changelog"),
    *(pytest.param(f, (), id=f.__name__, marks=pytest.mark.chaos) for f in FAULTS),
    *(pytest.param(f, (CHANGELOG,), id=f"{f.__name__}-changelog", marks=pytest.mark.chaos) for f in WITH_CHANGELOG),
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize(("fault", "options"), ALL)
def test_nothing_is_lost_or_doubled(
    machine: Machine,
    undisturbed: dict[str, bytes],
    fault: Fault,
    options: tuple[str, ...],
    number: int,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
):
    print(f"SHOPSTREAM_CHAOS_SEED={SEED}")
    name = "-".join((fault.__name__, *(["changelog"] if CHANGELOG in options else []), str(number)))
    more = [f"bundles={linked_bundles(machine.bundles, tmp_path)}", *options]
    due = {key: {value} for key, value in undisturbed.items()}
    if fault is full_checkpoint_disk:
        more.append(f"checkpoint.folder={request.getfixturevalue('small_disk').as_uri()}")
    if fault is overrun:
        more.append("python.bundle_size=1")
    if fault in (broken_bundles, swapped_bundles):
        for key, value in request.getfixturevalue("undisturbed_other").items():
            due[key].add(value)
    messages = [(record.key, record.value) for record in machine.records]
    chance = random.Random(f"{SEED} {number} {fault.__name__}")
    trial = Trial(machine, machine.settings(name, *more), chance, list(messages))
    settings = trial.settings
    trial.submit()
    try:
        cut = chance.randrange(len(messages) // 4, len(messages) * 3 // 4)
        for first in range(0, cut, PART):
            trial.send(min(PART, cut - first))
            time.sleep(chance.uniform(0, 0.2))
        wait_for(settings, 1)
        trial.strike()
        fault(trial)
        trial.send(len(trial.left))
        wait_for(settings, trial.before + 1)
        took = time.monotonic() - trial.struck
        wait_for(settings, len(due))
        time.sleep(3 * settings.checkpoint_ms() / 1000)  # anything too much would come now
        found = answered(settings)
        letters = read_all(settings, settings.topics.dlq)
    finally:
        cancel(settings, trial.job)
    by_id = {json.loads(value)["recommendation_id"]: value for value in found}
    lost, doubled = len(due.keys() - by_id.keys()), len(found) - len(by_id)
    row = {"fault": name, "seed": SEED, "in": len(messages), "out": len(found), "lost": lost, "doubled": doubled}
    record_property("trial", row | {"next answer after": f"{took:.1f} s", "note": trial.note})
    assert (lost, doubled) == (0, 0)
    assert by_id.keys() == due.keys()
    assert all(value in due[key] for key, value in by_id.items())
    assert len(letters) == sum(record.kind == "bad" for record in machine.records)
    # Of one user no answer is by a bundle that a later one had replaced: the bundles come as often as they were named.
    models: dict[str, list[str]] = {}
    for value in found:
        answer = json.loads(value)
        models.setdefault(answer["user_id"], []).append(answer["model"])
    swaps = {broken_bundles: 1, swapped_bundles: 3}.get(fault, 0)
    assert max(sum(a != b for a, b in itertools.pairwise(each)) for each in models.values()) <= swaps
    if swaps:
        assert {model for each in models.values() for model in each} == {current_id(machine.bundles), machine.other}
