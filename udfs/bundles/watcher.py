"""Whatever is made of the bundle in use, kept up with CURRENT and with the catalogue's changes."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import pyarrow as pa

from udfs.bundles.bundle import MANIFEST, Bundle, current_id, open_bundle
from udfs.bundles.changes import Segments
from udfs.bundles.forgotten import ErasureFile, ErasureList
from udfs.core.errors import ShopstreamError

log = logging.getLogger(__name__)

#: Seconds between two looks at CURRENT and at the segments.
CHECK_S = 1.0

#: Seconds until a bundle that failed is tried again: it may have been half copied. Another one is tried at once.
RETRY_S = 10.0


class Reloadable(Protocol):
    """What is made of a bundle."""

    def take_up(self, changes: pa.Table) -> None:
        """Use items as changed: columns of udfs.segments.SCHEMA, a row an item."""


@dataclass
class BundleStatus:
    """The bundle in use, when its manifest was written (epoch s), and what was taken up since the process began.

    Of the catalogue's changes: files read, and items changed. Of bundles: those taken up after the first, and looks
    (one each CHECK_S at most) that found something unusable.
    """

    bundle: str = ""
    written_s: int = 0
    segments: int = 0
    changes: int = 0
    taken_up: int = 0
    refused: int = 0


T = TypeVar("T", bound=Reloadable)


class BundleWatcher(Generic[T]):
    """What is made of the bundle that CURRENT names, made anew as CURRENT changes, with the changes of its items.

    A new bundle that cannot be used is logged once, and tried again later; the one in use stays, and takes up changes.
    Without `changes`, those of its items are left alone. forget: is told of the shoppers who are to be forgotten, as
    their file changes.
    """

    def __init__(
        self,
        folder: Path,
        make: Callable[[Bundle], T],
        *,
        changes: bool = True,
        forget: Callable[[T, ErasureList], None] | None = None,
    ) -> None:
        self._folder, self._make, self._changes, self._forget = folder, make, changes, forget
        self.followed = BundleStatus()
        self._use(open_bundle(folder))
        self._next_look = time.monotonic() + CHECK_S
        self._tried, self._retry, self._refusal = "", 0.0, ""
        self._complaints = {self._take_up_bundle: "", self._take_up_changes: ""}

    def latest(self) -> T:
        """What there is, after a look at CURRENT and at the segments if one is due."""
        now = time.monotonic()
        if now < self._next_look:
            return self.used
        self._next_look = now + CHECK_S
        for take_up, complaint in self._complaints.items():
            try:
                take_up()
                self._complaints[take_up] = ""
            except Exception as error:  # whatever is wrong with what is new, the old one goes on
                self.followed.refused += 1
                self._complaints[take_up] = str(error)
                if str(error) != complaint:
                    log.error("%s cannot be followed, staying with bundle %s: %s", self._folder, self._id, error)
        return self.used

    def _take_up_bundle(self) -> None:
        wanted, now = current_id(self._folder), time.monotonic()
        if wanted == self._id:
            self._tried = ""
            return
        if wanted == self._tried and now < self._retry:
            raise ShopstreamError(self._refusal)
        self._tried, self._retry = wanted, now + RETRY_S
        try:
            self._use(open_bundle(self._folder, wanted))
        except Exception as error:
            self._refusal = str(error)
            raise
        self.followed.taken_up += 1
        log.info("now using bundle %s", wanted)

    def _use(self, bundle: Bundle) -> None:
        used, segments, forgotten = self._make(bundle), Segments(self._folder), ErasureFile(self._folder)
        self.used, self._segments, self._forgotten, self._id = used, segments, forgotten, bundle.id
        self.followed.bundle = bundle.id
        self.followed.written_s = int((bundle.path / MANIFEST).stat().st_mtime)
        self._take_up_changes()

    def _take_up_changes(self) -> None:
        if self._changes and len(changes := self._segments.new()):
            self.used.take_up(changes)
            self.followed.segments += self._segments.files_read
            self.followed.changes += len(changes)
            log.info("took up changes of %s items", len(changes))
        if self._forget and (forgotten := self._forgotten.new()):
            self._forget(self.used, forgotten)
            log.info("forgot shoppers, as of %s ids", len(forgotten.shopper))
