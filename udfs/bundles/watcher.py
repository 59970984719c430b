"""Keeps an object built from the current bundle up to date: reloads on a new CURRENT, applies catalog changes."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import pyarrow as pa

from udfs.bundles.bundle import MANIFEST, Bundle, current_id, open_bundle
from udfs.bundles.changes import ChangeReader
from udfs.bundles.forgotten import ErasureFile, ErasureList
from udfs.core.errors import ShopstreamError

log = logging.getLogger(__name__)

#: Seconds between two looks at CURRENT, the changes and the erasures.
CHECK_S = 1.0

#: Seconds until a bundle that failed is tried again: it may have been half copied. Another one is tried at once.
RETRY_S = 10.0


class Reloadable(Protocol):
    """An object built from a bundle. It is built once per bundle in use, and then given the changes of items."""

    def apply_changes(self, changes: pa.Table) -> None:
        """Use items as changed: columns of udfs.bundles.changes.SCHEMA, one row per item.

        After an error the same changes come again, so a failed call must do no harm, nor a repeated one.
        """


@dataclass
class BundleStatus:
    """The bundle in use, when its manifest was written (epoch s), and counters since the process began."""

    bundle: str = ""
    written_s: int = 0
    change_files: int = 0  #: files of changes that were applied
    changed_items: int = 0  #: items that were changed by them
    reloads: int = 0  #: bundles loaded after the first one
    refused: int = 0  #: looks, at most one per CHECK_S for each thing, that found something unusable


class Watched:
    """A step that is tried at each look. last_error: why the last try failed, "" if it succeeded."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step
        self.last_error = ""

    def poll(self) -> bool:
        """Try the step; return whether it failed for a reason other than that of the try before."""
        before, self.last_error = self.last_error, ""
        try:
            self._step()
        except Exception as error:  # whatever is wrong with the new state, the old one stays in use
            self.last_error = str(error) or type(error).__name__
        return bool(self.last_error) and self.last_error != before


T = TypeVar("T", bound=Reloadable)


class BundleWatcher(Generic[T]):
    """Holds an object built from the bundle that CURRENT names, rebuilt when CURRENT changes.

    A new bundle takes over together with all changes and erasures, or not yet: the object in use then stays and gets
    them itself. Each failure is logged once and tried again. changes: apply the changes of items. erase: called with
    the object and the erased users whenever their file changes.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[Bundle], T],
        *,
        changes: bool = True,
        erase: Callable[[T, ErasureList], None] | None = None,
    ) -> None:
        self._folder = folder
        self._load = load
        self._with_changes = changes
        self._erase = erase
        self.status = BundleStatus()
        self._failed_id = ""
        self._failure = ""
        self._retry_at = 0.0
        self._use(open_bundle(folder))
        self._watched = (
            Watched(self._reload),
            Watched(lambda: self._apply_erasures(self.used, self._erasures)),
            Watched(lambda: self._apply_changes(self.used, self._changes)),
        )
        self._next_look = time.monotonic() + CHECK_S

    def latest(self) -> T:
        """Return the object, after a look at CURRENT, the changes and the erasures if one is due."""
        now = time.monotonic()
        if now < self._next_look:
            return self.used
        self._next_look = now + CHECK_S
        for watched in self._watched:
            if watched.poll():
                bundle = self.status.bundle
                log.error("%s cannot be followed, staying with bundle %s: %s", self._folder, bundle, watched.last_error)
            self.status.refused += bool(watched.last_error)
        return self.used

    def _reload(self) -> None:
        wanted = current_id(self._folder)
        now = time.monotonic()
        if wanted == self.status.bundle:
            self._failed_id = ""
            return
        if wanted == self._failed_id and now < self._retry_at:
            raise ShopstreamError(self._failure)
        self._failed_id = wanted
        self._retry_at = now + RETRY_S
        try:
            self._use(open_bundle(self._folder, wanted))
        except Exception as error:
            self._failure = str(error)
            raise
        self.status.reloads += 1
        log.info("now using bundle %s", wanted)

    def _use(self, bundle: Bundle) -> None:
        """Replace the object by one of this bundle, with all erasures and changes; on an error the old one stays."""
        written_s = int((bundle.path / MANIFEST).stat().st_mtime)
        used = self._load(bundle)
        erasures = ErasureFile(self._folder)
        changes = ChangeReader(self._folder)
        self._apply_erasures(used, erasures)
        self._apply_changes(used, changes)
        self.used, self._erasures, self._changes = used, erasures, changes
        self.status.bundle = bundle.id
        self.status.written_s = written_s

    def _apply_erasures(self, used: T, erasures: ErasureFile) -> None:
        if self._erase is None:
            return
        with erasures.unread() as erased:
            if erased is None:
                return
            self._erase(used, erased)
            log.info("treating shoppers as unknown, by %s ids", len(erased.shopper))

    def _apply_changes(self, used: T, changes: ChangeReader) -> None:
        if not self._with_changes:
            return
        with changes.unread() as changed:
            if not len(changed):
                return
            used.apply_changes(changed)
            self.status.change_files += changes.files_read
            self.status.changed_items += len(changed)
            log.info("applied changes of %s items", len(changed))
