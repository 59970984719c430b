"""The jobs there are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.jars import jars
from udfs.errors import ShopstreamError

JOBS_FOLDER = Path(__file__).parents[1] / "jobs"


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
        JOBS_FOLDER / "recommend.py",
        "events in, ranked recommendations out while the session is under way",
        topics=("clickstream", "recommendations", "dlq"),
        encodes=True,
    ),
    "session-features": Job(
        JOBS_FOLDER / "session_features.py",
        "events in, features of each session out as it closes, to Kafka and to the lake",
        topics=("clickstream", "session_features", "late"),
        jars=("flink", "lake"),
    ),
    "catalog": Job(
        JOBS_FOLDER / "catalog.py",
        "catalogue changes in, segments with their vectors out, which running rankers take up",
        topics=("catalog", "dlq"),
        jars=("flink", "lake"),
        encodes=True,
    ),
}
BACKFILL = Job(
    JOBS_FOLDER / "session_features.py", "recorded events in, the lake's days out", (), jars=("flink", "lake")
)


def job_named(name: str) -> Job:
    """The job of that name; ShopstreamError lists the names there are."""
    if name not in JOBS:
        raise ShopstreamError(f"there is no job {name!r}; there is {', '.join(sorted(JOBS))}")
    return JOBS[name]
