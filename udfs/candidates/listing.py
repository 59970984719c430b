"""Neighbours in the order of item ids as candidates."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from udfs.candidates.pairs import Feature, Pairs
from udfs.candidates.source import CandidateSource, SessionContext, SourceInputs
from udfs.core.arrays import Floats, Ints, position_in_group, segment_sum

#: Generate this many items on each side of a session's last one.
SIDE = 5

#: Order ids by at most this many bytes.
KEY_BYTES = 48

_NUMBER = re.compile("0*([0-9]+)")


@dataclass(frozen=True)
class _Slots:
    """Where the items of S sessions stand; there are N recent items in all."""

    context: SessionContext
    last: Ints  #: int64 [S], slot of the newest item, -1 without one
    direction: Floats  #: float64 [S], mean direction from one item to the next, from -1 to 1
    key: Ints  #: int64 [N], session × items + slot, sorted
    recent: Ints  #: int64 [N], index in the context of the item of each key


class IdNeighbours(CandidateSource[_Slots]):
    """What stands near the session's items when the items in stock are in the order of their ids.

    Shops give ids one after the other, so neighbours often are of one family or came in together. Numbers in ids count
    as numbers: i9 comes before i10. A slot is a position among the items in stock; an item that is sold out has the
    slot of the next one in stock.
    """

    name = "listing"
    default_reason = "where it stands among the shop's items"
    feature_names = ("listed_step", "listed_near", "listed_direction")
    order = 70

    def __init__(self, inputs: SourceInputs) -> None:
        self._items = inputs.items
        self._keys = np.empty(0, dtype=f"S{KEY_BYTES}")
        self._order = np.empty(0, dtype=np.int64)  # all rows of the catalog, by key
        self.refresh()

    def refresh(self) -> None:
        known = len(self._order)
        fresh = np.array([sort_key(item) for item in self._items.ids[known:]], dtype=self._keys.dtype)
        by_key = np.argsort(fresh, kind="stable")
        index = np.searchsorted(self._keys, fresh[by_key], side="right")
        self._keys = np.insert(self._keys, index, fresh[by_key])
        self._order = np.insert(self._order, index, known + by_key)
        is_offered = self._items.in_stock[self._order]
        self._offered = self._order[is_offered]
        self._slot_of = np.empty(len(self._order), dtype=np.int64)
        self._slot_of[self._order] = np.cumsum(is_offered) - is_offered

    def prepare(self, context: SessionContext) -> _Slots:
        slot, position = self._slot_of[context.item], position_in_group(context.session)
        last = np.full(len(context), -1)
        last[context.session[position == 0]] = slot[position == 0]
        earlier = np.flatnonzero(position > 0)
        session = context.session[earlier]
        turns = segment_sum(session, np.sign(slot[earlier - 1] - slot[earlier]).astype(np.float64), len(context))
        direction = turns / np.maximum(np.bincount(session, minlength=len(context)), 1)
        key = context.session * context.items + slot
        recent = np.argsort(key, kind="stable")
        return _Slots(context, last, direction, key[recent], recent)

    def generate(self, slots: _Slots) -> Ints:
        session = np.flatnonzero(slots.last >= 0)
        near = slots.last[session, None] + np.arange(-SIDE, SIDE + 1)
        row, column = np.nonzero((near >= 0) & (near < len(self._offered)))
        return np.asarray(session[row] * slots.context.items + self._offered[near[row, column]])

    def features(self, slots: _Slots, pairs: Pairs) -> Sequence[Feature]:
        last = slots.last[pairs.session]
        step = np.where(last >= 0, self._slot_of[pairs.item] - last, 0)
        steps, _ = self._nearest(slots, pairs)
        near = np.where(steps < 0, 0.0, 1 / (1 + np.maximum(steps, 0)))
        return step, near, slots.direction[pairs.session]

    def evidence(self, slots: _Slots, pairs: Pairs) -> Ints:
        steps, recent = self._nearest(slots, pairs)
        return np.where(steps <= SIDE, recent, -1)

    def _nearest(self, slots: _Slots, pairs: Pairs) -> tuple[Ints, Ints]:
        """Return the steps to the session's nearest item, and its index in the context, int64 [n]; -1 without one."""
        if not len(slots.key):
            nothing = np.full(len(pairs.key), -1)
            return nothing, nothing
        items = slots.context.items
        key = pairs.session * items + self._slot_of[pairs.item]
        index = np.searchsorted(slots.key, key)
        sides = np.stack((np.maximum(index - 1, 0), np.minimum(index, len(slots.key) - 1)))
        steps = np.abs(slots.key[sides] - key)
        steps[slots.context.session[slots.recent[sides]] != pairs.session] = items  # of another session
        nearer = np.argmin(steps, axis=0), np.arange(len(key))
        none = steps[nearer] == items
        return np.where(none, -1, steps[nearer]), np.where(none, -1, slots.recent[sides[nearer]])


def sort_key(item_id: str) -> bytes:
    """Return the key by which ids are ordered: each number has no leading zeros and follows its count of digits."""
    key = _NUMBER.sub(lambda found: f"{len(found[1]):02}{found[1]}", item_id)
    return key.encode("utf-8", "replace")[:KEY_BYTES]
