"""What tests of real parts need again and again: running commands, sending and reading records, finding data."""

import gzip
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flink_jobs import brokers
from flink_jobs.settings import Settings

ROOT = Path(__file__).parents[1]


def data_file(folder: str, name: str) -> Path:
    """A file of the real data beside the checkout; skips by name where it is absent, fails in CI."""
    file = Path(os.environ.get("SHOPSTREAM_DATA", ROOT.parent / "shared" / "data")) / folder / name
    if not file.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{file} is needed in CI")
        pytest.skip(f"{file} is not here")
    return file


def online_retail(file: Path, lines: int) -> Path:
    """Write the first lines of Online Retail and its header to a file (.csv.gz)."""
    source = data_file("online_retail", "online_retail.csv.gz")
    with gzip.open(source, "rt", newline="") as whole, gzip.open(file, "wt", newline="") as part:
        part.writelines(itertools.islice(whole, 1 + lines))
    return file


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, object]:
        """The one JSON object that it printed."""
        return dict(json.loads(self.out))


def run_command(*arguments: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT, timeout: float = 300) -> Ran:
    """Run `shopstream ARGUMENTS`, or `python -m export …` when they begin with `export`."""
    module = ["export"] if arguments[0] == "export" else ["flink_jobs.cli"]
    rest = arguments[1:] if arguments[0] == "export" else arguments
    done = subprocess.run(
        [sys.executable, "-m", *module, *rest],
        cwd=cwd, env=os.environ | dict(env or {}), capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def as_options(assignments: list[str]) -> list[str]:
    """Assignments as `--set` options."""
    return [part for assignment in assignments for part in ("--set", assignment)]


def read_all(settings: Settings, topic: str) -> list[Any]:
    """Every committed record of a topic."""
    return list(brokers.records(settings, topic))


def send(
    settings: Settings, records: list[tuple[bytes | None, bytes | None]], topic: str | None = None, **extra: Any
) -> None:
    """Send records to a topic, by default `clickstream`."""
    producer = brokers.producer(settings)
    for key, value in records:
        producer.send(topic or settings.topics.clickstream, key=key, value=value, **extra)
    producer.flush()
    producer.close()
