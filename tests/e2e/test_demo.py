"""`shopstream demo`, as `make demo` runs it, and that nothing of it is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support import run_command

from deploy.local import process
from deploy.local.flink import MARK

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


def surroundings(home: Path) -> dict[str, str]:
    return {
        "SHOPSTREAM_HOME": str(home),
        "SHOPSTREAM_KAFKA__BOOTSTRAP": f"127.0.0.1:{process.free_port()}",
        "SHOPSTREAM_FLINK__ADDRESS": f"127.0.0.1:{process.free_port()}",
    }


def left_over(home: Path) -> list[int]:
    """Processes that were started for this home: the broker by its arguments, Flink's and its workers by a mark."""
    named = [each.pid for each in psutil.process_iter(["cmdline"]) if str(home) in " ".join(each.info["cmdline"] or ())]
    return named + process.with_variable(MARK, str(home / "flink"))


def test_the_demo_answers_every_trigger_and_leaves_nothing(home: Path):
    ran = run_command("demo", "--json", "--seconds", "8", "--rate", "60", env=surroundings(home), timeout=400)
    assert ran.code == 0, ran.err
    summary = ran.json()
    assert summary["events"] == 8 * 60 + 20
    assert 0 < summary["triggers"] == summary["recommendations"] < summary["events"]
    assert summary["dead_letters"] > 0
    assert 0 < summary["p50_ms"] <= summary["p99_ms"]
    assert summary["encoder_variant"] == "int8"
    assert (home / "demo" / "bundles" / str(summary["bundle_id"]) / "manifest.json").exists()
    assert left_over(home) == []


def test_ctrl_c_stops_what_the_demo_started(home: Path):
    command = [sys.executable, "-m", "flink_jobs.cli", "demo", "--seconds", "300"]
    with subprocess.Popen(command, env=os.environ | surroundings(home), stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        for line in demo.stderr:
            if line.startswith("waiting for the first answer"):
                break
        assert left_over(home)
        time.sleep(2)
        demo.send_signal(signal.SIGINT)
        demo.stderr.read()
        assert demo.wait(60) == 130
    assert left_over(home) == []
