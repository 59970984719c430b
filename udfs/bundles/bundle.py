"""The model bundle: an immutable folder named by the hash of its content, and the CURRENT file next to it."""

import hashlib
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from udfs.bundles.contents import CoVisits, Items, PastSessions
from udfs.bundles.manifest import FORMAT, BundleFormat, Manifest
from udfs.core.errors import ShopstreamError
from udfs.core.hashing import sha256

CURRENT = "CURRENT"

MANIFEST = "manifest.json"

INDEX = "items.faiss"

EXPORT_HINT = "make one with `python -m export bundle`"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: every file that the manifest names exists and has its hash."""

    path: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        """The bundle's id, which is its folder's name."""
        return self.manifest.id

    @property
    def space(self) -> str:
        """Id of the vector space: equal for bundles that share the fp32 encoder and the prefix, "" without one."""
        encoder = self.manifest.encoder
        fp32 = encoder.variants.get("fp32")
        if fp32 is None:
            return ""
        model = self.manifest.files[fp32.file].sha256
        return (hashlib.sha256((model + encoder.prefix).encode()).hexdigest() if encoder.prefix else model)[:16]

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's file."""
        return self.path / "tokenizer.json"

    def variant_file(self, name: str) -> Path:
        """Return the ONNX file of an encoder variant."""
        return self.path / self.manifest.encoder.variants[name].file

    def items(self) -> Items:
        """Read the items."""
        return Items(pq.read_table(self.path / "items.parquet"))

    def item_vectors(self) -> npt.NDArray[np.float32]:
        """Map the item vectors: float32 [items, dimensions], of unit length, from the fp32 variant."""
        vectors = np.load(self.path / "item_vectors.npy", mmap_mode="r", allow_pickle=False)
        return np.asarray(vectors, dtype=np.float32)

    @property
    def index(self) -> Path | None:
        """The file of the vector index, which bundles of large catalogs have."""
        return self.path / INDEX if INDEX in self.manifest.files else None

    def co_visits(self) -> CoVisits:
        """Read which items occur in the same sessions."""
        return self._matrix("co_visits.npz")

    def follows(self) -> CoVisits:
        """Read which items come after which."""
        return self._matrix("follows.npz")

    def near(self) -> CoVisits:
        """Read which items come near which in the order of events."""
        return self._matrix("beside.npz")

    def past_sessions(self) -> PastSessions:
        """Read the past sessions, which candidate sources search."""
        with np.load(self.path / "past_sessions.npz", allow_pickle=False) as file:
            return PastSessions(**{column.name: file[column.name] for column in fields(PastSessions)})

    @property
    def ranker(self) -> Path:
        """The learned ranker's file, which exists if the manifest has a ranker."""
        return self.path / "ranker.onnx"

    def _matrix(self, name: str) -> CoVisits:
        """Read a file in SciPy's CSR format."""
        with np.load(self.path / name, allow_pickle=False) as file:
            return CoVisits(
                file["indptr"].astype(np.int64), file["indices"].astype(np.int32), file["data"].astype(np.float32)
            )


def current_id(folder: Path) -> str:
    """Return the id in `folder`/CURRENT; ShopstreamError if there is none."""
    try:
        name = (folder / CURRENT).read_text(errors="replace").strip()
    except FileNotFoundError:
        raise ShopstreamError(
            f"no model bundle in {folder} (it has no {CURRENT} file): {EXPORT_HINT} --out {folder}"
        ) from None
    if not re.fullmatch("[0-9a-f]{16}", name):
        raise ShopstreamError(f"{folder / CURRENT} names {name!r}, which is not a bundle id")
    return name


def open_bundle(folder: Path, bundle_id: str | None = None) -> Bundle:
    """Verify and open bundle `bundle_id` of `folder`, by default the one that CURRENT names.

    Hashes every file (0.1 s for a 6-layer BERT). Raises ShopstreamError that names the first thing that is wrong.
    """
    path = folder / (bundle_id or current_id(folder))
    try:
        content = (path / MANIFEST).read_bytes()
        found = msgspec.json.decode(content, type=BundleFormat).format
        if found != FORMAT:
            raise ShopstreamError(f"bundle {path} has format {found}, this version reads {FORMAT}: export it again")
        manifest = msgspec.json.decode(content, type=Manifest)
    except FileNotFoundError:
        raise ShopstreamError(f"bundle {path} has no {MANIFEST}: {EXPORT_HINT} --out {folder}") from None
    except msgspec.MsgspecError as error:
        raise ShopstreamError(f"{path / MANIFEST} is damaged ({error}): {EXPORT_HINT} --out {folder}") from None
    if manifest.id != manifest.content_id() or manifest.id != path.name:
        raise ShopstreamError(f"{path / MANIFEST} does not match the bundle's id: {EXPORT_HINT} --out {folder}")
    needed = {"tokenizer.json", "items.parquet", "item_vectors.npy", "co_visits.npz"}
    if manifest.ranker is not None:
        needed |= {"beside.npz", "follows.npz", "past_sessions.npz", "ranker.onnx"}
    needed |= {variant.file for variant in manifest.encoder.variants.values()}
    if unlisted := sorted(needed - manifest.files.keys()):
        raise ShopstreamError(f"{path / MANIFEST} lists no {', '.join(unlisted)}: {EXPORT_HINT} --out {folder}")
    root = path.resolve()
    for name, entry in manifest.files.items():
        file = path / name
        if not file.resolve().is_relative_to(root):
            raise ShopstreamError(f"{path / MANIFEST} names {name!r}, which lies outside the bundle")
        if not file.is_file() or file.stat().st_size != entry.bytes or sha256(file) != entry.sha256:
            raise ShopstreamError(f"bundle file {file} is missing or damaged: {EXPORT_HINT} --out {folder}")
    return Bundle(path, manifest)


def set_current(folder: Path, bundle_id: str) -> None:
    """Name `bundle_id` in CURRENT atomically: a reader sees the old name or the new one."""
    temporary = folder / f".{CURRENT}.{os.getpid()}"
    temporary.write_text(bundle_id + "\n")
    temporary.replace(folder / CURRENT)
