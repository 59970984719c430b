"""Preflight checks, then `flink run`, or the embedded mini-cluster."""

import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.local.flink import flink_command
from deploy.local.java import child_env
from flink_jobs.brokers.security import FILES
from flink_jobs.brokers.topics import require_topics
from flink_jobs.settings.settings import Settings
from flink_jobs.submit.cluster import query_cluster
from flink_jobs.submit.registry import Job
from udfs.bundle import open_bundle
from udfs.errors import ShopstreamError
from udfs.runtimes import choose


def check_ready(job: Job, settings: Settings) -> None:
    """Everything that would make the job fail later: keys, bundle, broker, topics. ShopstreamError names the first."""
    settings.keys()
    bundle = open_bundle(settings.bundle_folder)
    if job.encodes:
        choose(bundle.manifest.encoder.variants, settings.recommend_options().encoder)
    if job.topics:
        require_topics(settings, *(getattr(settings.topics, name) for name in job.topics))


def job_arguments(settings: Settings, config: Path | None, assignments: Sequence[str]) -> list[str]:
    """What the job's file is given: the same settings, with paths that hold in any working folder."""
    arguments = ["--config", str(config.absolute())] if config else []
    home, bundles, lake = settings.home.absolute(), settings.bundle_folder, settings.lake_folder
    paths = [f"home={home}", f"bundles={bundles}", f"lake.folder={lake}"]
    secured = {name: getattr(settings.kafka, name) for name in FILES}
    paths += [f"kafka.{name}={file.absolute()}" for name, file in secured.items() if file]
    paths += [f"privacy.keys_file={settings.keys_file}"] if settings.keys_file else []
    for assignment in (*assignments, *paths):
        arguments += ["--set", assignment]
    return arguments


def flink_run(
    job: Job, settings: Settings, arguments: Sequence[str], *, attached: bool = False, restore: str | None = None
) -> list[str]:
    """The command line: `flink run -d -m ADDRESS -j CONNECTOR -pyexec … -py FILE ARGUMENTS`.

    Of several jars it takes the first alone; a job that has more adds them itself, where the first cannot see them.
    attached: the command ends as the job ends, and fails as the job fails. restore: path or URI of the savepoint or
    checkpoint that the job goes on from; with a changelog it becomes the job's own, which removes it in time.
    """
    first, *more = job.jar_files()
    added = [part for jar in more for part in ("--add-jar", str(jar))]
    python = str(settings.flink.python or sys.executable)
    run = [*flink_command(), "run", *([] if attached else ["-d"]), "-m", settings.flink.address, "-j", str(first)]
    if restore:
        run += ["-s", restore]
        if settings.checkpoint.changelog:  # its first checkpoint cannot be a full one, which would leave that be
            run += ["--claimMode", "claim"]
    return [*run, "-pyexec", python, "-pyclientexec", sys.executable, "-py", str(job.file), *added, *arguments]


def submit_command(command: Sequence[str], settings: Settings) -> str:
    """Run the command line and return the job's id. ShopstreamError with Flink's own reason when it fails."""
    overview = query_cluster(settings, "/overview")
    if overview["slots-available"] < settings.parallelism:
        raise ShopstreamError(
            f"the cluster at {settings.flink.address} has {overview['slots-available']} free slots and the job takes "
            f"{settings.parallelism} (setting parallelism): free some, or add task managers"
        )
    run = subprocess.run(command, env=_client_env(settings), capture_output=True, text=True, check=False)
    output = run.stdout + run.stderr
    found = re.search(r"submitted with JobID ([0-9a-f]{32})", output)
    if run.returncode or not found:
        raise ShopstreamError(f"flink run failed: {_reason(output)}")
    return found[1]


def run_embedded(job: Job, settings: Settings, arguments: Sequence[str]) -> None:
    """The job on PyFlink's embedded mini-cluster, in the foreground; ShopstreamError when it fails.

    The job ends with this process, also by SIGTERM; and by SIGINT where a shell starts background jobs with it ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    connectors = [part for jar in job.jar_files() for part in ("--jar", str(jar))]
    command = [sys.executable, str(job.file), "--wait", *connectors, *arguments]
    with subprocess.Popen(
        command, env=_client_env(settings), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            _, errors = process.communicate()
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise ShopstreamError(f"the job failed: {_reason(errors)}; Flink's log is in {settings.home / 'log'}")


def _client_env(settings: Settings) -> dict[str, str]:
    """Of Flink's client and mini-cluster: their logs go into home, not into the installed package."""
    logs = (settings.home / "log").absolute()
    logs.mkdir(parents=True, exist_ok=True)
    return child_env({"FLINK_LOG_DIR": str(logs)})


def _reason(output: str) -> str:
    """The line of a Java or Python stack trace that says most: the last cause."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    causes = [line for line in lines if re.match(r"(Caused by: )?[\w.]*(Error|Exception)\b.*:", line)]
    return (causes or lines or ["it printed nothing"])[-1].removeprefix("Caused by: ")
