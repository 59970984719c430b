"""Masks the user ids in records that are kept as they came: dead letters and late events."""

import re

import msgspec

from udfs.contracts.fields import EpochMs, ZonedTime
from udfs.core.clock import epoch_ms
from udfs.privacy.pseudonyms import Keys

#: Replaces a value in which no user id was found: it may be anywhere.
WITHHELD = b"withheld: it has no user_id that could be replaced"

# A member named user_id at any depth, its letters as they are or escaped; group 2 is its value if that is a string.
_NAME = b"".join(rb"(?:%c|\\u00(?i:%02x))" % (letter, letter) for letter in b"user_id")

_MEMBER = re.compile(rb'((?<!\\)"%s"\s*:\s*)("(?:[^"\\]|\\.)*")?' % _NAME, re.DOTALL)


class _Timed(msgspec.Struct):
    event_time: EpochMs | ZonedTime


def masked_record(
    keys: Keys, key: bytes | None, value: bytes | None, moment_ms: int
) -> tuple[bytes | None, bytes | None]:
    """Return a record's key and value with pseudonyms for user ids.

    The key, which is a user id by the contract, and the string of every member `user_id` are replaced, by the value's
    own event_time, or by moment_ms where that cannot be read. All other bytes stay. A value without such a member, or
    with one that is not a string, becomes WITHHELD.
    """
    try:
        time_ms = epoch_ms(msgspec.json.decode(value or b"", type=_Timed).event_time)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        time_ms = moment_ms

    def pseudonym(user_id: str) -> str:
        return keys.pseudonyms([user_id], [time_ms])[0]

    def replaced(member: re.Match[bytes]) -> bytes:
        try:
            user_id = msgspec.json.decode(member[2], type=str)
        except (ValueError, msgspec.MsgspecError):  # not UTF-8, or an escape that JSON does not know
            user_id = member[2][1:-1].decode(errors="surrogateescape")
        return member[1] + msgspec.json.encode(pseudonym(user_id))

    if key:
        key = pseudonym(key.decode(errors="surrogateescape")).encode()
    if value is not None:
        members = list(_MEMBER.finditer(value))
        replaceable = bool(members) and all(member[2] is not None for member in members)
        value = _MEMBER.sub(replaced, value) if replaceable else WITHHELD
    return key, value
