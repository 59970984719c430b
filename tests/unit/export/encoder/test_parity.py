from export.encoder.measure import unfused
from export.encoder.parity import check_gate
from export.encoder.source import open_source
from export.gate import GATE, parse_gate
from udfs.bundles.manifest import Parity


def test_unfused_nodes_are_reported():
    source = open_source(None)
    assert unfused(source, {"attention": 6, "gelu": 6, "layer_norm": 13}) == []
    (note,) = unfused(source, {"attention": 5, "gelu": 6, "layer_norm": 13})
    assert "attention is fused in 5 of 6" in note


def test_gate_can_be_changed():
    assert parse_gate("top10_overlap=0.5") == dict(GATE) | {"top10_overlap": 0.5}
    parity = Parity(9, *[0.995] * 5, 1, 1)
    assert check_gate("int8", parity, GATE) == ""
    assert "cosine_mean 0.995 < 0.999" in check_gate("int8", parity, parse_gate("cosine_mean=0.999"))


def test_nan_fails_the_gate():
    nothing = float("nan")
    assert "cosine_mean nan" in check_gate("int8", Parity(9, *[nothing] * 7), GATE)
