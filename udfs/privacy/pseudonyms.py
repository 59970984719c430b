"""Pseudonyms: user ids replaced by keyed hashes, so that nothing behind the parser holds a real id.

    <key id>:<32 hex digits>    the first 128 bits of HMAC-SHA-256(the key's secret, the user id in UTF-8)

The key is the latest whose `from` is not after the event's own time; earlier events use the first key. So an event
gives the same pseudonym whenever it is read. Text in the form of a pseudonym by a key of the file is taken for one and
kept: replayed dead letters, and shops that send pseudonyms, match what is there.
"""

import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

#: Bytes of the hash that a pseudonym keeps.
HASH_BYTES = 16


@dataclass(frozen=True)
class Key:
    """One line of the keys file. from_ms: epoch ms."""

    id: str
    from_ms: int
    secret: bytes = field(repr=False)


class Keys:
    """Makes pseudonyms."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = sorted(keys, key=lambda key: key.from_ms)
        self._from = np.array([key.from_ms for key in self._keys], dtype=np.int64)
        ids = "|".join(re.escape(key.id) for key in self._keys)
        self._form = re.compile(f"(?:{ids}):[0-9a-f]{{{2 * HASH_BYTES}}}")

    def pseudonyms(self, user_id: Iterable[str], time_ms: Sequence[int] | npt.NDArray[np.int64]) -> list[str]:
        """Return the pseudonym of each id at its time (epoch ms), [n] both; each distinct id is hashed once per key."""
        key = np.maximum(np.searchsorted(self._from, np.asarray(time_ms, np.int64), side="right") - 1, 0)
        pairs = list(zip(user_id, key.tolist(), strict=True))
        made = {(user, index): self._pseudonym(user, self._keys[index]) for user, index in set(pairs)}
        return [made[pair] for pair in pairs]

    def aliases(self, user_id: str) -> list[str]:
        """Return every id that a user may have: the id itself, then its pseudonym by each key, oldest first."""
        return list(dict.fromkeys([user_id, *(self._pseudonym(user_id, key) for key in self._keys)]))

    def pseudonymize(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Replace the user ids of events with columns user_id and event_time (epoch ms)."""
        names = self.pseudonyms(batch["user_id"].to_pylist(), batch["event_time"].to_numpy())
        return batch.set_column(batch.schema.get_field_index("user_id"), "user_id", pa.array(names, pa.string()))

    def _pseudonym(self, user_id: str, key: Key) -> str:
        if not user_id or self._form.fullmatch(user_id):
            return user_id
        hashed = hmac.digest(key.secret, user_id.encode("utf-8", "surrogatepass"), "sha256")
        return f"{key.id}:{hashed[:HASH_BYTES].hex()}"
