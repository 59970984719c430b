"""A job's metrics and transactions, read where an operator reads them: from Flink, and as Prometheus does."""

import json
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monitoring import Selector, expressions, scrape, selectors
from support import as_options, read_all, run_command, send

from flink_jobs.settings.loading import load_settings
from flink_jobs.submit.cluster import cancel, require_own_transactions
from udfs.bundles.bundle import current_id

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


def log_lines(address: str) -> list[str]:
    """The log of the task manager."""
    (manager,) = get(address, "/taskmanagers")["taskmanagers"]
    with urllib.request.urlopen(f"http://{address}/taskmanagers/{manager['id']}/log", timeout=30) as answer:
        return answer.read().decode().splitlines()


def submit(name: str, assignments: list[str]) -> str:
    submitted = run_command("submit", name, *as_options(assignments), "--json")
    assert submitted.code == 0, submitted.err
    return str(submitted.json()["job_id"])


def total(samples: list[Any], job: str, name: str, **labels: str) -> float:
    """The sum of an operator's metric over its series of a job."""
    selector = Selector(f"flink_taskmanager_job_task_operator_{name}", (("job_id", "=", job), *_regexes(labels)))
    return sum(sample.value for sample in samples if selector.finds(sample.name, sample.labels))


def _regexes(labels: dict[str, str]) -> list[tuple[str, str, str]]:
    return [(label, "=~", value) for label, value in labels.items()]


def test_metrics_of_both_jobs(
    own: Callable[..., list[str]],
    flink: str,
    metrics_ports: tuple[int, int],
    bundles: Path,
    shop: Path,
):
    """Each good, unreadable and repeated event is counted; alerts and dashboard use only metrics that a job reports."""
    values = [line.encode() for line in (shop / "events.jsonl").read_text().splitlines()[:500]]
    keys = [json.loads(value)["user_id"].encode() for value in values]
    bad = [(b"u", b"{"), (b"u", b"\xff"), (b"u", b"{}"), (b"u", None)]
    repeated = list(zip(keys, values, strict=True))[-7:]
    assignments = own(
        f"bundles={bundles}", f"flink.address={flink}", "checkpoint.interval=500ms", "python.log_level=DEBUG"
    )
    settings = load_settings(None, assignments)
    triggers = sum(json.loads(value)["event_type"] in settings.triggers for value in values)
    wanted = {selector for expression in expressions().values() for selector in selectors(expression)}
    jobs = []
    try:
        jobs += [submit("recommend", assignments), submit("session-features", assignments)]
        job = jobs[0]
        send(settings, [*zip(keys, values, strict=True), *bad, *repeated])
        for _ in range(120):
            samples, measured = scrape(metrics_ports), metrics(flink, job, "encoder")
            missing = {
                selector for selector in wanted if not any(selector.finds(each.name, each.labels) for each in samples)
            }
            counted = total(samples, job, "recommend_triggers"), total(samples, jobs[1], "read_records")
            if counted == (triggers, len(values) + 11) and not missing and measured.get("cached"):
                break
            time.sleep(0.5)
        time.sleep(3 * settings.checkpoint_ms() / 1000)
        answered = [
            json.loads(each.value)["recommendation_id"] for each in read_all(settings, settings.topics.recommendations)
        ]
        logged = log_lines(flink)
        again = run_command("submit", "recommend", *as_options(assignments))
        for other in (
            "sink.transactional_id_prefix=x",
            "sink.guarantee=at-least-once",
            "kafka.bootstrap=elsewhere:9092",
        ):
            require_own_transactions("recommend", load_settings(None, [*assignments, other]))
        require_own_transactions("catalog", load_settings(None, assignments))
    finally:
        for each in jobs:
            cancel(settings, each)
    assert missing == set()
    assert counted == (triggers, len(values) + 11)
    assert len(answered) == triggers
    lines = [json.loads(line.partition("answered ")[2]) for line in logged if "answered {" in line]
    assert sorted(line["recommendation_id"] for line in lines if line["recommendation_id"] in set(answered)) == sorted(
        answered
    )
    users = re.compile(rb"|".join(rb"\b%s\b" % key for key in set(keys)))
    others = [line for line in logged if "PythonWorker" in line and " DEBUG " not in line]
    assert others
    assert not [line for line in others if users.search(line.encode())]
    assert total(samples, job, "read_records") == len(values) + 11
    assert total(samples, job, "read_reason_unreadable") == len(bad)
    by_reason = {
        reason: total(samples, job, "read_reason_unreadable", reason=reason)
        for reason in ("DecodeError", "UnicodeDecodeError", "ValidationError", "ValueError", "RecursionError", "other")
    }
    assert by_reason == {
        "DecodeError": 1, "UnicodeDecodeError": 1, "ValidationError": 1, "ValueError": 1, "RecursionError": 0,
        "other": 0,
    }  # fmt: skip
    windows: dict[str, float] = {}
    for each in samples:
        if each.name.endswith("operator_numRecordsIn") and each.labels["job_id"] == job:
            name = each.labels["operator_name"]
            windows[name] = windows.get(name, 0) + each.value
    over = [count for name, count in windows.items() if name.startswith("OverAggregate")]
    assert max(over) - min(over) == len(repeated), windows
    assert total(samples, job, "recommend_le_trigger_ms", le="Inf") == triggers
    assert total(samples, job, "recommend_le_batch_ms", le="Inf") == total(samples, job, "recommend_batches") > 0
    assert total(samples, job, "recommend_candidates") > total(samples, job, "recommend_items") > 0
    assert 0 < total(samples, job, "recommend_rank_us") < total(samples, job, "recommend_us")
    used = {each.labels["id"] for each in samples if each.name.endswith("bundle_id_used") and each.value == 1}
    assert used == {current_id(bundles)}
    assert 0 <= time.time() - total(samples, job, "bundle_written_s") < 86_400
    assert measured["texts"] > 0
    assert measured["tokens"] > 2 * measured["texts"]
    assert 0 < measured["batches"] <= measured["texts"]
    assert measured["cached"] > 0
    assert measured["truncated"] == measured["failed"] == 0
    assert measured["load_ms"] > 0
    assert measured["batch_texts"] >= 1
    assert 0 < measured["batch_us"] <= measured["model_us"]
    assert total(samples, job, "bundle_taken_up") == total(samples, job, "bundle_refused") == 0
    assert again.code == 1
    refusal = again.err.splitlines()[-1]
    assert refusal.startswith(f"error: job {job} (running) on the cluster at {flink} writes to the same Kafka")
    assert "sink.transactional_id_prefix" in refusal
