"""Reads the file of pseudonym keys, again whenever it changes."""

import base64
import logging
import re
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from udfs.core.clock import epoch_ms
from udfs.core.errors import ShopstreamError
from udfs.privacy.pseudonyms import Key, Keys

log = logging.getLogger(__name__)

SECRET_BYTES = 32

#: Seconds between two looks at the keys file.
CHECK_S = 1.0


class KeysFile:
    """The keys of a file, read again when it changes; while the file cannot be read, the previous keys serve."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp = _stamp(file)
        self._keys = read_keys(file)
        self._next_check = time.monotonic() + CHECK_S

    def latest(self) -> Keys:
        """Return the keys, after a look at the file if one is due."""
        if time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + CHECK_S
            stamp = _stamp(self._file)
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._keys = read_keys(self._file)
                    log.info("%s was read again", self._file)
                except ShopstreamError as error:
                    log.error("the previous keys stay in use: %s", error)
        return self._keys


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_keys(file: Path) -> Keys:
    """Read lines `<id> <from, RFC 3339 UTC> <secret, base64>`, parted by blanks; # starts a comment.

    Raises ShopstreamError that names the wrong line, but not its content.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ShopstreamError(f"the keys of pseudonyms, {file}, cannot be read: {reason}") from None
    keys: list[Key] = []
    for number, line in enumerate(lines, 1):
        if not (parts := line.partition("#")[0].split()):
            continue
        try:
            keys.append(_key(parts))
            if len({key.id for key in keys}) + len({key.from_ms for key in keys}) < 2 * len(keys):
                raise ValueError("its id or its time is that of a line before it")
        except ValueError as error:
            raise ShopstreamError(f"{file}, line {number}, is no key of pseudonyms: {error}") from None
    if not keys:
        raise ShopstreamError(f"{file} has no key of pseudonyms; a line is <id> <from, RFC 3339 UTC> <secret, base64>")
    return Keys(keys)


def _key(parts: Sequence[str]) -> Key:
    """Parse a line's parts. Raises ValueError that says what is wrong and quotes nothing of the line."""
    if len(parts) != 3:
        raise ValueError("it should have three parts, an id, a time and a secret")
    name, start, secret = parts
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", name):
        raise ValueError("an id is at most 32 letters, digits, - and _")
    try:
        moment = datetime.fromisoformat(start)
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() != timedelta(0):
        raise ValueError("a time is RFC 3339 in UTC, as in 2026-01-31T00:00:00Z")
    try:
        found = base64.b64decode(secret, validate=True)
    except ValueError:
        found = b""
    if len(found) < SECRET_BYTES:
        raise ValueError(f"a secret is base64 of {SECRET_BYTES} bytes or more, as `openssl rand -base64 32` makes it")
    return Key(name, epoch_ms(moment), found)
