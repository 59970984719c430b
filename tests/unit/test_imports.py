"""Dependencies point one way (flink_jobs → udfs ← export); neither Flink nor PyTorch comes where it is not used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("udfs", "export", "deploy", "flink_jobs", "bench", "tests")
ALLOWED = {
    "udfs": {"udfs"},
    "export": {"export", "udfs"},
    "deploy": {"deploy", "udfs"},
    "flink_jobs": {"flink_jobs", "deploy", "udfs"},
    "bench": {"bench", "export", "flink_jobs", "deploy", "udfs"},
}


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_what_lies_below_them(package: str):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        ours = {name.split(".")[0] for name in imported(file)} & set(OURS)
        assert ours <= ALLOWED[package], file


def test_flink_is_needed_by_one_module_of_udfs():
    needing = {
        file.name
        for file in (ROOT / "udfs").rglob("*.py")
        if any(name.startswith("pyflink") for name in imported(file))
    }
    assert needing == {"functions.py"}


def test_a_worker_loads_neither_pytorch_nor_transformers():
    code = "import sys, udfs.recommend; print([m for m in ('torch', 'transformers', 'pyflink') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
