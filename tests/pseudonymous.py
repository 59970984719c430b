"""Pseudonym keys for tests, and the files and events that go with them."""

import base64
import json
from pathlib import Path
from typing import Any

from udfs.privacy.pseudonyms import Key, Keys

#: Of 2026-01-01 and 2026-07-01.
JANUARY, JULY = 1_767_225_600_000, 1_782_864_000_000
SECRETS = [bytes(range(32)), b"\xff" * 40]
KEYS = Keys([Key("k1", JANUARY, SECRETS[0]), Key("k2", JULY, SECRETS[1])])


def file_of(folder: Path, *lines: str) -> Path:
    file = folder / "keys"
    file.write_text("\n".join(lines))
    return file


def line(name: str, start: str, secret: bytes) -> str:
    return f"{name} {start} {base64.b64encode(secret).decode()}"


def event(user_id: str, time: object = JULY, **more: Any) -> bytes:
    fields = {"event_id": "e", "event_type": "view", "user_id": user_id, "event_time": time, "item_id": "i"}
    return json.dumps(fields | more).encode()
