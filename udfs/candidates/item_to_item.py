"""Candidates from sparse item-to-item matrices."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from udfs.candidates.pairs import Feature, Pairs
from udfs.candidates.source import CandidateSource, SessionContext, SourceInputs
from udfs.core.arrays import Floats, Ints, concat_ranges, position_in_group, segment_sum, top_pairs, unique_inverse

#: Per matrix and session, generate this many candidates by all of its items.
BY_ALL = 30

#: Per matrix and session, generate this many candidates by its newest item.
BY_LAST = 20

#: The matrices, by what the names of their features begin with.
MATRICES = ("co_visit", "beside", "follows")

#: Features of one matrix, by what their names end with: the sum over the session's items by age (""); the entries of
#: its newest, second newest and third newest item; the largest entry; how many items have one. The first two are also
#: there as shares of the session's maximum.
SUFFIXES = ("", "_share", "_last", "_last_share", "_second", "_third", "_most", "_items")


@dataclass(frozen=True)
class _Entries:
    """The rows of a batch's items in all matrices: N entries by matrix, and sums over these for P pairs.

    The key of a pair in matrix m is m × size + its own.
    """

    items: int  #: rows of the catalog in use
    size: int  #: sessions × items
    bounds: list[int]  #: of the entries of each matrix
    key: Ints  #: int64 [N]
    value: Floats  #: float64 [N], by the age of the item that the row is of
    recent: Ints  #: int64 [N], index of that item in the context
    pairs: Ints  #: int64 [P], sorted keys
    by_suffix: dict[str, Floats]  #: float64 [P] each, all of SUFFIXES but the shares


class ItemToItem(CandidateSource[_Entries]):
    """What goes together with the session's items. All matrices are worked on together."""

    name = "co_visit"
    default_reason = "taken together by others"
    feature_names = tuple(f"{matrix}{suffix}" for matrix in MATRICES for suffix in SUFFIXES)
    order = 20

    def __init__(self, inputs: SourceInputs) -> None:
        matrices = (inputs.bundle.co_visits(), inputs.bundle.near(), inputs.bundle.follows())
        rows = [matrix.with_rows(inputs.items.capacity).offsets for matrix in matrices]
        before = np.cumsum([0, *(len(matrix.columns) for matrix in matrices)])
        self._offsets = np.array(rows) + before[:-1, None]
        self._columns = np.concatenate([matrix.columns for matrix in matrices])
        self._weights = np.concatenate([matrix.weights for matrix in matrices])

    def prepare(self, context: SessionContext) -> _Entries:
        size = len(context) * context.items
        begin, end = self._offsets[:, context.item], self._offsets[:, context.item + 1]
        entry, row = concat_ranges(begin.ravel(), end.ravel())
        matrix, recent = np.divmod(row, max(len(context.item), 1))
        weight = self._weights[entry].astype(np.float64)
        value = weight * context.weight[recent]
        position = position_in_group(context.session)[recent]  # 0: the session's newest item
        key = matrix * size + context.session[recent] * context.items + self._columns[entry]
        pairs, pair = unique_inverse(key, len(MATRICES) * size)
        largest = np.zeros(len(pairs))
        np.maximum.at(largest, pair, weight)
        return _Entries(
            items=context.items,
            size=size,
            bounds=np.cumsum([0, *(end - begin).sum(axis=1)]).tolist(),
            key=key,
            value=value,
            recent=recent,
            pairs=pairs,
            by_suffix={
                "": segment_sum(pair, value, len(pairs)),
                "_last": segment_sum(pair, weight * (position == 0), len(pairs)),
                "_second": segment_sum(pair, weight * (position == 1), len(pairs)),
                "_third": segment_sum(pair, weight * (position == 2), len(pairs)),
                "_most": largest,
                "_items": segment_sum(pair, np.ones(len(key)), len(pairs)),
            },
        )

    def generate(self, entries: _Entries) -> Ints:
        by_all = top_pairs(entries.pairs, entries.by_suffix[""], BY_ALL, entries.items)
        by_last = top_pairs(entries.pairs, entries.by_suffix["_last"], BY_LAST, entries.items)
        return np.concatenate((by_all, by_last)) % max(entries.size, 1)

    def features(self, entries: _Entries, pairs: Pairs) -> Sequence[Feature]:
        matrix = entries.pairs // max(entries.size, 1)
        found, pair = pairs.find(entries.pairs - matrix * entries.size)
        index = matrix[found] * len(pairs.key) + pair
        by_suffix: dict[str, Floats] = {}  # [matrices, n] each
        for suffix, values in entries.by_suffix.items():
            spread = np.zeros(len(MATRICES) * len(pairs.key))
            spread[index] = values[found]
            by_suffix[suffix] = spread.reshape(len(MATRICES), -1)
        by_suffix["_share"] = pairs.share(by_suffix[""])
        by_suffix["_last_share"] = pairs.share(by_suffix["_last"])
        return [by_suffix[suffix][matrix] for matrix in range(len(MATRICES)) for suffix in SUFFIXES]

    def evidence(self, entries: _Entries, pairs: Pairs) -> Ints:
        """The first of the matrices that has any is taken."""
        evidence = np.full(len(pairs.key), -1)
        for matrix, (first, last) in enumerate(pairwise(entries.bounds)):
            key = entries.key[first:last] - matrix * entries.size
            of_matrix = pairs.strongest(key, entries.value[first:last], entries.recent[first:last])
            evidence = np.where(evidence < 0, of_matrix, evidence)
        return evidence
