"""Tiny data for tests of next-item prediction: sessions written as words, one letter per item."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from export.history.interactions import Interactions
from udfs.core.arrays import Ints
from udfs.core.clock import DAY_MS

LETTERS = "abcdefgh"


def sessions(*items: str, gap: int = DAY_MS) -> Interactions:
    """One session per word, one item per letter and second; each session starts `gap` ms after the one before."""
    lengths = [len(word) for word in items]
    time = [gap * number + 1000 * step for number, word in enumerate(items) for step in range(len(word))]
    return Interactions(
        items=list(LETTERS),
        users=[f"u{number}" for number in range(len(items))],
        offsets=np.concatenate(([0], np.cumsum(lengths))),
        user=np.arange(len(items)),
        item=np.array([LETTERS.index(letter) for letter in "".join(items)]),
        time=np.array(time),
        type_code=np.zeros(sum(lengths), dtype=np.int8),
    )


class FixedLists:
    """Names the same items whatever happens."""

    name = "fixed"

    def __init__(self, *items: int) -> None:
        self.items, self.prefixes = items, list[int]()

    def fit(self, train: Interactions, catalog: pa.Table | None) -> None:
        """Nothing to train."""

    def predict(self, prefixes: Interactions, k: int, *, repeats: bool) -> Ints:  # noqa: ARG002
        self.prefixes.append(len(prefixes))
        return np.tile(self.items, (len(prefixes), 1))


HEADER = "session_id,user_id,event_time,event_type,item_id"


def write_lines(folder: Path, name: str, *lines: str) -> None:
    (folder / name).write_text("\n".join(lines) + "\n")
