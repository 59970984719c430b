"""The jars that Kafka and Flink need, locked in jars.lock: fetched once, checked at every use.

The lock has coordinates and SHA-256 sums, no addresses. jgo knows where jars come from: the `[repositories]` of its own
configuration file, then Maven Central. They stay in the usual local Maven repository.

    python -m deploy.local.jars          fetches the locked jars, except for the roles in ON_DEMAND
    python -m deploy.local.jars --lock   resolves ROOTS again and rewrites the lock
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jgo
import requests
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext

from udfs.core.errors import ShopstreamError
from udfs.core.hashing import sha256

LOCK = Path(__file__).with_name("jars.lock")
DOWNLOAD_TIMEOUT_S = 30
PARALLEL_DOWNLOADS = 8
LINE = re.compile(
    r"(?P<role>\w+)\s+(?P<group>[\w.-]+):(?P<artifact>[\w.-]+):(?P<version>[\w.-]+)\s+(?P<sha256>[0-9a-f]{64})"
)

Progress = Callable[[int, int, str], None]
"""Called after each jar with (jars done, number of jars, file name)."""


@dataclass(frozen=True)
class Root:
    """A jar that a role needs; `transitive`: with the jars that it depends on."""

    role: str
    coordinate: str
    transitive: bool


ROOTS = (
    Root("kafka", "org.apache.kafka:kafka_2.13:4.2.1", transitive=True),
    # Sends the broker's SLF4J logging to its own Log4j.
    Root("kafka", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4", transitive=False),
    Root("flink", "org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2", transitive=False),
    # Topics compressed with zstd: Flink has the libraries of the other codecs, and the connector has none.
    Root("zstd", "com.github.luben:zstd-jni:1.5.6-10", transitive=False),
    # Parquet, and the parts of Hadoop that its reader and writer load: 20 MB; Hadoop's own client jars are 50 MB.
    Root("lake", "org.apache.flink:flink-sql-parquet:2.3.0", transitive=False),
    Root("lake", "org.apache.hadoop:hadoop-common:3.4.2", transitive=False),
    Root("lake", "org.apache.hadoop:hadoop-mapreduce-client-core:3.4.2", transitive=False),
    Root("lake", "org.apache.hadoop.thirdparty:hadoop-shaded-guava:1.4.0", transitive=False),
    Root("lake", "org.apache.commons:commons-collections4:4.4", transitive=False),
    Root("lake", "com.fasterxml.woodstox:woodstox-core:5.4.0", transitive=False),
    Root("lake", "org.codehaus.woodstox:stax2-api:4.2.1", transitive=False),
    # Spark's Kafka connector and what of it PySpark's wheel lacks, for `python -m bench pipeline`.
    Root("spark", "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0", transitive=False),
    Root("spark", "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.2.0", transitive=False),
    Root("spark", "org.apache.kafka:kafka-clients:3.9.2", transitive=False),
    Root("spark", "org.apache.commons:commons-pool2:2.13.1", transitive=False),
)
ROLES = tuple(dict.fromkeys(root.role for root in ROOTS))
#: Roles that are fetched at their first use, not by the set-up.
ON_DEMAND = ("lake", "spark")


@dataclass(frozen=True, order=True)
class LockedJar:
    """A line of the lock."""

    role: str
    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinate(self) -> str:
        """`group:artifact:version`."""
        return f"{self.group}:{self.artifact}:{self.version}"


def jars(role: str, progress: Progress | None = None, lock: Path = LOCK) -> list[Path]:
    """Returns the files of one role in the lock's order; downloads missing ones and verifies each checksum.

    Hashing all of Kafka's jars (46 files, 45 MB) takes 0.03 s on two cores, so no earlier check is remembered.

    Raises:
        ShopstreamError: a line of the lock cannot be read, a jar cannot be downloaded, or its sum is another.
    """
    wanted = [jar for jar in read_lock(lock) if jar.role == role]
    if not wanted:
        raise ShopstreamError(f"{lock} names no jars for {role!r}; roles it should have: {', '.join(ROLES)}")
    context = _maven()
    paths: dict[LockedJar, Path] = {}
    with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
        running = {pool.submit(_available, context, jar): jar for jar in wanted}
        try:
            for future in as_completed(running):
                path = paths[running[future]] = future.result()
                if progress is not None:
                    progress(len(paths), len(wanted), path.name)
        finally:
            pool.shutdown(cancel_futures=True)
    return [paths[jar] for jar in wanted]


def read_lock(path: Path = LOCK) -> list[LockedJar]:
    """Reads the jars of the lock.

    Raises:
        ShopstreamError: the file is missing, or a line is not `role group:artifact:version sha256`.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ShopstreamError(f"{path} cannot be read ({error.strerror}); it is part of this package") from error
    return [
        _parse(line, f"{path}:{number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#")
    ]


def write_lock(locked: Iterable[LockedJar], path: Path = LOCK) -> None:
    """Writes the lock, sorted by role and coordinate."""
    head = "# role group:artifact:version sha256; rewritten by `python -m deploy.local.jars --lock`\n"
    lines = [f"{jar.role} {jar.coordinate} {jar.sha256}\n" for jar in sorted(locked)]
    path.write_text(head + "".join(lines), encoding="utf-8")


def resolve_roots() -> list[LockedJar]:
    """Resolves ROOTS; downloads and hashes each jar.

    Each root is resolved by itself: resolved together, the broker's and the connector's Scala versions mix.

    Raises:
        ShopstreamError: a repository cannot be reached.
    """
    context = _maven()
    locked = set()
    for root in ROOTS:
        with _as_one_line(root.coordinate):
            artifacts = jgo.resolve(root.coordinate)
            for found in artifacts if root.transitive else artifacts[:1]:
                path = _artifact(context, found.groupId, found.artifactId, found.version).resolve()
                locked.add(LockedJar(root.role, found.groupId, found.artifactId, found.version, sha256(path)))
    return sorted(locked)


def _parse(line: str, where: str) -> LockedJar:
    match = LINE.fullmatch(line.strip())
    if match is None:
        raise ShopstreamError(f"{where}: {line!r} should be `role group:artifact:version sha256`")
    return LockedJar(**match.groupdict())


def _maven(repo_cache: Path | None = None) -> Any:
    """Makes jgo's Maven context, which asks the repositories of its configuration file first."""
    settings = GlobalSettings.load()
    repositories = {**settings.repositories}
    repositories.setdefault("central", MAVEN_CENTRAL_URL)
    return MavenContext(
        repo_cache=repo_cache or settings.repo_cache, remote_repos=repositories, timeout=DOWNLOAD_TIMEOUT_S
    )


def _artifact(context: Any, group: str, artifact: str, version: str) -> Any:
    return context.project(group, artifact).at_version(version).artifact()


def _available(context: Any, jar: LockedJar) -> Path:
    path = Path(_artifact(context, jar.group, jar.artifact, jar.version).cached_path)
    if path.exists():
        found = sha256(path)
        if found != jar.sha256:
            raise ShopstreamError(
                f"{path} has SHA-256 {found}, but the lock says {jar.sha256}; delete that file to fetch it again"
            )
        return path
    # Downloaded next to its final path and moved there once verified: an interrupted download leaves nothing behind.
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as folder:
        with _as_one_line(jar.coordinate):
            fetched = Path(_artifact(_maven(Path(folder)), jar.group, jar.artifact, jar.version).resolve())
        found = sha256(fetched)
        if found != jar.sha256:
            raise ShopstreamError(
                f"{jar.coordinate} came down with SHA-256 {found}, but the lock says {jar.sha256}; "
                "it was thrown away: try again, and if it stays so, do not trust that repository"
            )
        fetched.replace(path)
    return path


@contextmanager
def _as_one_line(coordinate: str) -> Iterator[None]:
    """Turns whatever jgo raises into one ShopstreamError that names the jar."""
    try:
        yield
    except (requests.RequestException, RuntimeError, OSError) as error:
        # The message of requests spans lines and repeats the address; its class says enough.
        cause = type(error).__name__ if isinstance(error, requests.RequestException) else str(error)
        raise ShopstreamError(
            f"{coordinate} cannot be downloaded ({cause}); check the network (HTTPS_PROXY is honoured), "
            "or name a mirror under [repositories] in jgo's configuration file"
        ) from error


def main() -> None:
    """Fetches every jar of the lock, or with --lock rewrites it."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.jars", description="Fetches the locked jars.")
    parser.add_argument("--lock", action="store_true", help="resolve the roots again and rewrite jars.lock")
    try:
        if parser.parse_args().lock:
            locked = resolve_roots()
            write_lock(locked)
            sys.stdout.write(f"{LOCK}: {len(locked)} jars\n")
            return
        for role in (role for role in ROLES if role not in ON_DEMAND):
            jars(role, lambda done, total, name: _show(f"{done}/{total} {name}"))
            _show(f"{role}: all jars there and as locked\n")
    except ShopstreamError as error:
        sys.exit(f"error: {error}")


def _show(text: str) -> None:
    """Overwrites the last progress line on a terminal; elsewhere prints only finished lines."""
    if sys.stdout.isatty():
        sys.stdout.write(f"\r\x1b[K{text}")
        sys.stdout.flush()
    elif text.endswith("\n"):
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
