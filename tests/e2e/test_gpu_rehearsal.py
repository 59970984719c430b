"""bench/gpu/run.sh on the CPU: from the pieces of a pack, in an empty folder, with a Python without packages."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.__main__ import app
from bench.gpu import pack as packing

#: All but the speeds of contenders that differ from the first one in their variant alone.
STEPS = "strictness,tests,speed-cuda-fp16,sentence-transformers,parity,invariance,profile,tokenizing,fine-tuning"


def test_every_step_runs_from_the_pieces(bundles: Path, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "GZIP_LEVEL", 0)
    pack, empty, fresh = tmp_path / "pack", tmp_path / "empty", tmp_path / "fresh"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    options = ["--out", str(pack), "--python", version, "--bundles", str(bundles)]
    made = CliRunner().invoke(app, ["gpu-pack", *options, "--catalog", str(shop / "catalog.jsonl")])
    assert made.exit_code == 0, made.output
    assert max(file.stat().st_size for file in pack.iterdir()) < 60 << 20
    venv.create(fresh)
    empty.mkdir()
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHON": str(fresh / "bin" / "python")}
    command = ["bash", str(pack / "run.sh"), "--cpu", "--quick", "--only", STEPS]
    command += ["--torch-python", sys.executable]
    ran = subprocess.run(command, cwd=empty, env=variables, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = json.loads((empty / "gpu-results" / "gpu.json").read_text())
    assert not [name for name, step in report["steps"].items() if "not_measured" in step]
    assert "lacks" in report["steps"]["parity"]["tensorrt-int8"]["not_measured"]
    assert report["steps"]["speed-cuda-fp16"]["texts_per_s"]["titles"] > 0
    assert report["steps"]["parity"]["sentence-transformers"]["cosine_mean"] > 0.999
    assert report["steps"]["invariance"]["equal_bits"] == 1  # on a CPU
    assert "refused: encoder.provider is tensorrt" in report["steps"]["strictness"]["tensorrt"]
    assert "A rehearsal on the CPU" in (empty / "gpu-results" / "gpu.md").read_text()
