"""`shopstream submit JOB`: look before the leap, then `flink run`."""

import http.client
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.flink import flink_command
from deploy.local.jars import jars
from deploy.local.java import child_env
from flink_jobs import brokers
from flink_jobs.security import FILES
from flink_jobs.settings import BROKERS_TOLD, PREFIX_TOLD, Settings
from udfs.bundles.bundle import open_bundle
from udfs.core.errors import ShopstreamError
from udfs.encoder.selection import choose

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Job:
    """A job's file, what it does, in a line, and what it needs."""

    file: Path
    summary: str
    topics: tuple[str, ...]  #: settings in `topics`
    jars: tuple[str, ...] = ("flink",)  #: roles in the jars' lock
    encodes: bool = False  #: needs the bundle's encoder

    def jar_files(self) -> list[Path]:
        """Fetched if they are not there."""
        return [file for role in self.jars for file in jars(role)]


JOBS: Mapping[str, Job] = {
    "recommend": Job(
        HERE / "recommend.py",
        "events in, ranked recommendations out while the session is under way",
        topics=("clickstream", "recommendations", "dlq"),
        encodes=True,
    ),
    "session-features": Job(
        HERE / "session_features.py",
        "events in, features of each session out as it closes, to Kafka and to the lake",
        topics=("clickstream", "session_features", "late"),
        jars=("flink", "lake"),
    ),
    "catalog": Job(
        HERE / "catalog.py",
        "catalogue changes in, segments with their vectors out, which running rankers take up",
        topics=("catalog", "dlq"),
        jars=("flink", "lake"),
        encodes=True,
    ),
}
BACKFILL = Job(HERE / "session_features.py", "recorded events in, the lake's days out", (), jars=("flink", "lake"))


def job_named(name: str) -> Job:
    """The job of that name; ShopstreamError lists the names there are."""
    if name not in JOBS:
        raise ShopstreamError(f"there is no job {name!r}; there is {', '.join(sorted(JOBS))}")
    return JOBS[name]


def check(job: Job, settings: Settings) -> None:
    """Everything that would make the job fail later: keys, bundle, broker, topics. ShopstreamError names the first."""
    settings.keys()
    bundle = open_bundle(settings.bundle_folder)
    if job.encodes:
        choose(bundle.manifest.encoder.variants, settings.recommend_options().encoder)
    if job.topics:
        brokers.require_topics(settings, *(getattr(settings.topics, name) for name in job.topics))


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


def cluster(settings: Settings, path: str) -> Any:
    """What the cluster's REST interface answers to GET `path`; ShopstreamError when there is none."""
    address = settings.flink.address
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return json.load(answer)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ShopstreamError(
            f"no Flink cluster answers at {address} (setting flink.address): {reason}; "
            "a local one is started by `shopstream flink start`"
        ) from None


def require_own_transactions(name: str, settings: Settings) -> None:
    """ShopstreamError when the job `name` runs on the cluster with the same transactional ids at the same Kafka.

    That is: with our prefix, and an address in common among its brokers and ours.
    """
    if settings.sink.guarantee != "exactly-once":
        return
    prefix, brokers_here = settings.sink.transactional_id_prefix, _addresses(settings.kafka.bootstrap)
    for job in cluster(settings, "/jobs/overview")["jobs"]:
        if job["name"] != f"shopstream-{name}" or job["state"] in ("FINISHED", "CANCELED", "FAILED"):
            continue
        told = cluster(settings, f"/jobs/{job['jid']}/config").get("execution-config", {}).get("user-config", {})
        if told.get(PREFIX_TOLD) == prefix and brokers_here & _addresses(told.get(BROKERS_TOLD, "")):
            raise ShopstreamError(
                f"job {job['jid']} ({job['state'].lower()}) on the cluster at {settings.flink.address} writes to the "
                f"same Kafka with the same sink.transactional_id_prefix={prefix}, and two would undo each other's "
                "transactions: stop that job first, or give this one another prefix and another kafka.group"
            )


def _addresses(bootstrap: str) -> set[str]:
    return {address.strip().lower() for address in bootstrap.split(",")}


def submit(command: Sequence[str], settings: Settings) -> str:
    """Run the command line and return the job's id. ShopstreamError with Flink's own reason when it fails."""
    overview = cluster(settings, "/overview")
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


def cancel(settings: Settings, job_id: str) -> None:
    """Stop a job at once; one that has ended already is left alone."""
    request = urllib.request.Request(f"http://{settings.flink.address}/jobs/{job_id}?mode=cancel", method="PATCH")
    try:
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code not in (404, 409):
            raise ShopstreamError(f"job {job_id} cannot be cancelled: {error.reason}") from None


def _reason(output: str) -> str:
    """The line of a Java or Python stack trace that says most: the last cause."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    causes = [line for line in lines if re.match(r"(Caused by: )?[\w.]*(Error|Exception)\b.*:", line)]
    return (causes or lines or ["it printed nothing"])[-1].removeprefix("Caused by: ")
