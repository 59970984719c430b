import logging
from pathlib import Path
from typing import ClassVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from udfs.bundles.bundle import MANIFEST, Bundle, set_current
from udfs.bundles.changes import FOLDER, SCHEMA
from udfs.bundles.forgotten import ErasureList
from udfs.bundles.manifest import FORMAT, EncoderInfo, FileEntry, Manifest
from udfs.bundles.watcher import BundleWatcher, Watched
from udfs.core.hashing import sha256


class Loaded:
    """An object built from a bundle, with the titles and erasures it was given. failures: of the next calls."""

    failures: ClassVar[dict[str, int]] = {}

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.titles, self.erased = bundle.id, dict[str, str](), list[int]()

    def _fail(self, step: str) -> None:
        if self.failures.get(step):
            self.failures[step] -= 1
            raise RuntimeError("no memory")

    def apply_changes(self, changes: pa.Table) -> None:
        self._fail("changes")
        self.titles |= dict(zip(changes["item_id"].to_pylist(), changes["title"].to_pylist(), strict=True))

    def erase(self, erased: ErasureList) -> None:
        self._fail("erasures")
        self.erased = erased.shopper.tolist()


@pytest.fixture
def watcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BundleWatcher[Loaded]:
    monkeypatch.setattr("udfs.bundles.watcher.CHECK_S", 0.0)
    monkeypatch.setattr(Loaded, "failures", {})
    set_current(tmp_path, write_bundle(tmp_path, "first"))
    return BundleWatcher(tmp_path, Loaded, erase=Loaded.erase)


def write_bundle(folder: Path, content: str) -> str:
    """Write a bundle whose files have this content, and return its id."""
    draft = folder / "draft"
    draft.mkdir()
    names = ("tokenizer.json", "items.parquet", "item_vectors.npy", "co_visits.npz")
    for name in names:
        (draft / name).write_text(content)
    files = {name: FileEntry(sha256(draft / name), len(content)) for name in names}
    manifest = Manifest(FORMAT, "", "none", {}, EncoderInfo(9, "mean", True, "", 6, {}), 0, 0, files)
    manifest = msgspec.structs.replace(manifest, id=manifest.content_id())
    (draft / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    draft.rename(folder / manifest.id)
    return manifest.id


def write_change(folder: Path, name: str, item: str, title: str) -> None:
    (folder / FOLDER).mkdir(exist_ok=True)
    row = {"item_id": item, "title": title, "in_stock": True, "written": 1, "offset": 0}
    pq.write_table(pa.Table.from_pylist([row], SCHEMA), folder / FOLDER / name)


def test_failed_changes_are_retried(watcher: BundleWatcher[Loaded], tmp_path: Path, caplog: pytest.LogCaptureFixture):
    Loaded.failures["changes"] = 2
    write_change(tmp_path, "one", "a", "apple")
    with caplog.at_level(logging.ERROR):
        assert watcher.latest().titles == watcher.latest().titles == {}
    assert caplog.text.count("no memory") == 1
    assert (watcher.status.changed_items, watcher.status.refused) == (0, 2)
    write_change(tmp_path, "two", "b", "bread")
    assert watcher.latest().titles == {"a": "apple", "b": "bread"}
    assert (watcher.status.changed_items, watcher.status.change_files, watcher.status.refused) == (2, 2, 2)
    assert watcher.latest().titles == {"a": "apple", "b": "bread"}
    assert watcher.status.changed_items == 2


def test_erasures_do_not_wait_for_changes(watcher: BundleWatcher[Loaded], tmp_path: Path):
    Loaded.failures["changes"] = 1
    write_change(tmp_path, "one", "a", "apple")
    ErasureList.read(tmp_path).with_more([7], 1).write(tmp_path)
    assert (watcher.latest().titles, watcher.used.erased) == ({}, [7])


def test_failed_erasures_are_retried(watcher: BundleWatcher[Loaded], tmp_path: Path):
    Loaded.failures["erasures"] = 1
    ErasureList.read(tmp_path).with_more([7], 1).write(tmp_path)
    assert watcher.latest().erased == []
    assert watcher.latest().erased == [7]


@pytest.mark.parametrize("step", ["changes", "erasures"])
def test_new_bundle_waits_for_changes(
    watcher: BundleWatcher[Loaded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
):
    """A new bundle replaces the old one together with all changes and erasures, or not yet."""
    monkeypatch.setattr("udfs.bundles.watcher.RETRY_S", 0.0)
    write_change(tmp_path, "one", "a", "apple")
    ErasureList.read(tmp_path).with_more([7], 1).write(tmp_path)
    old = watcher.latest().bundle
    new = write_bundle(tmp_path, "second")
    set_current(tmp_path, new)
    Loaded.failures[step] = 1
    assert (watcher.latest().bundle, watcher.status.bundle, watcher.status.reloads) == (old, old, 0)
    assert (watcher.latest().bundle, watcher.status.bundle, watcher.status.reloads) == (new, new, 1)
    assert (watcher.used.titles, watcher.used.erased) == ({"a": "apple"}, [7])


def test_each_failure_is_reported_once():
    outcomes = iter(["broken", "broken", "other", None, "other"])

    def step() -> None:
        if error := next(outcomes):
            raise RuntimeError(error)

    watched = Watched(step)
    assert [(watched.poll(), watched.last_error) for _ in range(5)] == [
        (True, "broken"), (False, "broken"), (True, "other"), (False, ""), (True, "other")
    ]  # fmt: skip
