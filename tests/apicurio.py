"""A real schema registry for tests: Apicurio Registry, in memory, by the project's Java."""

import json
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from deploy.local.jars import _maven
from deploy.local.java import child_env, java
from deploy.local.process import free_port
from udfs.core.hashing import sha256

COORDINATE = ("io.apicurio", "apicurio-registry-app", "3.3.3")
SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
START_S = 60


@contextmanager
def apicurio(folder: Path) -> Iterator[str]:
    """The address of a registry's REST API as Confluent's has it; 160 MB are downloaded once, and unpacked here."""
    group, artifact, version = COORDINATE
    archive = Path(_maven().project(group, artifact).at_version(version).artifact("all", "tar.gz").resolve())
    assert sha256(archive) == SHA256, f"{archive} is another one: delete it"
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    port = free_port()
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(java()), "-Xmx192m", f"-Dquarkus.http.port={port}", "-jar", str(folder / "quarkus-run.jar")],
            env=child_env(), stdout=log, stderr=log,
        )  # fmt: skip
        try:
            until = time.monotonic() + START_S
            while True:
                try:
                    requests.get(f"{url}/subjects", timeout=2).raise_for_status()
                    break
                except requests.RequestException:
                    assert process.poll() is None, f"it ended; see {folder / 'log'}"
                    assert time.monotonic() < until, f"it does not answer; see {folder / 'log'}"
                    time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def register(url: str, subject: str, schema: Any, **more: Any) -> int:
    """Register a schema; return its id."""
    body = {"schema": json.dumps(schema)} | more
    answer = requests.post(f"{url}/subjects/{subject}/versions", json=body, timeout=10)
    answer.raise_for_status()
    return int(answer.json()["id"])
