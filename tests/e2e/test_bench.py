"""`python -m bench pipeline` and `scale` on a real broker and a real cluster, without the peers except the loop."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

pytestmark = pytest.mark.e2e


def test_contenders_answer_every_trigger_once(bundles: Path):
    command = [sys.executable, "-m", "bench", "pipeline", "--quick", "--events", "3000", "--bundles", str(bundles)]
    command += ["--only", "ours,floor,loop", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {"ours", "floor", "loop"}, done.stderr
    for row in rows.values():
        assert row["events"] >= 3000
        assert (row["missing"], row["doubled"], row["unexpected"]) == (0, 0, 0), row
        assert row["peak_rss_mb"] > 100
    assert rows["loop"]["same_as_ours"] == 1
    assert rows["floor"]["same_as_ours"] == 0
    assert rows["ours"]["startup_s"] > 0


def test_latency_of_every_load(bundles: Path):
    command = [sys.executable, "-m", "bench", "pipeline", "--latency", "--capacity", "60", "--seconds", "2", "--json"]
    command += ["--only", "at-least-once", "--set", "parallelism=1", "--bundles", str(bundles)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["load"] for row in rows] == [0.25, 0.5, 0.8]
    for row in rows:
        assert (row["guarantee"], row["isolation"], row["missing"]) == ("at-least-once", "read_committed", 0), row
        assert 0.3 * row["events_per_s"] * 2 < row["answers"] <= row["events_per_s"] * 2
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] <= row["max_ms"]


def test_scale_measures_state_per_user(bundles: Path):
    command = [sys.executable, "-m", "bench", "scale", "--only", "rocksdb", "--share", "0.02", "--json"]
    command += ["--bundles", str(bundles)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["users"], row["events"], row["contender"]) == (200, 2000, "ours-rocksdb")
    assert (row["missing"], row["doubled"]) == (0, 0)
    assert 100 * row["length"] < row["state_bytes_a_user"] == pytest.approx(row["state_mb"] * 1e6 / 200, abs=0.1)
