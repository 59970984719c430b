"""Where benchmarks run: this machine, and an environment of the peers' own.

Peers live in .shopstream/peers/NAME, installed from requirements/peers-NAME.lock.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from udfs.core.errors import ShopstreamError
from udfs.encoder.selection import cpu_flags

ROOT = Path(__file__).parents[1]
#: Instructions that decide the speed of int8 and bf16.
FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def peers_python(name: str, size: str, console: Console) -> Path:
    """Return the Python of the peers' environment `name`; install it again if its lock file has changed.

    size: of the download, for people. Raises ShopstreamError if uv is missing or fails.
    """
    lock = _lock(name)
    folder = ROOT / ".shopstream" / "peers" / name
    python = folder / "bin" / "python"
    stamp = folder / "installed"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != digest:
        console.print(f"installing the peers, {size}, into {folder.relative_to(ROOT)}", markup=False)
        _run(uv(), "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder))
        _run(uv(), "pip", "sync", "--python", str(python), str(lock))
        stamp.write_text(digest)
    return python


def peers_versions(name: str, *packages: str) -> dict[str, str]:
    """Return the packages' versions in the lock file of the environment `name`."""
    lines = (line.split() for line in _lock(name).read_text().splitlines() if "==" in line and line[0].isalpha())
    locked = dict(line[0].split("==") for line in lines)
    return {package: locked[package] for package in packages}


def uv() -> str:
    """Return uv's path; ShopstreamError without it."""
    found = shutil.which("uv") or shutil.which(ROOT / ".uv" / "bin" / "uv")
    if found is None:
        raise ShopstreamError("uv is needed to install packages and is not on PATH; `make setup` brings it")
    return str(found)


def _lock(name: str) -> Path:
    return ROOT / "requirements" / f"peers-{name}.lock"


def _run(*command: str) -> None:
    """Run uv, with its output on standard error."""
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        raise ShopstreamError(f"installing the peers failed: {' '.join(command)}")


def run_export(command: str, *arguments: str) -> None:
    """Run `python -m export COMMAND …`; raise ShopstreamError with its last line if it fails."""
    line = [sys.executable, "-m", "export", command, *arguments, "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ShopstreamError(f"the export failed: {last_line(done.stderr).removeprefix('error: ')}")


def last_line(text: str) -> str:
    """The last line that is not blank."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it printed nothing")


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """The processor, the number of cores available, and those of FLAGS that it has."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return ", ".join([model, f"{cores()} cores", *(flag for flag in FLAGS if flag in cpu_flags())])
