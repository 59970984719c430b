"""Masks the user ids in records that are kept as they came: dead letters and late events."""

import re
from contextlib import suppress
from typing import Any

import msgspec

from udfs.contracts.fields import MAX_TIME_MS, MIN_TIME_MS
from udfs.events.record_values import read_time
from udfs.events.registry import HEADER
from udfs.privacy.pseudonyms import Keys

#: Replaces a value in which no user id was found: it may be anywhere.
WITHHELD = b"withheld: it has no user_id that could be replaced"

#: Names of members that hold an id of a shopper, in events and in their envelopes.
NAMES = (b"user_id", b"anonymous_id", b"userId", b"anonymousId")

# Such a member at any depth, its letters as they are or escaped; group 2 is its value if that is a string or null.
_NAME = b"|".join(b"".join(rb"(?:%c|\\u00(?i:%02x))" % (letter, letter) for letter in name) for name in NAMES)

_MEMBER = re.compile(rb'((?<!\\)"(?:%s)"\s*:\s*)("(?:[^"\\]|\\.)*"|null\b)?' % _NAME, re.DOTALL)


class _Timed(msgspec.Struct):
    event_time: Any


def masked_record(
    keys: Keys, key: bytes | None, value: bytes | None, moment_ms: int
) -> tuple[bytes | None, bytes | None]:
    """Return a record's key and value with pseudonyms for user ids.

    The key, which is a user id by the contract, and the string of every member of NAMES are replaced, by the value's
    own event_time, or by moment_ms where that cannot be read. All other bytes stay. A value without such a string, or
    with a member that is neither a string nor null, becomes WITHHELD. So does Avro, which may have ids without names.
    """
    time_ms = moment_ms
    with suppress(ValueError, RecursionError, msgspec.MsgspecError):
        own = read_time(msgspec.json.decode(value or b"", type=_Timed).event_time)
        if type(own) is int and MIN_TIME_MS <= own <= MAX_TIME_MS:
            time_ms = own

    def pseudonym(user_id: str) -> str:
        return keys.pseudonyms([user_id], [time_ms])[0]

    def replaced(member: re.Match[bytes]) -> bytes:
        if member[2] == b"null":
            return member[0]
        try:
            user_id = msgspec.json.decode(member[2], type=str)
        except (ValueError, msgspec.MsgspecError):  # not UTF-8, or an escape that JSON does not know
            user_id = member[2][1:-1].decode(errors="surrogateescape")
        return member[1] + msgspec.json.encode(pseudonym(user_id))

    if key:
        key = pseudonym(key.decode(errors="surrogateescape")).encode()
    if value is not None:
        members = list(_MEMBER.finditer(value))
        replaceable = all(member[2] for member in members) and any(member[2] != b"null" for member in members)
        if value[:1] == b"\0":
            replaceable &= value[HEADER:].lstrip()[:1] == b"{"
        value = _MEMBER.sub(replaced, value) if replaceable else WITHHELD
    return key, value
