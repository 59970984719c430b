from dataclasses import replace

import numpy as np
import pytest
from histories import ITEMS, tiny, walks

from export.history.neighbours import cooccurrence, past_sessions
from udfs.core.hashing import shopper_hash


def test_cooccurrence_falls_with_distance():
    near, follows = cooccurrence(tiny(("u", "abc"), ("v", "ab")))
    assert follows.toarray()[:3, :3].tolist() == [[0, 2, 0.5], [0, 0, 1], [0, 0, 0]]
    assert near.toarray()[0, 1] == near.toarray()[1, 0] == np.float32(2 / 2)
    assert near.toarray()[0, 2] == near.toarray()[2, 0] == np.float32(0.5 / np.sqrt(2))


def test_past_sessions_hash_shoppers():
    past = past_sessions(tiny(("u", "ab"), ("v", "c"), ("u", "d")))
    assert past.item.tolist() == [0, 1, 2, 3]
    assert past.offsets.tolist() == [0, 2, 3, 4]
    assert past.shoppers.tolist() == sorted(map(shopper_hash, "uv"))
    assert past.shoppers[past.shopper].tolist() == [shopper_hash(user) for user in "uvu"]


def test_one_wrong_clock_ages_nothing():
    log = walks(2000, 9)
    wrong = replace(log, time=np.append(log.time[:-1], 253_402_300_799_999))
    assert past_sessions(wrong).recent(ITEMS).max() == pytest.approx(past_sessions(log).recent(ITEMS).max(), rel=0.05)
