import lightgbm as lgb
import numpy as np
import onnxruntime as ort

from export.ranker.trees import FIRST_TREES, _not_above, to_onnx


def test_onnx_splits_scores_among_sources():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 6)).astype(np.float32)
    target = rows[:, 0] * rows[:, 1] + np.abs(rows[:, 2]) + 0.1 * rng.normal(size=3000)
    booster = lgb.train({"verbose": -1, "num_leaves": 15, "seed": 1}, lgb.Dataset(rows, target), 40)
    columns = [f"c{number}" for number in range(6)]
    source_of = dict(zip(columns, ["x", "x", "y", "y", "z", "z"], strict=True))
    model, sources = to_onnx(booster.dump_model()["tree_info"], columns, source_of)
    assert sources == ("x", "y", "z")
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    weights, first = (
        session.run([output], {"pairs": rows, "shortlist": rows})[0].astype(np.float64)
        for output in ("weights", "first")
    )
    nothing = {"pairs": rows[:0], "shortlist": rows[7:9]}
    assert (session.run(["weights"], nothing)[0] == weights[7:9]).all()
    assert (weights == np.rint(weights)).all()
    assert np.abs(weights).sum(axis=1).max() < 2**24
    by_first = booster.predict(rows, num_iteration=FIRST_TREES)
    assert np.corrcoef(first[:, 0], by_first)[0, 1] > 0.999999
    assert FIRST_TREES < 40
    expected = booster.predict(rows)
    scale = np.polyfit(weights.sum(axis=1), expected, 1)[0]  # scores are shrunk together, and less their mean
    assert np.ptp(weights.sum(axis=1) * scale - expected) < 40 * abs(scale) * 2
    # What nothing depends on says nothing.
    assert np.abs(weights[:, 2]).mean() < 0.05 * np.abs(weights[:, 0]).mean()


def test_thresholds_round_down():
    value = np.float32(0.1)
    assert _not_above(float(value)) == value
    below = float(value) - 1e-12
    assert np.float32(_not_above(below)) < value
