from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from histories import bundle_of, of_letters, tiny

from export.ranker.positions import context_of
from udfs.candidates import history
from udfs.candidates.history import History
from udfs.candidates.source import EarlierItems, SourceInputs


def test_earlier_items_come_by_times_then_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "BY_HISTORY", 3)
    generator = bundle_of(tmp_path, tiny(("u", "ab")))
    context = context_of(generator, tiny(("v", "a"), ("w", "b")), of_letters)
    earlier = EarlierItems(
        session=np.array([0, 0, 0, 0, 1]),
        item=np.array([0, 1, 2, 3, 5]),
        times=np.array([1.0, 2.0, 1.0, 1.0, 1.0]),
        days=np.array([3.0, 9.0, 3.0, 2.0, 1.0]),
    )
    source = History(SourceInputs(None, None, None, recommend_seen=False, k=10))  # type: ignore[arg-type]
    session, item = np.divmod(source.generate(replace(context, earlier=earlier)), context.items)
    assert session.tolist() == [0, 0, 0, 1]
    assert item.tolist() == [1, 3, 0, 5]


def test_shoppers_are_found_by_their_hash(tmp_path: Path):
    generator = bundle_of(tmp_path, tiny(("u", "ab"), ("v", "c"), ("u", "b")))
    context = context_of(generator, tiny(("v", "a"), ("x", "a"), ("u", "a")), of_letters)
    assert context.shopper[1] == -1
    earlier = context.earlier
    found = list(zip(earlier.session.tolist(), earlier.item.tolist(), earlier.times.tolist(), strict=True))
    assert found == [(0, 2, 1.0), (2, 0, 1.0), (2, 1, 2.0)]
