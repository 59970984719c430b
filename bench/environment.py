"""Environments of the peers, beside our own: .shopstream/peers/NAME, installed from requirements/peers-NAME.lock."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from udfs.errors import ShopstreamError
from udfs.runtimes import cpu_flags

ROOT = Path(__file__).parents[1]


def peers_python(name: str, size: str, console: Console) -> Path:
    """The Python of the peers' environment `name`, installed anew whenever its lock file has changed.

    `size` tells people what the download amounts to. Raises ShopstreamError when uv is missing or fails.
    """
    lock, folder = _lock(name), ROOT / ".shopstream" / "peers" / name
    python, stamp = folder / "bin" / "python", folder / "installed"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != digest:
        uv = shutil.which("uv") or shutil.which(ROOT / ".uv" / "bin" / "uv")
        if uv is None:
            raise ShopstreamError("uv is needed to install the peers and is not on PATH; `make setup` brings it")
        console.print(f"installing the peers, {size}, into {folder.relative_to(ROOT)}", markup=False)
        _run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder))
        _run(uv, "pip", "sync", "--python", str(python), str(lock))
        stamp.write_text(digest)
    return python


def peers_versions(name: str, *packages: str) -> dict[str, str]:
    """The versions of some packages in the lock file of the environment `name`."""
    lines = (line.split() for line in _lock(name).read_text().splitlines() if "==" in line and line[0].isalpha())
    locked = dict(line[0].split("==") for line in lines)
    return {package: locked[package] for package in packages}


def _lock(name: str) -> Path:
    return ROOT / "requirements" / f"peers-{name}.lock"


def _run(*command: str) -> None:
    """Run uv, what it says on standard error."""
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        raise ShopstreamError(f"installing the peers failed: {' '.join(command)}")


#: Instructions that decide how fast int8 and bf16 are.
FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def machine() -> str:
    """The processor, how many of its cores this process may use, and which of its instructions matter here."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return ", ".join([model, f"{cores()} cores", *(flag for flag in FLAGS if flag in cpu_flags())])


def cores() -> int:
    """The cores that this process may use: workers of every contender, and partitions of every topic."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
