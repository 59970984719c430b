"""Every mistake is one line that names the cure, with exit code 1, within seconds."""

import gzip
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import Ran, as_options, linked_bundles, run_command

from deploy.local.process import free_port
from udfs.bundles.bundle import current_id

pytestmark = pytest.mark.e2e


def fails(*arguments: str, says: str, cwd: Path | None = None) -> None:
    started = time.monotonic()
    ran: Ran = run_command(*arguments, **({"cwd": cwd} if cwd else {}))
    assert ran.code == 1, ran
    assert ran.out == ""
    lines = [line for line in ran.err.splitlines() if "flink run" not in line]  # the command line that is shown
    assert len(lines) == 1, ran.err
    assert lines[0].startswith("error: ")
    assert says in lines[0]
    assert time.monotonic() - started < 20


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_no_broker(bundles: Path, shop: Path):
    nowhere = as_options([f"kafka.bootstrap=127.0.0.1:{free_port()}", f"bundles={bundles}"])
    for command in (["submit", "recommend"], ["replay", str(shop / "events.jsonl")], ["watch"], ["kafka", "topics"]):
        fails(*command, *nowhere, says="`shopstream kafka start`")


def test_no_cluster(own: Callable[..., list[str]], bundles: Path):
    nowhere = as_options(own(f"bundles={bundles}", f"flink.address=127.0.0.1:{free_port()}"))
    fails("submit", "recommend", *nowhere, says="`shopstream flink start`")


def test_too_few_slots(own: Callable[..., list[str]], bundles: Path, flink: str):
    many = as_options(own(f"bundles={bundles}", f"flink.address={flink}", "parallelism=64"))
    fails("submit", "recommend", *many, says="setting parallelism")


def test_no_bundle(own: Callable[..., list[str]], tmp_path: Path):
    fails("submit", "recommend", *as_options(own(f"bundles={tmp_path}")), says="`python -m export bundle`")


@pytest.mark.parametrize(
    "name",
    ["manifest.json", "tokenizer.json", "encoder/int8.onnx", "items.parquet", "item_vectors.npy", "co_visits.npz"],
)
def test_bundle_with_one_byte_changed(own: Callable[..., list[str]], bundles: Path, tmp_path: Path, name: str):
    damaged = linked_bundles(bundles, tmp_path)
    file = damaged / current_id(damaged) / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()  # it is a link
    file.write_bytes(content)
    fails("submit", "recommend", *as_options(own(f"bundles={damaged}")), says=name)


def test_unknown_variant(own: Callable[..., list[str]], bundles: Path):
    options = as_options(own(f"bundles={bundles}", "encoder.variant=int3"))
    fails("submit", "recommend", *options, says="it has fp16, fp32, int8")


def test_unknown_job():
    fails("submit", "recomend", says="there is no job 'recomend'; the jobs are catalog, recommend")


def test_missing_topic(own: Callable[..., list[str]], bundles: Path, shop: Path):
    options = as_options([*own(f"bundles={bundles}"), "topics.clickstream=nowhere"])
    for command in (["submit", "recommend"], ["replay", str(shop / "events.jsonl")]):
        fails(*command, *options, says="no topic nowhere: create it")


def test_taken_port(taken_port: int, tmp_path: Path):
    for service in ("kafka", "flink"):
        fails(service, "start", "--port", str(taken_port), "--set", f"home={tmp_path}", says=f"port {taken_port}")


def test_unreadable_input(own: Callable[..., list[str]], tmp_path: Path):
    options = as_options(own())
    fails("replay", str(tmp_path / "none.csv"), *options, says="none.csv")
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(b"event_id,event_type,user_id,event_time,item_id\n" * 1000)[:-20])
    fails("replay", str(cut), *options, says="cut.csv.gz")
    strange = tmp_path / "strange.csv"
    strange.write_text("who,what\n1,2\n")
    fails("replay", str(strange), *options, says="--map")
    fails("replay", str(strange), "--map", "user_id", *options, says="FIELD=COLUMN")
    fails("replay", str(strange), "--speed", "fast", *options, says="--speed")


def test_bad_setting():
    fails("submit", "recommend", "--set", "rank.k=none", says="setting rank.k cannot be 'none'")
    fails("submit", "recommend", "--config", "no-such.toml", says="no-such.toml")
    fails("kafka", "start", "--set", "kafka.bootstrap=here", says="host:port")


def test_wrong_usage_exits_with_two():
    ran = run_command("submit")
    assert ran.code == 2
    assert "Missing argument" in ran.err
