"""The wheel of `make wheel` runs `shopstream demo` with what `shopstream[demo]` needs, without the repository."""

import json
import os
import signal
import subprocess
import sys
import venv
from importlib.metadata import Distribution
from pathlib import Path

import psutil
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import ROOT

from deploy.local import process
from deploy.local.flink import MARK
from udfs.bundles.bundle import open_bundle
from udfs.encoder.options import EncoderOptions
from udfs.encoder.selection import choose

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of a new environment: the wheel, and links to the locked distributions that `shopstream[demo]` needs."""
    folder = tmp_path_factory.mktemp("wheel")
    # The environment that runs this test is ready, so `make` need not look whether it is up to date.
    make = ["make", "-o", ".venv/ready", "wheel", f"BIN={Path(sys.executable).parent}", f"DIST={folder / 'dist'}"]
    subprocess.run(make, cwd=ROOT, check=True)
    (wheel,) = (folder / "dist").glob("shopstream-*.whl")

    new = folder / "venv"
    venv.create(new, with_pip=True, symlinks=True)
    (packages,) = new.glob("lib/python3*/site-packages")
    pip = [new / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel]
    subprocess.run(pip, cwd=folder, env=without_repository(), check=True)
    (installed,) = packages.glob("shopstream-*.dist-info")
    link_requirements(Distribution.at(installed), "demo", packages)
    return new / "bin"


def link_requirements(of: Distribution, extra: str, packages: Path) -> None:
    """Link what a distribution needs with an extra from this environment into the site-packages of another."""
    waiting, seen = [(of, extra), (of, "")], set()
    while waiting:
        distribution, extra = waiting.pop()
        for requirement in map(Requirement, distribution.requires or ()):
            name = canonicalize_name(requirement.name)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
            new = {(name, each) for each in ("", *requirement.extras)} - seen
            if wanted and new:
                needed = of if name == of.name else Distribution.from_name(name)
                seen |= new
                waiting += [(needed, each) for _, each in new]
                link_files(needed, packages)


def link_files(distribution: Distribution, packages: Path) -> None:
    """Link the files of a distribution into another environment's site-packages, unless they are there."""
    tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
    for top in tops:
        if not (packages / top).exists() and not top.endswith(".pth"):
            (packages / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())


def without_repository() -> dict[str, str]:
    """The environment variables, without those by which Python would find the repository."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo runs: empty at first, then with what an earlier demo left in `.shopstream`."""
    return tmp_path_factory.mktemp("demo")


def demo(bin_folder: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    """The demo with ports of its own."""
    ports = {
        "SHOPSTREAM_KAFKA__BOOTSTRAP": f"127.0.0.1:{process.free_port()}",
        "SHOPSTREAM_FLINK__ADDRESS": f"127.0.0.1:{process.free_port()}",
    }
    return subprocess.Popen(
        [bin_folder / "shopstream", "demo", *options],
        cwd=folder, env=without_repository() | ports, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def left_over(folder: Path) -> list[int]:
    """Processes that the demo started: the broker by its arguments, Flink's and its workers by a mark."""
    home = str(folder / ".shopstream")
    named = [each.pid for each in psutil.process_iter(["cmdline"]) if home in " ".join(each.info["cmdline"] or ())]
    return named + process.with_variable(MARK, f"{home}/flink")


def test_wheel_holds_its_packages(bin_folder: Path, tmp_path: Path):
    code = (
        "import deploy, export, flink_jobs, udfs; print(*(m.__path__[0] for m in (deploy, export, flink_jobs, udfs)))"
    )
    found = subprocess.run(
        [bin_folder / "python", "-c", code], cwd=tmp_path, env=without_repository(), stdout=subprocess.PIPE, check=True
    )
    assert found.stdout.count(str(bin_folder.parent).encode()) == 4
    subprocess.run([bin_folder / "shopstream", "--help"], cwd=tmp_path, env=without_repository(), check=True)


def test_demo_answers_every_trigger(bin_folder: Path, folder: Path):
    with demo(bin_folder, folder, "--json", "--seconds", "8", "--rate", "60") as running:
        out, err = running.communicate(timeout=500)
    assert running.returncode == 0, err
    summary = json.loads(out)
    assert summary["events"] == 8 * 60 + 20
    assert 0 < summary["triggers"] == summary["recommendations"] < summary["events"]
    assert summary["dead_letters"] > 0
    assert 0 < summary["p50_ms"] <= summary["p99_ms"]
    bundle = open_bundle(folder / ".shopstream" / "demo" / "bundles", str(summary["bundle_id"]))
    assert summary["encoder_variant"] == choose(bundle.manifest.encoder.variants, EncoderOptions()).variant
    assert left_over(folder) == []


def test_interrupted_demo_stops_its_services(bin_folder: Path, folder: Path):
    with demo(bin_folder, folder, "--seconds", "300") as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("submitting the job"):
                break
        assert left_over(folder)
        running.send_signal(signal.SIGINT)
        running.communicate()
        assert running.wait(60) == 130
    assert left_over(folder) == []
