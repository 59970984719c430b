"""The job that writes the lake loses its task manager in the middle of a write, on a real cluster."""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from support import as_options, read_all, run_command, send

from deploy.local.flink import LocalFlink
from deploy.local.process import free_port
from flink_jobs.settings.loading import load_settings
from flink_jobs.simulation.catalog import make_catalog
from flink_jobs.simulation.simulate import simulate
from flink_jobs.submit.cluster import cancel
from udfs.events.parsing import parse_event
from udfs.lake.files import read

pytestmark = pytest.mark.e2e

HOUR = 3_600_000
#: Parts in which the events are sent; the task manager is killed while each but the last is being written.
PARTS = 3


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalFlink]:
    """A cluster of its own: another test's jobs would be hit too."""
    own_cluster = LocalFlink(tmp_path / "flink", free_port(), slots=2)
    own_cluster.start()
    yield own_cluster
    own_cluster.stop()


def unfinished(folder: Path) -> set[Path]:
    """Files of the lake that are being written, by what is in them."""
    return {each for each in folder.rglob(".*") if each.is_file() and each.stat().st_size}


def cleaning_counters(address: str, job: str) -> set[str]:
    """Names of the counters in Flink's metric group `cleaning` that have counted something."""

    def get(path: str) -> Any:
        with urllib.request.urlopen(f"http://{address}/jobs/{job}{path}", timeout=10) as answer:
            return json.load(answer)

    metrics = [each["id"] for vertex in get("")["vertices"] for each in get(f"/vertices/{vertex['id']}/metrics")]
    return {name.rpartition(".")[2] for name in metrics if ".cleaning." in name}


def visible_rows(folder: Path, table: str) -> int:
    """All that a reader sees now; raises if a file is not whole."""
    return read(folder, table).num_rows if (folder / table).is_dir() else 0


def test_killed_task_manager_loses_nothing(
    own: Callable[..., list[str]], cluster: LocalFlink, bundles: Path, tmp_path: Path
):
    address = cluster.status().url.removeprefix("http://")
    assignments = own(
        f"bundles={bundles}", f"home={tmp_path}", f"flink.address={address}", "parallelism=2", "lake.interval=3 s",
        "session.gap=2 min",
    )  # fmt: skip
    settings = load_settings(None, assignments)
    folder = settings.lake_folder
    records = list(simulate(make_catalog(600), events=9000, shoppers=300))
    submitted = run_command("submit", "session-features", *as_options(assignments), "--json")
    assert submitted.code == 0, submitted.err
    job = str(submitted.json()["job_id"])
    try:
        for number in range(PARTS):
            part = records[number * len(records) // PARTS : (number + 1) * len(records) // PARTS]
            send(settings, [(record.key, record.value) for record in part])
            if number < PARTS - 1:
                deadline = time.monotonic() + 120
                while not unfinished(folder):
                    assert time.monotonic() < deadline, "nothing was written"
                    time.sleep(0.02)
                    visible_rows(folder, "events")
                killed = cluster.status().task_manager_pid
                assert killed is not None
                task_manager = psutil.Process(killed)
                task_manager.kill()
                task_manager.wait(10)
                assert unfinished(folder)  # in mid-write
                assert cluster.start().task_manager_pid != killed
        good = pd.DataFrame(
            [parse_event(record.value)[2:6] for record in records if record.kind != "bad"],
            columns=["event_id", "event_type", "user_id", "event_time"],
        ).drop_duplicates("event_id")
        # Events from much later close all sessions, on every partition.
        after = int(good["event_time"].max()) + HOUR
        closing = [f"closing{number}" for number in range(16)]
        send(settings, [(user.encode(), _event(user, after)) for user in closing])

        ordered = good.sort_values(["user_id", "event_time"])
        opens = (ordered["user_id"] != ordered["user_id"].shift()) | (
            ordered["event_time"].diff() >= settings.session.gap
        )
        first = ordered[opens]
        expected = set(first["user_id"] + "/" + first["event_time"].astype(str))
        deadline = time.monotonic() + 120
        while visible_rows(folder, "sessions") < len(expected) or visible_rows(folder, "events") < len(good):
            assert time.monotonic() < deadline, f"{visible_rows(folder, 'sessions')} of {len(expected)} sessions"
            time.sleep(0.5)
        time.sleep(2 * settings.lake.interval / 1000)  # anything too much would come now
        while "repeats" not in cleaning_counters(address, job):  # Flink fetches them when asked, for the next answer
            assert time.monotonic() < deadline, "repeats are not counted in the metrics"
            time.sleep(0.5)
    finally:
        cancel(settings, job)
    in_topic = [json.loads(each.value)["session_id"] for each in read_all(settings, settings.topics.session_features)]
    assert sorted(in_topic) == sorted(expected)
    assert sorted(read(folder, "sessions")["session_id"].to_pylist()) == sorted(expected)
    assert sorted(read(folder, "events")["event_id"].to_pylist()) == sorted(good["event_id"])
    assert read_all(settings, settings.topics.late) == []

    # The same from the lake's events, by the batch job on the cluster.
    sessions = read(folder, "sessions").sort_by("session_id")
    ran = run_command("backfill", "lake", "--cluster", *as_options(assignments))
    assert ran.code == 0, ran.err
    assert read(folder, "sessions").sort_by("session_id").equals(sessions)


def _event(user: str, event_time: int) -> bytes:
    fields = {"event_id": user, "event_type": "view", "user_id": user, "event_time": event_time, "item_id": "i"}
    return json.dumps(fields).encode()
