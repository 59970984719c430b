"""`python -m bench.gpu`, which run.sh starts: every step in a process of its own, then gpu.json and gpu.md."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.gpu.report import markdown
from bench.gpu.start import LIST, OWN
from bench.gpu.steps import STEPS

TORCH_STEPS = ("sentence-transformers", "fine-tuning")
#: In this order: what would make the rest worthless first, engines that take minutes to build last.
ORDER = (
    "strictness",
    "tests",
    "speed-cuda-fp16",
    "sentence-transformers",
    "parity",
    "invariance",
    "profile",
    "tokenizing",
    "speed-cpu-int8",
    "speed-cpu-int8-2-cores",
    "speed-cpu-fp32",
    "fine-tuning",
    "speed-tensorrt-fp16",
    "speed-tensorrt-int8",
)
#: Most seconds of one step.
STEP_SECONDS = 150


def main() -> None:
    """Entry point; exit code 1 where a step failed, as opposed to one that cannot run here."""
    parser = argparse.ArgumentParser(prog="run.sh")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    chosen = [name for name in options.only.split(",") if name] or list(ORDER)
    if unknown := sorted(set(chosen) - set(ORDER)):
        parser.error(f"--only names {', '.join(unknown)}; the steps are {', '.join(ORDER)}")
    options.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "version": json.loads((options.work / LIST).read_text())["version"],
        "rehearsal": options.cpu,
        "quick": options.quick,
        "machine": machine(),
        "steps": {},
    }
    began = time.perf_counter()
    for name in chosen:
        spent = time.perf_counter() - began
        if spent > options.seconds - 1:
            result: dict[str, Any] = {"not_measured": f"no time left after {spent:.0f} s"}
        else:
            result = run_step(name, options, min(STEP_SECONDS, options.seconds - spent))
        report["steps"][name] = result
        outcome = "failed" if "failed" in result else "not measured" if "not_measured" in result else "done"
        reason = result.get("failed") or result.get("not_measured") or ""
        sys.stdout.write(f"{name}: {outcome} ({result.get('took_s', 0)} s) {reason}\n")
        sys.stdout.flush()
        (options.out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
        (options.out / "gpu.md").write_text(markdown(report))
    sys.stdout.write(f"{options.out / 'gpu.md'} and {options.out / 'gpu.json'} hold the results\n")
    sys.exit(any("failed" in result for result in report["steps"].values()))


def run_step(name: str, options: argparse.Namespace, limit_s: float) -> dict[str, Any]:
    """Run a step in a process of its own; its result, or why it failed."""
    if name in TORCH_STEPS:
        command = [options.torch_python, "-m", "bench.gpu.torch_steps"]
        env = os.environ | {"PYTHONPATH": str(options.work / OWN)}
    else:
        command = [sys.executable, "-m", "bench.gpu.steps"]
        env = dict(os.environ)
    command += [name, "--work", str(options.work)]
    command += [flag for flag, given in (("--cpu", options.cpu), ("--quick", options.quick)) if given]
    began = time.perf_counter()
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=limit_s, check=False)
        result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        result = {"failed": f"it took more than {limit_s:.0f} s"}
    except (IndexError, json.JSONDecodeError):
        result = {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][-500:]}
    return result | {"took_s": round(time.perf_counter() - began, 1)}


def machine() -> dict[str, Any]:
    """What this machine is: GPU, driver, processor, versions."""
    import onnxruntime as ort

    try:
        query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        gpu = "none"
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return {
        "gpu": gpu,
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "onnxruntime": ort.__version__,
        "providers": ort.get_available_providers(),
    }


assert set(ORDER) == {*STEPS, *TORCH_STEPS}  # noqa: S101

if __name__ == "__main__":
    main()
