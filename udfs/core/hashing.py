"""Hashes of files and of user ids."""

import hashlib
from pathlib import Path


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shopper_hash(user_id: str) -> int:
    """A user id as a signed 64-bit number: what a bundle knows shoppers by."""
    return int.from_bytes(hashlib.sha256(user_id.encode("utf-8", "replace")).digest()[:8], "big", signed=True)
