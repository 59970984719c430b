"""Whatever is made of the bundle in use, kept up with CURRENT and with the catalogue's changes."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import pyarrow as pa

from udfs.bundle import Bundle, current_id, open_bundle
from udfs.forgotten import Forgotten, ForgottenFile
from udfs.segments import Segments

log = logging.getLogger(__name__)

#: Seconds between two looks at CURRENT and at the segments.
CHECK_S = 1.0
#: Seconds until a bundle that failed is tried again: it may have been half copied.
RETRY_S = 10.0


class Follower(Protocol):
    """What is made of a bundle."""

    def take_up(self, changes: pa.Table) -> None:
        """Use items as changed: columns of udfs.segments.SCHEMA, a row an item."""


T = TypeVar("T", bound=Follower)


class Following(Generic[T]):
    """What is made of the bundle that CURRENT names, made anew as CURRENT changes, with the changes of its items.

    A new bundle that cannot be used is logged, and tried again later; the one in use stays. Without `changes`, those of
    its items are left alone. forget: is told of the shoppers who are to be forgotten, as their file changes.
    """

    def __init__(
        self,
        folder: Path,
        make: Callable[[Bundle], T],
        *,
        changes: bool = True,
        forget: Callable[[T, Forgotten], None] | None = None,
    ) -> None:
        self._folder, self._make, self._changes, self._forget = folder, make, changes, forget
        self._use(open_bundle(folder))
        self._next_check = time.monotonic() + CHECK_S
        self._complaint = ""

    def latest(self) -> T:
        """What there is, after a look at CURRENT and at the segments if one is due."""
        now = time.monotonic()
        if now < self._next_check:
            return self.used
        self._next_check = now + CHECK_S
        try:
            wanted = current_id(self._folder)
            if wanted != self._id:
                self._use(open_bundle(self._folder, wanted))
                log.info("now using bundle %s", wanted)
            self._take_up()
            self._complaint = ""
        except Exception as error:  # whatever is wrong with what is new, the old one goes on
            self._next_check = now + RETRY_S
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.error("%s cannot be followed, staying with bundle %s: %s", self._folder, self._id, error)
        return self.used

    def _use(self, bundle: Bundle) -> None:
        used, segments, forgotten = self._make(bundle), Segments(self._folder), ForgottenFile(self._folder)
        self.used, self._segments, self._forgotten, self._id = used, segments, forgotten, bundle.id
        self._take_up()

    def _take_up(self) -> None:
        if self._changes and len(changes := self._segments.new()):
            self.used.take_up(changes)
            log.info("took up changes of %s items", len(changes))
        if self._forget and (forgotten := self._forgotten.new()):
            self._forget(self.used, forgotten)
            log.info("forgot shoppers, as of %s ids", len(forgotten.shopper))
