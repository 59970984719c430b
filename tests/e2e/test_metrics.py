"""The encoder's metrics, read where an operator reads them: from Flink."""

import json
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from support import as_options, run_command

from flink_jobs.settings import load_settings
from flink_jobs.submit import cancel

pytestmark = pytest.mark.e2e


def get(address: str, path: str) -> dict[str, list[dict[str, str]]]:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
        return json.load(answer)


def encoder_metrics(address: str, job: str) -> dict[str, float]:
    """Sums over subtasks, by the name behind `encoder.`."""
    found: dict[str, float] = {}
    for vertex in get(address, f"/jobs/{job}")["vertices"]:
        path = f"/jobs/{job}/vertices/{vertex['id']}/metrics"
        names = [metric["id"] for metric in get(address, path) if ".encoder." in metric["id"]]
        if names:
            for metric in get(address, f"{path}?get={','.join(names)}"):
                name = metric["id"].rpartition(".encoder.")[2]
                largest = re.search(r"max=(\d+)", metric["value"])  # a distribution, as PyFlink has it shown
                found[name] = found.get(name, 0) + float(largest[1] if largest else metric["value"])
    return found


def test_the_encoder_is_measured_in_flink(
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
            measured = encoder_metrics(flink, job)
            if measured.get("texts") and measured.get("cached"):
                break
            time.sleep(0.5)
    finally:
        cancel(load_settings(None, assignments), job)
    assert measured["texts"] > 0
    assert measured["tokens"] > 2 * measured["texts"]
    assert 0 < measured["batches"] <= measured["texts"]
    assert measured["cached"] > 0
    assert measured["truncated"] == 0
    assert measured["load_ms"] > 0
    assert measured["batch_texts"] >= 1
    assert 0 < measured["batch_us"] <= measured["model_us"]
