"""Preflight checks, then `flink run`, or the embedded mini-cluster."""

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import tomli_w

from deploy.local.flink import flink_command, require_startable
from deploy.local.java import child_env
from flink_jobs.brokers.clients import max_record_bytes
from flink_jobs.brokers.reading import committed_offsets, end_offsets
from flink_jobs.brokers.topics import require_topics
from flink_jobs.settings.settings import Settings
from flink_jobs.submit.cluster import Overview, query_cluster
from flink_jobs.submit.registry import Job
from udfs.bundles.bundle import open_bundle
from udfs.core.errors import ShopstreamError
from udfs.encoder.selection import choose
from udfs.events.registry import Registry


def check_ready(job: Job, settings: Settings) -> None:
    """Checks keys, bundle, encoder, topics and registry of a job; raises ShopstreamError for the first fault."""
    settings.keys()
    bundle = open_bundle(settings.bundle_folder)
    if job.encodes:
        choose(bundle.manifest.encoder.variants, settings.encoder.options())
    if job.topics:
        require_topics(settings, *(getattr(settings.topics, name) for name in job.topics))
    registry = settings.registry.options()
    if registry and "schema-registry" in (settings.clickstream.envelope, settings.catalog.envelope):
        Registry(registry).check()


def with_record_sizes(job: Job, settings: Settings) -> tuple[Settings, list[str]]:
    """Returns the settings with how large the job's records may be, and lines about what does not fit.

    Asks the broker for the limits of the job's topics; sink.max_letter_bytes and sink.max_answer_bytes win.
    """
    source, *sinks = (getattr(settings.topics, name) for name in job.topics)
    sizes = max_record_bytes(settings, source, *sinks)
    lines = []
    if silent := [topic for topic, size in sizes.items() if size is None]:
        lines.append(
            f"the broker does not say how large a record of {', '.join(silent)} may be (max.message.bytes): allow us "
            "to DESCRIBE_CONFIGS, or set sink.max_letter_bytes and sink.max_answer_bytes"
        )
    taken = sizes[source] or 0
    if smaller := [f"{topic} only {size:,}" for topic in sinks if (size := sizes[topic]) is not None and size < taken]:
        cut = "what is larger is cut" if "dlq" in job.topics else "a larger record stops the job"
        lines.append(
            f"{source} takes records of {taken:,} bytes, {', '.join(smaller)}: {cut}; "
            f"give those topics max.message.bytes={taken}"
        )
    limits = {"max_letter_bytes": settings.topics.dlq, "max_answer_bytes": settings.topics.recommendations}
    found = {name: sizes.get(topic) for name, topic in limits.items() if getattr(settings.sink, name) is None}
    return settings.model_copy(update={"sink": settings.sink.model_copy(update=found)}), lines


def doubts_of_restore(job: Job, settings: Settings) -> str | None:
    """Returns why restored offsets may be those of another topic than the one that the job would read; None if not.

    A topic that is deleted takes the offsets of its consumer groups with it. In a topic of the same name, a restored
    job goes on at its old offsets all the same, and passes over the records before them.
    """
    topic, group = getattr(settings.topics, job.topics[0]), settings.kafka.group + job.group_suffix
    if any(committed_offsets(settings, topic, group).values()) or not any(end_offsets(settings, topic).values()):
        return None
    return (
        f"group {group} has no offsets in {topic}: if that topic was created again since the savepoint, records up to "
        "the savepoint's offsets are passed over; then cancel the job and submit it without --restore"
    )


def job_arguments(settings: Settings) -> list[str]:
    """Writes the settings as they are in effect to a file, and returns the arguments that hand it to a job's script.

    The process that runs the script reads it: the client of `flink run` or of the mini-cluster, both on this machine.
    Its name is the hash of its content, so that submissions at the same time do not disturb each other. It holds no
    secrets, only the paths of their files.
    """
    values = settings.model_dump(mode="json", exclude_none=True) | {"triggers": sorted(settings.triggers)}
    content = tomli_w.dumps(values).encode()
    file = settings.home / "submitted" / f"{sha256(content).hexdigest()[:16]}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as draft:
        draft.write(content)
    Path(draft.name).replace(file)
    return ["--settings", str(file)]


def flink_run(
    job: Job, settings: Settings, arguments: Sequence[str], *, attached: bool = False, restore: str | None = None
) -> list[str]:
    """Builds the command line `flink run -d -m ADDRESS -j CONNECTOR -pyexec … -py FILE ARGUMENTS`.

    `flink run` takes one jar. A job that needs more adds the others itself; the first cannot see those.
    attached: the command ends when the job ends, and fails if the job fails. restore: path or URI of the savepoint or
    checkpoint to resume from; with a changelog the job takes ownership of it and deletes it in time.
    """
    first, *more = job.jar_files()
    added = [part for jar in more for part in ("--add-jar", str(jar))]
    python = str(settings.flink.python or sys.executable)
    require_startable(python)
    run = [*flink_command(), "run", *([] if attached else ["-d"]), "-m", settings.flink.address, "-j", str(first)]
    if restore:
        run += ["-s", restore]
        if settings.checkpoint.changelog:  # the job's first checkpoint needs the restored one, so the job has to own it
            run += ["--claimMode", "claim"]
    return [*run, "-pyexec", python, "-pyclientexec", sys.executable, "-py", str(job.file), *added, *arguments]


def submit_command(command: Sequence[str], settings: Settings) -> str:
    """Runs the command line and returns the job's id; raises ShopstreamError with Flink's own reason if it fails."""
    overview: Overview = query_cluster(settings, "/overview")
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
    """Runs the job on PyFlink's embedded mini-cluster, in the foreground; raises ShopstreamError if it fails.

    The job ends with this process. SIGTERM ends both, and so does SIGINT, which shells make background jobs ignore.
    """
    require_startable(sys.executable)
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
    """Returns the environment of Flink's client and mini-cluster, whose logs go into home, not into their package."""
    logs = settings.home / "log"
    logs.mkdir(parents=True, exist_ok=True)
    return child_env({"FLINK_LOG_DIR": str(logs)})


def _reason(output: str) -> str:
    """Picks the most telling line of a Java or Python stack trace: the last cause."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    causes = [line for line in lines if re.match(r"(Caused by: )?[\w.]*(Error|Exception)\b.*:", line)]
    return (causes or lines or ["it printed nothing"])[-1].removeprefix("Caused by: ")
