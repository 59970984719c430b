"""What run.sh starts: checks the pieces of a pack, puts them together, and measures.

Needs nothing but Python's own library. The pieces may arrive one by one: --receive checks those that are there.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

#: The list of the pieces, which a pack's folder has next to them.
LIST = "pieces.json"
#: Folders of an unpacked pack: our packages, and those of others.
OWN, OTHERS = "own", "site"
#: Where a pack is made, seen from the repository's root.
PACK = Path("build", "gpu-pack")
READ_BYTES = 1 << 20
ABOUT = (
    "Measures the encoder on a GPU machine from the pieces of `make gpu-pack`, and writes gpu.json and gpu.md. "
    "PYTHON names the Python to run with, python3 by default."
)


class PackError(Exception):
    """What a user can mend; the message is one line."""


class Joined:
    """The pieces, read as one file."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = iter(files)
        self._open: BinaryIO | None = None

    def __enter__(self) -> "Joined":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; none at the end."""
        while True:
            if self._open is None:
                file = next(self._files, None)
                if file is None:
                    return b""
                self._open = file.open("rb")
            if chunk := self._open.read(size):
                return chunk
            self._open.close()
            self._open = None


def read_list(pack: Path) -> dict[str, Any]:
    """Return a pack's list: python, version, and per piece its name, bytes and SHA-256."""
    try:
        return dict(json.loads((pack / LIST).read_text()))
    except OSError as error:
        raise PackError(f"{pack / LIST}: {error.strerror}; make a pack with `make gpu-pack` and copy it here") from None


def check(pack: Path, pieces: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the pieces that have not arrived; PackError for one that is damaged."""
    missing = []
    for piece in pieces:
        file = pack / piece["name"]
        if not file.exists():
            missing.append(piece["name"])
            continue
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while chunk := stream.read(READ_BYTES):
                digest.update(chunk)
        if digest.hexdigest() != piece["sha256"]:
            raise PackError(f"{file} is damaged: its SHA-256 is not the one in {LIST}; copy it again")
    return missing


def unpack(pack: Path, pieces: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Put the pieces together into `folder`, unless it holds them already."""
    stamp = folder / LIST
    if stamp.exists() and stamp.read_bytes() == (pack / LIST).read_bytes():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with Joined([pack / piece["name"] for piece in pieces]) as joined, open_archive(joined) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # which Python before 3.11.4 lacks
        archive.extractall(folder)  # noqa: S202
    shutil.copyfile(pack / LIST, stamp)


def open_archive(joined: Any) -> tarfile.TarFile:
    """Open the archive that the pieces are, read from its beginning to its end."""
    return tarfile.open(fileobj=joined, mode="r|gz")


def cuda_folders() -> list[str]:
    """Return the folders with CUDA's libraries that this Python's packages brought, as PyTorch does."""
    packages = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    found = [folder for each in packages for folder in sorted((each / "nvidia").glob("**/lib"))]
    return list(dict.fromkeys(map(str, found)))


def main() -> int:
    """Entry point."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(prog="run.sh", description=ABOUT)
    default = here if (here / LIST).exists() else here.parents[1] / PACK
    parser.add_argument("--pack", type=Path, default=default, help="the folder with the pieces (%(default)s)")
    parser.add_argument("--work", type=Path, help="where the pieces are put together (default: PACK/unpacked)")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="for gpu.json and gpu.md (%(default)s)")
    parser.add_argument("--receive", action="store_true", help="only check the pieces that have arrived")
    parser.add_argument("--cpu", action="store_true", help="rehearse every step on the CPU")
    parser.add_argument("--quick", action="store_true", help="few texts, short runs")
    parser.add_argument("--torch-python", default=sys.executable, help="the Python that has PyTorch (this one)")
    parser.add_argument("--only", default="", metavar="STEP[,STEP]", help="run these steps only")
    parser.add_argument("--seconds", type=float, default=470, help="most time for all steps (%(default)s)")
    options = parser.parse_args()
    try:
        listed = read_list(options.pack)
        pieces = listed["pieces"]
        missing = check(options.pack, pieces)
        sys.stdout.write(f"{len(pieces) - len(missing)} of {len(pieces)} pieces are there and intact\n")
        if missing:
            sys.stdout.write(f"missing: {', '.join(missing)}\n")
        sys.stdout.flush()
        if missing or options.receive:
            return 0 if options.receive else 1
        running = f"{sys.version_info.major}.{sys.version_info.minor}"
        if running != listed["python"]:
            raise PackError(f"the pack is for Python {listed['python']}, this is {running}: set PYTHON, or pack again")
        work = options.work or options.pack / "unpacked"
        unpack(options.pack, pieces, work)
    except PackError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    path = os.pathsep.join([*cuda_folders(), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
    packages = os.pathsep.join([str(work / OWN), str(work / OTHERS)])
    own = {"PYTHONPATH": packages, "LD_LIBRARY_PATH": path, "HF_HUB_OFFLINE": "1", "PYTHONNOUSERSITE": "1"}
    command = [sys.executable, "-m", "bench.gpu", "--work", str(work), "--out", str(options.out)]
    command += ["--torch-python", options.torch_python, "--only", options.only, "--seconds", str(options.seconds)]
    command += [flag for flag, given in (("--cpu", options.cpu), ("--quick", options.quick)) if given]
    return subprocess.run(command, env=os.environ | own, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
