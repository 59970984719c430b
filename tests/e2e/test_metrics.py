"""A job's metrics and what it tells of its transactions, read where an operator reads them: from Flink."""

import json
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from support import as_options, run_command

from flink_jobs.settings import load_settings
from flink_jobs.submit import cancel, require_own_transactions

pytestmark = pytest.mark.e2e


def get(address: str, path: str) -> dict[str, list[dict[str, str]]]:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
        return json.load(answer)


def metrics(address: str, job: str, group: str) -> dict[str, float]:
    """Sums over subtasks of our metrics in a group, by the name behind it."""
    found: dict[str, float] = {}
    for vertex in get(address, f"/jobs/{job}")["vertices"]:
        path = f"/jobs/{job}/vertices/{vertex['id']}/metrics"
        names = [metric["id"] for metric in get(address, path) if f".{group}." in metric["id"]]
        if names:
            for metric in get(address, f"{path}?get={','.join(names)}"):
                name = metric["id"].rpartition(f".{group}.")[2]
                largest = re.search(r"max=(\d+)", metric["value"])  # a distribution, as PyFlink has it shown
                found[name] = found.get(name, 0) + float(largest[1] if largest else metric["value"])
    return found


def test_flink_knows_what_the_job_does_and_whose_transactions_are_its_own(
    own: Callable[..., list[str]], flink: str, bundles: Path, shop: Path, tmp_path
):
    events = tmp_path / "events.jsonl"
    events.write_text("".join((shop / "events.jsonl").read_text().splitlines(keepends=True)[:500]))
    assignments = own(f"bundles={bundles}", f"flink.address={flink}", "checkpoint.interval=500ms")
    options = as_options(assignments)
    submitted = run_command("submit", "recommend", *options, "--json")
    assert submitted.code == 0, submitted.err
    job = str(submitted.json()["job_id"])
    try:
        assert run_command("replay", str(events), *options).code == 0
        for _ in range(120):
            measured = metrics(flink, job, "encoder")
            if measured.get("texts") and measured.get("cached"):
                break
            time.sleep(0.5)
        followed = metrics(flink, job, "bundle")
        again = run_command("submit", "recommend", *options)
        for other in (
            "sink.transactional_id_prefix=x",
            "sink.guarantee=at-least-once",
            "kafka.bootstrap=elsewhere:9092",
        ):
            require_own_transactions("recommend", load_settings(None, [*assignments, other]))
        require_own_transactions("catalog", load_settings(None, assignments))
    finally:
        cancel(load_settings(None, assignments), job)
    assert measured["texts"] > 0
    assert measured["tokens"] > 2 * measured["texts"]
    assert 0 < measured["batches"] <= measured["texts"]
    assert measured["cached"] > 0
    assert measured["truncated"] == measured["failed"] == 0
    assert measured["load_ms"] > 0
    assert measured["batch_texts"] >= 1
    assert 0 < measured["batch_us"] <= measured["model_us"]
    assert followed == {"taken_up": 0, "refused": 0}
    assert again.code == 1
    refusal = again.err.splitlines()[-1]
    assert refusal.startswith(f"error: job {job} (running) on the cluster at {flink} writes to the same Kafka")
    assert "sink.transactional_id_prefix" in refusal
