"""The contenders of `python -m bench pipeline`: jobs on a Flink cluster, and groups of processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

from bench.environment import ROOT, cores, peers_python
from bench.pipeline.prepare import BAD_TOPIC
from deploy.local.flink import LocalFlink
from deploy.local.jars import jars
from deploy.local.process import free_port, last_error, terminate
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from flink_jobs.submit.cluster import query_cluster
from flink_jobs.submit.command import flink_run, job_arguments, submit_command
from flink_jobs.submit.registry import JOBS, Job
from udfs.core.errors import ShopstreamError

#: Flink fetches metrics from its workers at most every 10 s.
METRICS_S = 11.0
#: Seconds that a process gets to end before it is killed.
KILL_AFTER_S = 3.0


@dataclass(frozen=True)
class FlinkContender:
    """A job, the settings that differ from the defaults, and arguments that only its file takes."""

    job: Job
    settings: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


_OURS = JOBS["recommend"]
_BARE_JOB = Job(ROOT / "bench" / "pipeline" / "jobs.py", "a contender", topics=("clickstream", "recommendations"))
FLINK: Mapping[str, FlinkContender] = {
    "ours": FlinkContender(_OURS),
    "floor": FlinkContender(_BARE_JOB, arguments=("--contender", "floor")),
    "identity": FlinkContender(_BARE_JOB, arguments=("--contender", "identity")),
    "ours-cold": FlinkContender(_OURS, ("encoder.cache=0",)),
    "ours-rocksdb": FlinkContender(_OURS, ("checkpoint.backend=rocksdb",)),
    "identity-rocksdb": FlinkContender(_BARE_JOB, ("checkpoint.backend=rocksdb",), ("--contender", "identity")),
    "ours-bad": FlinkContender(_OURS, (f"topics.clickstream={BAD_TOPIC}",)),
}
#: The others, and whether they run in the peers' environment. `encoder` is no pipeline: it is the upper bound of one.
PROCESS_GROUPS: Mapping[str, bool] = {
    "bytewax": True,
    "quix-streams": True,
    "spark": True,
    "loop": False,
    "encoder": False,
}
NAMES = (*FLINK, *PROCESS_GROUPS)
GUARANTEES = dict.fromkeys(FLINK, "exactly-once") | {
    "bytewax": "at-least-once",
    "quix-streams": "at-least-once",
    "spark": "at-least-once",
    "loop": "at-least-once, sessions lost",
    "encoder": "",
}
PEER_PACKAGES = ("bytewax", "quixstreams", "pyspark", "confluent-kafka", "kafka-python")


@dataclass(frozen=True)
class Running:
    """A contender while it runs.

    started: by time.monotonic(). roots: its processes, without their children. check: raises ShopstreamError if it has
    ended. texts: how many its encoder was asked for so far. state_mb: of Flink's last checkpoint. address: of Flink's
    REST interface.
    """

    started: float
    roots: Sequence[int]
    check: Callable[[], None]
    texts: Callable[[], int | None]
    state_mb: Callable[[], float | None] = lambda: None
    address: str = ""


@contextmanager
def flink(name: str, own: Path, assignments: Sequence[str]) -> Iterator[Running]:
    """Start a Flink cluster in the folder `own` and run the contender's job on it."""
    contender = FLINK[name]
    local = LocalFlink(own / "flink", free_port(), slots=cores(), task_memory=f"{1024 + 512 * cores()}m")
    try:
        status = local.start()
        all_assignments = [*assignments, *contender.settings, f"flink.address={status.url.removeprefix('http://')}"]
        settings = load_settings(None, all_assignments)
        command = flink_run(contender.job, settings, job_arguments(settings))
        started = time.monotonic()
        job_id = submit_command([*command, *contender.arguments], settings)

        def check() -> None:
            state = query_cluster(settings, f"/jobs/{job_id}")["state"]
            if state in ("FAILED", "FAILING", "CANCELED"):
                raise ShopstreamError(f"its job is {state.lower()}")

        def texts() -> int | None:
            if contender.job is _BARE_JOB:
                return None
            encoder_texts(settings, job_id)  # makes Flink fetch the metrics that the second call reads
            time.sleep(METRICS_S)
            return encoder_texts(settings, job_id)

        def state_mb() -> float | None:
            last = query_cluster(settings, f"/jobs/{job_id}/checkpoints")["latest"]["completed"]
            return round(last["state_size"] / 1e6, 3) if last else None

        roots = [pid for pid in (status.job_manager_pid, status.task_manager_pid) if pid is not None]
        yield Running(started, roots, check, texts, state_mb, settings.flink.address)
    finally:
        local.stop()


def encoder_texts(settings: Settings, job_id: str) -> int:
    """The number of texts that the job's encoders were asked for, from Flink's metrics."""
    texts = 0
    for vertex in query_cluster(settings, f"/jobs/{job_id}")["vertices"]:
        path = f"/jobs/{job_id}/vertices/{vertex['id']}/metrics"
        names = [metric["id"] for metric in query_cluster(settings, path)]
        wanted = [name for name in names if name.endswith((".encoder.texts", ".encoder.cached"))]
        if wanted:
            metrics = query_cluster(settings, f"{path}?get={','.join(wanted)}")
            texts += sum(int(metric["value"]) for metric in metrics)
    return texts


@contextmanager
def process_group(name: str, own: Path, settings: Settings, events: int, progress: Console) -> Iterator[Running]:
    """Start processes of bench.pipeline.peers in the folder `own`: one per core, except for Spark with its own workers.

    events: how many the topic has.
    """
    python = peers_python("pipeline", "some 1.2 GB", progress) if PROCESS_GROUPS[name] else Path(sys.executable)
    config = {
        "bootstrap": settings.kafka.bootstrap,
        "clickstream": settings.topics.clickstream,
        "recommendations": settings.topics.recommendations,
        "bundles": str(settings.bundle_folder),
        "processes": cores(),
        "threads": settings.encoder.threads,
        "folder": str(own),
        "events": events,
        "batches": str(own / "batches.json"),
        "jars": [str(jar) for jar in jars("spark")] if name == "spark" else [],
        "ports": [free_port() for _ in range(cores())],
    }
    (own / "config.json").write_text(json.dumps(config))
    env = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    with ExitStack() as stack:
        log = stack.enter_context((own / "log").open("w"))
        processes = []
        for number in range(1 if name == "spark" else cores()):
            command = [str(python), "-m", "bench.pipeline.peers", name, str(number), str(own / "config.json")]
            processes.append(
                subprocess.Popen(command, cwd=own, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            )
            stack.callback(end, processes[-1])

        def check() -> None:
            if any(process.poll() is not None for process in processes):
                raise ShopstreamError(f"it ended: {last_error(own / 'log')}")

        def texts() -> int:
            return sum(json.loads(file.read_text())["texts"] for file in own.glob("stats-*.json"))

        yield Running(started, [process.pid for process in processes], check, texts)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its children."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    process.terminate()
    for child in children:
        terminate(child.pid, KILL_AFTER_S)
    try:
        process.wait(KILL_AFTER_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
