"""Who is measured by `python -m bench pipeline`."""

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
from flink_jobs import submit as submitting
from flink_jobs.settings import Settings, load_settings
from udfs.errors import ShopstreamError

_JOBS = submitting.Job(
    ROOT / "bench" / "pipeline" / "jobs.py", "a contender", topics=("clickstream", "recommendations")
)
#: Flink's contenders: the job, settings beside the defaults, and what only its file takes.
FLINK: Mapping[str, tuple[submitting.Job, tuple[str, ...], tuple[str, ...]]] = {
    "ours": (submitting.JOBS["recommend"], (), ()),
    "floor": (_JOBS, (), ("--contender", "floor")),
    "identity": (_JOBS, (), ("--contender", "identity")),
    "ours-cold": (submitting.JOBS["recommend"], ("encoder.cache=0",), ()),
    "ours-rocksdb": (submitting.JOBS["recommend"], ("checkpoint.backend=rocksdb",), ()),
    "identity-rocksdb": (_JOBS, ("checkpoint.backend=rocksdb",), ("--contender", "identity")),
    "ours-bad": (submitting.JOBS["recommend"], (f"topics.clickstream={BAD_TOPIC}",), ()),
}
#: The others, and whether they run in the peers' environment; `encoder` is no pipeline, but the most that one can do.
OTHERS: Mapping[str, bool] = {
    "bytewax": True,
    "quix-streams": True,
    "spark": True,
    "loop": False,
    "encoder": False,
}
NAMES = (*FLINK, *OTHERS)
GUARANTEES = dict.fromkeys(FLINK, "exactly-once") | {
    "bytewax": "at-least-once",
    "quix-streams": "at-least-once",
    "spark": "at-least-once",
    "loop": "at-least-once, sessions lost",
    "encoder": "",
}
PEER_PACKAGES = ("bytewax", "quixstreams", "pyspark", "confluent-kafka", "kafka-python")
#: A contender is through when all is there and nothing came for SETTLE_S; it is stuck when nothing came for STUCK_S.
SETTLE_S, STUCK_S = 3.0, 180.0
#: Flink asks its workers for their metrics every 10 s.
METRICS_S = 11.0


@dataclass(frozen=True)
class Contender:
    """One that runs: when it began, its processes, whether it is alive (else ShopstreamError), its encoder's texts.

    state_mb: of Flink's last checkpoint; address: of Flink's REST interface.
    """

    began: float
    roots: Sequence[int]
    check: Callable[[], None]
    texts: Callable[[], int | None]
    state_mb: Callable[[], float | None] = lambda: None
    address: str = ""


@contextmanager
def flink(name: str, own: Path, assignments: Sequence[str]) -> Iterator[Contender]:
    """A Flink cluster of its own with one job."""
    job, more, arguments = FLINK[name]
    cluster = LocalFlink(own / "flink", free_port(), slots=cores(), task_memory=f"{1024 + 512 * cores()}m")
    try:
        status = cluster.start()
        given = [*assignments, *more, f"flink.address={status.url.removeprefix('http://')}"]
        settings = load_settings(None, given)
        command = submitting.flink_run(job, settings, submitting.job_arguments(settings, None, given))
        began = time.monotonic()
        job_id = submitting.submit([*command, *arguments], settings)

        def check() -> None:
            state = submitting.cluster(settings, f"/jobs/{job_id}")["state"]
            if state in ("FAILED", "FAILING", "CANCELED"):
                raise ShopstreamError(f"its job is {state.lower()}")

        def texts() -> int | None:
            if job is _JOBS:
                return None
            encoder_texts(settings, job_id)
            time.sleep(METRICS_S)
            return encoder_texts(settings, job_id)

        def state_mb() -> float | None:
            last = submitting.cluster(settings, f"/jobs/{job_id}/checkpoints")["latest"]["completed"]
            return round(last["state_size"] / 1e6, 3) if last else None

        roots = [pid for pid in (status.job_manager_pid, status.task_manager_pid) if pid is not None]
        yield Contender(began, roots, check, texts, state_mb, settings.flink.address)
    finally:
        cluster.stop()


def encoder_texts(settings: Settings, job_id: str) -> int:
    """Texts that the job's encoders were asked for, by Flink's metrics."""
    asked = 0
    for vertex in submitting.cluster(settings, f"/jobs/{job_id}")["vertices"]:
        path = f"/jobs/{job_id}/vertices/{vertex['id']}/metrics"
        names = [each["id"] for each in submitting.cluster(settings, path)]
        wanted = [name for name in names if name.endswith((".encoder.texts", ".encoder.cached"))]
        if wanted:
            asked += sum(int(each["value"]) for each in submitting.cluster(settings, f"{path}?get={','.join(wanted)}"))
    return asked


@contextmanager
def other(name: str, own: Path, settings: Settings, events: int, notes: Console) -> Iterator[Contender]:
    """Processes of bench.pipeline.peers: one a core, but Spark has its own workers."""
    python = peers_python("pipeline", "some 1.2 GB", notes) if OTHERS[name] else Path(sys.executable)
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
    began = time.monotonic()
    with ExitStack() as stack:
        log = stack.enter_context((own / "log").open("w"))
        running = []
        for process in range(1 if name == "spark" else cores()):
            command = [str(python), "-m", "bench.pipeline.peers", name, str(process), str(own / "config.json")]
            running.append(
                subprocess.Popen(command, cwd=own, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            )
            stack.callback(end, running[-1])

        def check() -> None:
            if any(each.poll() is not None for each in running):
                raise ShopstreamError(f"it ended: {last_error(own / 'log')}")

        def texts() -> int:
            return sum(json.loads(file.read_text())["texts"] for file in own.glob("stats-*.json"))

        yield Contender(began, [each.pid for each in running], check, texts)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and what it started."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    process.terminate()
    for child in children:
        terminate(child.pid, SETTLE_S)
    try:
        process.wait(SETTLE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
