"""Turns a folder of files into a bundle: hashed, named by its content, put in place in one step."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import msgspec
import onnxruntime

from udfs.bundles.bundle import MANIFEST, Bundle, open_bundle, set_current
from udfs.bundles.manifest import FORMAT, EncoderInfo, FileEntry, Manifest, RankerInfo
from udfs.core.errors import ShopstreamError
from udfs.core.hashing import sha256

PACKAGES = ("lightgbm", "onnx", "optimum", "optimum-onnx", "transformers", "torch", "tokenizers", "shopstream")


@contextmanager
def draft_folder(out: Path) -> Iterator[Path]:
    """Yield a hidden folder in `out` to build a bundle in; it is removed afterwards, whatever happens."""
    draft = out / f".draft-{uuid.uuid4().hex}"
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise ShopstreamError(f"--out {out} cannot be written to: {error.strerror}") from error
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def publish_draft(
    draft: Path,
    out: Path,
    source_model: str,
    encoder: EncoderInfo,
    *,
    items: int,
    sessions: int,
    ranker: RankerInfo | None,
    current: bool,
) -> Bundle:
    """Write the manifest of every file in `draft`, and rename it to its id in `out`; name it in CURRENT if asked.

    items, sessions: how many there are. An intact bundle with that id is kept; a damaged one is replaced.
    """
    files = {
        path.relative_to(draft).as_posix(): FileEntry(sha256(path), path.stat().st_size)
        for path in sorted(draft.rglob("*"))
        if path.is_file()
    }
    manifest = Manifest(
        format=FORMAT,
        id="",
        source_model=source_model,
        versions={name: version(name) for name in PACKAGES} | {"onnxruntime": onnxruntime.__version__},
        encoder=encoder,
        items=items,
        sessions=sessions,
        files=files,
        ranker=ranker,
    )
    manifest = msgspec.structs.replace(manifest, id=manifest.content_id())
    (draft / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest, order="deterministic")))
    target = out / manifest.id
    if not _is_intact(out, manifest.id):
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
    if current:
        set_current(out, manifest.id)
    return Bundle(target, manifest)


def _is_intact(out: Path, bundle_id: str) -> bool:
    try:
        open_bundle(out, bundle_id)
    except ShopstreamError:
        return False
    return True
