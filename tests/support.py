"""What tests of real parts share: running commands, sending and reading records, finding data."""

import gzip
import io
import itertools
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kafka.admin import ConfigResource

from flink_jobs.brokers.clients import open_admin, open_producer
from flink_jobs.brokers.reading import end_offsets, read_topic
from flink_jobs.cli import main
from flink_jobs.settings.settings import Settings
from udfs.bundles.bundle import MANIFEST, open_bundle
from udfs.bundles.manifest import FileEntry
from udfs.core.hashing import sha256

ROOT = Path(__file__).parents[1]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["support", *(f"flink_jobs.commands.{each.stem}" for each in (ROOT / "flink_jobs" / "commands").glob("*.py"))]
)


def data_file(folder: str, name: str) -> Path:
    """A file of the real data next to the checkout; skips the test without it, or fails it in CI."""
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


def framed(number: int, schema: Any, record: Any) -> bytes:
    """A record in Avro behind a schema registry's header."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), record)
    return b"\0" + number.to_bytes(4, "big") + body.getvalue()


def run_command(*arguments: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT, timeout: float = 300) -> Ran:
    """Run `shopstream ARGUMENTS`, or `python -m export …` when they begin with `export`, in a process of its own.

    `shopstream` runs in a fork of a process that has imported it: that takes longer than most commands.
    """
    variables = os.environ | dict(env or {})
    if arguments[0] == "export":
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(
            command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=timeout, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        fork = FORKS.Process(target=_shopstream, args=(arguments, variables, cwd, out, err))
        fork.start()
        fork.join(timeout)
        if fork.exitcode is None:
            fork.kill()
            raise TimeoutError(f"{' '.join(arguments)} has not ended within {timeout} s")
        return Ran(fork.exitcode, out.read_text(), err.read_text())


def _shopstream(arguments: Sequence[str], env: Mapping[str, str], cwd: Path, out: Path, err: Path) -> None:
    """What the fork does."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, file in enumerate((os.devnull, out, err)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    sys.argv = ["shopstream", *arguments]
    main()


def as_options(assignments: list[str]) -> list[str]:
    """Assignments as `--set` options."""
    return [part for assignment in assignments for part in ("--set", assignment)]


def read_all(settings: Settings, topic: str) -> list[Any]:
    """Every committed record of a topic."""
    return list(read_topic(settings, topic))


def send(
    settings: Settings, records: list[tuple[bytes | None, bytes | None]], topic: str | None = None, **extra: Any
) -> None:
    """Send records to a topic, by default `clickstream`."""
    producer = open_producer(settings)
    for key, value in records:
        producer.send(topic or settings.topics.clickstream, key=key, value=value, **extra)
    producer.flush()
    producer.close()


def set_max_bytes(settings: Settings, topic: str, limit: int) -> None:
    """Set how large a record of a topic may be."""
    with closing(open_admin(settings)) as admin:
        admin.alter_configs([ConfigResource("TOPIC", topic, {"max.message.bytes": str(limit)})])


def add_partition(settings: Settings) -> int:
    """Add a partition to `clickstream`; return its number."""
    topic = settings.topics.clickstream
    number = len(end_offsets(settings, topic))
    with closing(open_admin(settings)) as admin:
        admin.create_partitions({topic: number + 1})
    while len(end_offsets(settings, topic)) == number:
        time.sleep(0.1)
    return number


def linked_bundles(bundles: Path, folder: Path) -> Path:
    """The bundles again, to be changed: links, until a file is replaced."""
    return Path(shutil.copytree(bundles, folder / "bundles", copy_function=os.link))


def another_bundle(folder: Path, model: bytes | None = None, kept: int = 1, variant: str = "int8") -> str:
    """The id of a new bundle, which shares no file with the current one: that with another model, or without one given
    with its first `kept` items alone in stock. model: of the encoder's `variant`.
    """
    bundle = open_bundle(folder)
    draft = folder / "draft"
    shutil.copytree(bundle.path, draft)
    if model is None:
        name, table = "items.parquet", bundle.items().table
        stock = pa.array([row < kept for row in range(len(table))])
        pq.write_table(table.set_column(table.schema.get_field_index("in_stock"), "in_stock", stock), draft / name)
    else:
        name = bundle.manifest.encoder.variants[variant].file
        (draft / name).write_bytes(model)
    entry = FileEntry(sha256(draft / name), (draft / name).stat().st_size)
    manifest = msgspec.structs.replace(bundle.manifest, files=bundle.manifest.files | {name: entry})
    manifest = msgspec.structs.replace(manifest, id=manifest.content_id())
    (draft / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    draft.rename(folder / manifest.id)
    return manifest.id
