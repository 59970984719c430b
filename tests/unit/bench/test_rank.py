import json
from pathlib import Path

import numpy as np
import pytest

from bench import rank
from bench.__main__ import main
from udfs.bundles.bundle import open_bundle


def test_enlarged_shop_has_own_past(bundles: Path):
    bundle = open_bundle(bundles)
    log, items, vectors = rank.enlarged(bundle, 1500)
    assert len(items) == len(vectors) == len(set(items["title"].to_pylist())) == 1500
    past = bundle.past_sessions()
    assert len(log) == 3 * (len(past.offsets) - 1)
    assert (np.diff(log.start) >= 0).all()
    assert (np.bincount(log.item, minlength=1500) > 0).mean() > 0.8
    real = bundle.item_vectors()
    assert (vectors[:600] == real).all()
    assert np.einsum("id,id->i", vectors[600:1200], real).min() > 0.8
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5


def test_quick_run_of_rank(bundles: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rank, "SINGLE", 20)
    monkeypatch.setattr(rank, "BATCHED", 64)
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["rank", "--items", "600,2000", "--index-from", "1000", "--bundles", str(bundles), "--json"])
    small, large = json.loads(capsys.readouterr().out)
    assert (small["items"], small["recall"], small["index_s"]) == (600, None, None)
    assert large["recall"] > 0.9
    for row in (small, large):
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert 0 < row["batch_p50_ms"] <= row["batch_p99_ms"]
