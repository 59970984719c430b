"""Groups texts into batches of a model: exact lengths on CPUs, padded ones on GPUs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding

from udfs.core.arrays import Ints

#: Padded batches have a multiple of this many tokens: a GPU's matrix units need it for full speed.
PAD_TO = 8

#: Above this width, a padded batch holds no text of less than half its tokens.
SHORT = 32

Rows: TypeAlias = npt.NDArray[np.intp]
#: Rows of the texts in one call of the model, and its width in tokens.
Batch: TypeAlias = tuple[Rows, int]


@dataclass(frozen=True)
class Limits:
    """Limits of one call of the model, and how many calls run at a time."""

    tokens: int
    rows: int
    tokens_per_text: int
    calls: int

    def rows_of(self, width: int) -> int:
        """Return how many texts of `width` tokens fit into one call, at least one."""
        return min(max(1, self.tokens // width), self.rows)


@dataclass(frozen=True)
class TokenizedTexts:
    """The tokens of several texts, one text after the other."""

    ids: Ints  #: int64 [tokens]
    lengths: Rows  #: [texts], special tokens included
    starts: Rows  #: [texts], where each text's tokens begin
    truncated: int  #: texts that were cut at the model's limit

    @classmethod
    def of(cls, encodings: Sequence[Encoding]) -> "TokenizedTexts":
        """Take the tokens out of the tokenizer's encodings."""
        tokens = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, tokens), dtype=np.intp, count=len(tokens))
        ids = np.fromiter(chain.from_iterable(tokens), dtype=np.int64, count=int(lengths.sum()))
        truncated = sum(bool(encoding.overflowing) for encoding in encodings)
        return cls(ids, lengths, np.cumsum(lengths) - lengths, truncated)

    def padded(self, rows: Rows, width: int) -> tuple[Ints, Ints]:
        """Return ids and mask of some texts, int64 [rows, width] each; both are 0 where a token is padding."""
        position = np.arange(width)
        real = position < self.lengths[rows, None]
        source = np.where(real, self.starts[rows, None] + position, 0)
        return np.where(real, self.ids[source], 0), real.astype(np.int64)


def exact_batches(lengths: Rows, limits: Limits) -> list[Batch]:
    """Group texts of the same length (tokens, [texts]) into batches, largest first, so no thread ends late.

    There is no padding. A length that needs several batches gets a multiple of the concurrent calls, of equal size.
    """
    batches = []
    order = np.argsort(lengths, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        width = int(lengths[rows[0]])
        count = -(-len(rows) // limits.rows_of(width))
        if count > 1:
            count = min(count + -count % limits.calls, len(rows))
        batches += [(part, width) for part in np.array_split(rows, count)]
    return sorted(batches, key=lambda batch: len(batch[0]) * batch[1], reverse=True)


def padded_batches(lengths: Rows, limits: Limits) -> list[Batch]:
    """Group texts of similar length (tokens, [texts]) into as few batches as the limits allow, longest first.

    A call on a GPU takes as long for one short text as for hundreds, so few padded batches beat exact lengths.
    """
    batches = []
    rest = np.argsort(-lengths, kind="stable")
    while len(rest):
        width = min(-(-int(lengths[rest[0]]) // PAD_TO) * PAD_TO, limits.tokens_per_text)
        similar = len(rest) if width <= SHORT else np.count_nonzero(2 * lengths[rest] >= width)
        rows = min(limits.rows_of(width), similar)
        batches.append((rest[:rows], width))
        rest = rest[rows:]
    return batches
