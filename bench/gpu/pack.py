"""Packs all that a GPU machine with PyTorch and no network lacks: packages, a bundle, the model, texts.

One archive, cut into pieces; the same inputs give the same bytes.
"""

import gzip
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from tokenizers import Tokenizer

from bench.encode.text_sets import joined, read_titles
from bench.environment import ROOT, run_export, uv
from bench.gpu.start import LIST, OTHERS, OWN
from bench.output import progress_console
from export.encoder.source import SourceModel, open_source
from flink_jobs.simulation.catalog import make_catalog
from udfs.bundles.bundle import CURRENT, Bundle, open_bundle
from udfs.core.errors import ShopstreamError
from udfs.core.hashing import sha256

VARIANTS = ("fp32", "fp16", "int8", "tensorrt-int8")
#: Bytes of a piece, 56 MiB.
PIECE_BYTES = 56 << 20
#: gzip's level. Level 5 saves 1 % more.
GZIP_LEVEL = 1
#: Texts of each set: titles, and texts of as many tokens.
TITLES = 4096
TOKEN_TEXTS = {64: 1024, 128: 1024, 256: 512}
#: Files of the model that Sentence Transformers reads.
MODEL_FILES = ("*.json", "*.txt", "*/config.json")
NOT_PACKED = shutil.ignore_patterns("__pycache__")
#: What bench/gpu/run.sh needs next to the pieces.
STARTERS = ("run.sh", "start.py")


@dataclass(frozen=True)
class Options:
    """The options of the command. python: the version on the GPU machine."""

    out: Path
    python: str
    bundles: Path | None = None
    catalog: Path | None = None


def run(options: Options) -> None:
    """Write the pieces and their list; raise ShopstreamError for what a user can fix."""
    console = progress_console()
    with TemporaryDirectory(prefix="shopstream-pack-") as name:
        folder, scratch = Path(name, "pack"), Path(name, "scratch")
        scratch.mkdir()
        _fill(options, folder, scratch, console)
        console.print(f"packing into {options.out}", markup=False)
        pieces = write_pieces(folder, options.out)
    content = {"python": options.python, "version": _version(), "pieces": pieces}
    (options.out / LIST).write_text(json.dumps(content, indent=1) + "\n")
    for file in STARTERS:
        shutil.copy(ROOT / "bench" / "gpu" / file, options.out / file)
    total = sum(piece["bytes"] for piece in pieces)
    console.print(f"{len(pieces)} pieces, {total / 2**20:,.0f} MiB, for Python {options.python}: {options.out}")
    console.print("next: copy the folder to the GPU machine and start run.sh there (docs/gpu.md)", markup=False)


def _fill(options: Options, folder: Path, scratch: Path, console: Console) -> None:
    """Write what is packed into `folder`."""
    console.print(f"installing the packages for Python {options.python}", markup=False)
    _install(folder / OTHERS, options.python)
    for package in ("udfs", "bench"):
        shutil.copytree(ROOT / package, folder / OWN / package, ignore=NOT_PACKED)
    shutil.copytree(ROOT / "tests" / "gpu", folder / "tests", ignore=NOT_PACKED)
    source = open_source(None)
    bundle = _bundle(options, scratch, console)
    target = folder / "bundles" / bundle.id
    shutil.copytree(bundle.path, target)
    (folder / "bundles" / CURRENT).write_text(bundle.id + "\n")
    _copy_model(source, folder / "model")
    (folder / "texts.json").write_text(json.dumps(_texts(options.catalog, bundle, source)))


def _install(site: Path, python: str) -> None:
    """Install requirements/gpu.lock into a folder."""
    command = [uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    command += ["--python-platform", "x86_64-manylinux_2_28", "--python-version", python, "--target", str(site)]
    command += ["--link-mode", "copy", "-r", str(ROOT / "requirements" / "gpu.lock")]
    if subprocess.run(command, check=False).returncode:
        raise ShopstreamError(f"installing requirements/gpu.lock for Python {python} failed")


def _bundle(options: Options, scratch: Path, console: Console) -> Bundle:
    """Open the bundle to pack; without one, export it from a simulated shop."""
    if options.bundles is None:
        console.print("exporting a bundle", markup=False)
        catalog, bundles = scratch / "catalog.jsonl", scratch / "bundles"
        catalog.write_text("".join(json.dumps(item) + "\n" for item in make_catalog(600)))
        run_export("bundle", "--catalog", str(catalog), "--out", str(bundles), "--variants", ",".join(VARIANTS))
        return open_bundle(bundles)
    bundle = open_bundle(options.bundles)
    if lacking := {"fp32", "fp16", "int8"} - bundle.manifest.encoder.variants.keys():
        raise ShopstreamError(f"the bundle {bundle.id} lacks {', '.join(sorted(lacking))}: export it with --variants")
    return bundle


def _copy_model(source: SourceModel, target: Path) -> None:
    """Copy the model with its weights in float16: what Sentence Transformers computes with on a GPU."""
    import torch
    from safetensors.torch import load_file, save_file

    for pattern in MODEL_FILES:
        for file in source.folder.glob(pattern):
            copy = target / file.relative_to(source.folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    for file in source.folder.glob("*.safetensors"):
        weights = {name: tensor.to(torch.float16) if tensor.is_floating_point() else tensor
                   for name, tensor in load_file(file).items()}  # fmt: skip
        save_file(weights, target / file.name, metadata={"format": "pt"})


def _texts(catalog: Path | None, bundle: Bundle, source: SourceModel) -> dict[str, list[str]]:
    """Return the text sets: titles, as many as there are up to TITLES, and texts of several lengths."""
    titles = read_titles(catalog)
    found = titles.measured + titles.calibration
    tokenizer = Tokenizer.from_file(str(bundle.tokenizer))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    sets = {"titles": found[:TITLES]}
    for tokens, count in TOKEN_TEXTS.items():
        sets[f"tokens{tokens}"] = joined(found, tokens, count, tokenizer, source.prefix)
    return sets


def write_pieces(folder: Path, out: Path) -> list[dict[str, Any]]:
    """Write the files of `folder` as one archive in pieces to `out`; return each piece's name, bytes and SHA-256."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with (
        Pieces(out) as pieces,
        gzip.GzipFile(filename="", fileobj=pieces, mode="wb", compresslevel=GZIP_LEVEL, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for file in _files(folder):
            archive.add(file, file.relative_to(folder).as_posix(), filter=_anonymous)
    return [{"name": file.name, "bytes": file.stat().st_size, "sha256": sha256(file)} for file in pieces.files]


def _files(folder: Path) -> Iterator[Path]:
    """The files to pack, in order; what the installer notes about itself changes with every run."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name not in ("RECORD", "uv_cache.json", ".lock", "direct_url.json"):
            yield file


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out owner and time; every file can be read by all."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
    return entry


class Pieces:
    """A file that is written in pieces of PIECE_BYTES."""

    def __init__(self, folder: Path) -> None:
        self.files: list[Path] = []
        self._folder = folder
        self._room = 0
        self._open: Any = None

    def __enter__(self) -> "Pieces":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()

    def write(self, data: bytes) -> int:
        """Write bytes, beginning a new piece where one is full."""
        view = memoryview(data)
        while view:
            if not self._room:
                self.__exit__()
                self.files.append(self._folder / f"piece-{len(self.files):02}")
                self._open = self.files[-1].open("wb")
                self._room = PIECE_BYTES
            part = view[: self._room]
            self._open.write(part)
            self._room -= len(part)
            view = view[len(part) :]
        return len(data)

    def flush(self) -> None:
        """Do nothing: pieces are flushed when they are closed."""


def _version() -> str:
    """The commit that is packed, where this is a checkout."""
    done = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"],  # noqa: S607
                          capture_output=True, text=True, check=False)  # fmt: skip
    return done.stdout.strip() or "unknown"
