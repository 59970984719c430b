"""The model bundle: an immutable folder named by the hash of its content, and the CURRENT file beside it."""

import hashlib
import os
import re
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from udfs.checksum import sha256
from udfs.errors import ShopstreamError

CURRENT = "CURRENT"
MANIFEST = "manifest.json"
INDEX = "items.faiss"
FORMAT = 3
EXPORT_HINT = "make one with `python -m export bundle`"


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a bundle: its SHA-256 in hex and its size in bytes."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, msgspec.Meta(ge=0)]


class Parity(msgspec.Struct, frozen=True):
    """How close a variant's vectors are to fp32, measured on texts held back from calibration.

    Cosines are between the two vectors of one text. spearman: rank correlation of the cosines of all pairs of texts.
    top10_overlap: mean share of a text's ten nearest neighbours that both agree on. batch_invariance: lowest cosine
    between a text's vector encoded alone and in batches of mixed and of equal length, 1 if all are bit-identical;
    padding_invariance: the same with up to 96 tokens of padding, which the encoder itself never adds.
    """

    texts: int
    cosine_mean: float
    cosine_p1: float
    cosine_min: float
    spearman: float
    top10_overlap: float
    batch_invariance: float
    padding_invariance: float


class Variant(msgspec.Struct, frozen=True):
    """One file of the encoder: where it lies in the bundle, its precision, the providers it is made for and its parity.

    measured_on: the provider that its parity was measured on.
    """

    file: str
    precision: str
    providers: tuple[str, ...]
    measured_on: str
    parity: Parity


class EncoderInfo(msgspec.Struct, frozen=True):
    """How texts become vectors: token limit, pooling (`mean`, `cls` or `max`), prefix and width."""

    max_tokens: int
    pooling: str
    normalize: bool
    prefix: str
    dimensions: int
    variants: dict[str, Variant]


class RankerInfo(msgspec.Struct, frozen=True):
    """The learned ranker, ranker.onnx: float32 [pairs, columns] to float32 [pairs, sources], in 1/MICRO of the score.

    repeats: whether it learned to recommend again what a session has met. quality: of the ranker, measured on sessions
    that trained neither it nor what its columns are made of.
    """

    columns: tuple[str, ...]
    sources: tuple[str, ...]
    repeats: bool
    quality: dict[str, float]


class _Format(msgspec.Struct):
    format: int


class Manifest(msgspec.Struct, frozen=True):
    """manifest.json. `id` is the hash of everything else in it, and so of every file."""

    format: int
    id: str
    source_model: str
    versions: dict[str, str]
    encoder: EncoderInfo
    items: int
    sessions: int
    files: dict[str, FileEntry]
    ranker: RankerInfo | None = None

    def content_id(self) -> str:
        """First 16 hex digits of the SHA-256 of this manifest without its id."""
        blank = msgspec.structs.replace(self, id="")
        return hashlib.sha256(msgspec.json.encode(blank, order="deterministic")).hexdigest()[:16]


@dataclass(frozen=True)
class Items:
    """The catalogue as columns, a row per item, in the order of the item vectors."""

    table: pa.Table

    @cached_property
    def ids(self) -> list[str]:
        """Item ids, in row order."""
        return self.table["item_id"].to_pylist()  # type: ignore[no-any-return]

    @cached_property
    def titles(self) -> list[str]:
        """Titles, in row order."""
        return self.table["title"].to_pylist()  # type: ignore[no-any-return]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Item id to row."""
        return {item_id: row for row, item_id in enumerate(self.ids)}

    @cached_property
    def in_stock(self) -> npt.NDArray[np.bool_]:
        """bool [items]: may be recommended."""
        return np.asarray(self.table["in_stock"].to_numpy(zero_copy_only=False), dtype=bool)

    @cached_property
    def popularity(self) -> npt.NDArray[np.float64]:
        """float64 [items]: past interactions, counted."""
        return np.asarray(self.table["popularity"].to_numpy(), dtype=np.float64)


@dataclass(frozen=True)
class CoVisits:
    """Sparse rows: of each item, the items seen in the same sessions, with a weight in (0, 1].

    offsets int64 [items + 1], columns int32 [entries], weights float32 [entries].
    """

    offsets: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]

    def with_rows(self, rows: int) -> "CoVisits":
        """The same with so many rows; those that were not there are empty."""
        missing = rows + 1 - len(self.offsets)
        return CoVisits(np.pad(self.offsets, (0, missing), mode="edge"), self.columns, self.weights)


@dataclass(frozen=True)
class PastSessions:
    """Past sessions of items in the catalogue.

    offsets int64 [S + 1]; item int32 [N], rows of the catalogue in the order they were met; end int64 [S], epoch ms;
    shopper int32 [S], place in shoppers; shoppers int64 [U], sorted, as udfs.candidates.shopper_hash gives them.
    """

    offsets: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    end: npt.NDArray[np.int64]
    shopper: npt.NDArray[np.int32]
    shoppers: npt.NDArray[np.int64]

    def recent(self, items: int) -> npt.NDArray[np.float64]:
        """float64 [items]: past interactions, each counting by its age: 1/e at a twentieth of the time there is.

        The earliest and the latest thousandth of the sessions do not say what time there is: clocks may be wrong.
        """
        if not len(self.end):
            return np.zeros(items)
        first, last = np.quantile(self.end, [0.001, 0.999], method="nearest").tolist()
        age = np.maximum(last - self.end, 0) / max(last - first, 1)
        weight = np.repeat(np.exp(-20 * age), np.diff(self.offsets))
        return np.asarray(np.bincount(self.item, weight, minlength=items), dtype=np.float64)


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: every file that the manifest names is there and has its hash."""

    path: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        """The bundle's id, which is its folder's name."""
        return self.manifest.id

    @property
    def space(self) -> str:
        """Whose vectors its item vectors are: the same in all bundles with the same fp32 encoder, "" without one."""
        fp32 = self.manifest.encoder.variants.get("fp32")
        return "" if fp32 is None else self.manifest.files[fp32.file].sha256[:16]

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's file."""
        return self.path / "tokenizer.json"

    def variant_file(self, name: str) -> Path:
        """The ONNX file of an encoder variant."""
        return self.path / self.manifest.encoder.variants[name].file

    def items(self) -> Items:
        """The catalogue."""
        return Items(pq.read_table(self.path / "items.parquet"))

    def item_vectors(self) -> npt.NDArray[np.float32]:
        """float32 [items, dimensions], unit length, by the fp32 variant."""
        vectors = np.load(self.path / "item_vectors.npy", mmap_mode="r", allow_pickle=False)
        return np.asarray(vectors, dtype=np.float32)

    @property
    def index(self) -> Path | None:
        """The file of the index of the item vectors, which a large catalogue has."""
        return self.path / INDEX if INDEX in self.manifest.files else None

    def co_visits(self) -> CoVisits:
        """What was met together."""
        return self._matrix("co_visits.npz")

    def follows(self) -> CoVisits:
        """What was met after what."""
        return self._matrix("follows.npz")

    def beside(self) -> CoVisits:
        """What was met near what, by the order of events."""
        return self._matrix("beside.npz")

    def past_sessions(self) -> PastSessions:
        """What the sources of candidates know of the past."""
        with np.load(self.path / "past_sessions.npz", allow_pickle=False) as file:
            return PastSessions(**{each.name: file[each.name] for each in fields(PastSessions)})

    @property
    def ranker(self) -> Path:
        """The learned ranker's file, there if the manifest has a ranker."""
        return self.path / "ranker.onnx"

    def _matrix(self, name: str) -> CoVisits:
        """From SciPy's CSR file format."""
        with np.load(self.path / name, allow_pickle=False) as file:
            return CoVisits(
                file["indptr"].astype(np.int64), file["indices"].astype(np.int32), file["data"].astype(np.float32)
            )


def current_id(folder: Path) -> str:
    """The id in `folder`/CURRENT; ShopstreamError when there is none."""
    try:
        name = (folder / CURRENT).read_text(errors="replace").strip()
    except FileNotFoundError:
        raise ShopstreamError(
            f"no model bundle in {folder} (it has no {CURRENT} file): {EXPORT_HINT} --out {folder}"
        ) from None
    if not re.fullmatch("[0-9a-f]{16}", name):
        raise ShopstreamError(f"{folder / CURRENT} names {name!r}, which is no bundle id")
    return name


def open_bundle(folder: Path, bundle_id: str | None = None) -> Bundle:
    """Verify and open bundle `bundle_id` of `folder`, by default the one that CURRENT names.

    Hashes every file (0.1 s for a 6-layer BERT). Raises ShopstreamError naming the first thing that is wrong.
    """
    path = folder / (bundle_id or current_id(folder))
    try:
        content = (path / MANIFEST).read_bytes()
        found = msgspec.json.decode(content, type=_Format).format
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
    """Name `bundle_id` in CURRENT, atomically: a reader sees the old name or the new one."""
    temporary = folder / f".{CURRENT}.{os.getpid()}"
    temporary.write_text(bundle_id + "\n")
    temporary.replace(folder / CURRENT)
