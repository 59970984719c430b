"""The jobs there are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from udfs.core.errors import ShopstreamError

JOBS_FOLDER = Path(__file__).parents[1] / "jobs"
#: Roles of the jars that a job with topics needs; the connector is first.
KAFKA_JARS = ("flink", "zstd")


@dataclass(frozen=True)
class Job:
    """A job's script, one line about what it does, and what it needs."""

    file: Path
    summary: str
    topics: tuple[str, ...]  #: settings in `topics`; the first is the one that it reads
    jars: tuple[str, ...] = KAFKA_JARS  #: roles in the jars' lock
    encodes: bool = False  #: needs the bundle's encoder
    group_suffix: str = ""  #: of its consumer group, behind kafka.group

    def jar_files(self) -> list[Path]:
        """Returns the job's jars; fetches those that are missing."""
        from deploy.local.jars import jars  # here: importing jgo takes 0.2 s, which most commands do not need

        return [file for role in self.jars for file in jars(role)]


JOBS: Mapping[str, Job] = {
    "recommend": Job(
        JOBS_FOLDER / "recommend.py",
        "events in, ranked recommendations out during the session",
        topics=("clickstream", "recommendations", "dlq"),
        encodes=True,
    ),
    "session-features": Job(
        JOBS_FOLDER / "session_features.py",
        "events in, features of each closed session out, to Kafka and to the lake",
        topics=("clickstream", "session_features", "late"),
        jars=(*KAFKA_JARS, "lake"),
        group_suffix="-session-features",
    ),
    "catalog": Job(
        JOBS_FOLDER / "catalog.py",
        "encodes changed items for running rankers",
        topics=("catalog", "dlq"),
        jars=(*KAFKA_JARS, "lake"),
        encodes=True,
        group_suffix="-catalog",
    ),
}
BACKFILL = Job(
    JOBS_FOLDER / "session_features.py", "recorded events in, the lake's days out", (), jars=("flink", "lake")
)


def job_named(name: str) -> Job:
    """Finds a job by its name; raises ShopstreamError that lists the names."""
    if name not in JOBS:
        raise ShopstreamError(f"there is no job {name!r}; the jobs are {', '.join(sorted(JOBS))}")
    return JOBS[name]
