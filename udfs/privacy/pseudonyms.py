"""Pseudonyms: user ids by keyed hashes, so that nothing behind the parser holds a real one.

    <key id>:<32 hex digits>    the first 128 bits of HMAC-SHA-256(the key's secret, the user id in UTF-8)

The key is the one whose `from` is the latest that is not after the event's own time; the first key serves what is older
too. So an event gives the same pseudonym whenever it is read. What has the form of a pseudonym by a key of the file is
taken for one, and stays: letters that go back, and shops that send pseudonyms, meet what is there.
"""

import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from udfs.contracts.fields import EpochMs, ZonedTime
from udfs.core.clock import epoch_ms

#: Of a hash, those in a pseudonym; of a secret, at least.
HASH_BYTES = 16

#: What a letter's value becomes when no user id is found in it: it may be anywhere.
WITHHELD = b"withheld: it has no user_id that could be replaced"

# A member named user_id, its letters as they are or escaped, at any depth; the group is its value if that is a string.
_NAME = b"".join(rb"(?:%c|\\u00(?i:%02x))" % (letter, letter) for letter in b"user_id")

_MEMBER = re.compile(rb'((?<!\\)"%s"\s*:\s*)("(?:[^"\\]|\\.)*")?' % _NAME, re.DOTALL)


@dataclass(frozen=True)
class Key:
    """A line of the file of the keys. from_ms: epoch ms."""

    id: str
    from_ms: int
    secret: bytes = field(repr=False)


class _Timed(msgspec.Struct):
    event_time: EpochMs | ZonedTime


class Keys:
    """Makes pseudonyms."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = sorted(keys, key=lambda key: key.from_ms)
        self._from = np.array([key.from_ms for key in self._keys], dtype=np.int64)
        ids = "|".join(re.escape(key.id) for key in self._keys)
        self._made = re.compile(f"(?:{ids}):[0-9a-f]{{{2 * HASH_BYTES}}}")

    def pseudonyms(self, user_id: Iterable[str], time_ms: Sequence[int] | npt.NDArray[np.int64]) -> list[str]:
        """One for each id and its time (epoch ms), [n] both; each distinct id is hashed once."""
        nth = np.maximum(np.searchsorted(self._from, np.asarray(time_ms, np.int64), side="right") - 1, 0)
        pairs = list(zip(user_id, nth.tolist(), strict=True))
        made = {pair: self._pseudonym(*pair) for pair in set(pairs)}
        return [made[pair] for pair in pairs]

    def every(self, user_id: str) -> list[str]:
        """All that a shopper may go by: the id itself, then its pseudonym by each key, the oldest first."""
        return list(dict.fromkeys([user_id, *(self._pseudonym(user_id, nth) for nth in range(len(self._keys)))]))

    def named(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Events with columns user_id and event_time (epoch ms), their user ids replaced."""
        names = self.pseudonyms(batch["user_id"].to_pylist(), batch["event_time"].to_numpy())
        return batch.set_column(batch.schema.get_field_index("user_id"), "user_id", pa.array(names, pa.string()))

    def letter(self, key: bytes | None, value: bytes | None, moment_ms: int) -> tuple[bytes | None, bytes | None]:
        """A record's key and value as a letter has them.

        The key, which is a user id by the contract, and the strings of all members `user_id` become pseudonyms, by the
        value's own event_time, or by moment_ms where that cannot be read. All other bytes stay. A value with no such
        member, or with one that is no string, is WITHHELD.
        """
        try:
            when = epoch_ms(msgspec.json.decode(value or b"", type=_Timed).event_time)
        except (ValueError, RecursionError, msgspec.MsgspecError):
            when = moment_ms

        def pseudonym(user_id: str) -> str:
            return self.pseudonyms([user_id], [when])[0]

        def replaced(member: re.Match[bytes]) -> bytes:
            try:
                user_id = msgspec.json.decode(member[2], type=str)
            except (ValueError, msgspec.MsgspecError):  # no UTF-8, or an escape that JSON does not know
                user_id = member[2][1:-1].decode(errors="surrogateescape")
            return member[1] + msgspec.json.encode(pseudonym(user_id))

        if key:
            key = pseudonym(key.decode(errors="surrogateescape")).encode()
        if value is not None:
            members = list(_MEMBER.finditer(value))
            whole = bool(members) and all(member[2] is not None for member in members)
            value = _MEMBER.sub(replaced, value) if whole else WITHHELD
        return key, value

    def _pseudonym(self, user_id: str, nth: int) -> str:
        if not user_id or self._made.fullmatch(user_id):
            return user_id
        key = self._keys[nth]
        hashed = hmac.digest(key.secret, user_id.encode("utf-8", "surrogatepass"), "sha256")
        return f"{key.id}:{hashed[:HASH_BYTES].hex()}"
