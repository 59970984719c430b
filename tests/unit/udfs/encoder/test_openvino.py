import sys
from pathlib import Path

import numpy as np
import openvino
import pytest
from transformers import AutoConfig, AutoModel

from export.encoder import to_onnx
from udfs.bundles.bundle import open_bundle
from udfs.core.errors import ShopstreamError
from udfs.encoder.loading import load
from udfs.encoder.openvino import short_text_model
from udfs.encoder.options import EncoderOptions


def test_missing_openvino_is_an_error(bundles: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr("udfs.encoder.openvino.find_spec", lambda _: None)
    with pytest.raises(ShopstreamError, match="package openvino is not installed"):
        load(open_bundle(bundles).variant_file("fp32"), "never loaded", "fp32", "openvino", EncoderOptions(threads=1))


@pytest.mark.parametrize(("variant", "least"), [("fp32", 0.999999), ("int8", 0.995)])
def test_short_text_model_equals_whole_model(
    bundles: Path, variant: str, least: float, monkeypatch: pytest.MonkeyPatch
):
    runtime = load(
        open_bundle(bundles).variant_file(variant), f"short-{variant}", variant, "openvino", EncoderOptions(threads=1)
    )
    ids = np.random.default_rng(0).integers(1000, 20_000, (5, 9))
    short = runtime.run(ids, np.ones_like(ids)).copy()
    monkeypatch.setattr("udfs.encoder.openvino.SHORT_TOKENS", 0)
    whole = runtime.run(ids, np.ones_like(ids)).copy()
    padded = runtime.run(np.pad(ids, ((0, 0), (0, 3))), np.pad(np.ones_like(ids), ((0, 0), (0, 3))))[:, :9]
    for other in (whole, padded):
        cosine = (short * other).sum(axis=2) / np.linalg.norm(short, axis=2) / np.linalg.norm(other, axis=2)
        assert cosine.min() > least


@pytest.mark.filterwarnings("ignore")  # of the exporter's age
@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_short_text_model_fits_each_architecture(kind: str):
    sizes = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model(kind, **sizes, intermediate_size=64)
    model = AutoModel.from_config(config, attn_implementation="eager").eval()
    ids = np.random.default_rng(0).integers(5, 100, (4, 7))
    with to_onnx.exported(model) as file:
        short = short_text_model(openvino.Core().read_model(file))
        found = [
            load(file, f"{kind} on {provider}", "fp32", provider, EncoderOptions(threads=1)).run(ids, np.ones_like(ids))
            for provider in ("cpu", "openvino")
        ]
    assert "attention_mask" not in {node.any_name for node in short.inputs}
    products = [node for node in short.get_ordered_ops() if node.get_type_name() == "MatMul"]
    of_keys = [node for node in products if node.input_value(1).get_node().get_type_name() == "Transpose"]
    assert sum(node.get_attributes()["transpose_b"] for node in of_keys) == 2  # layers
    assert np.allclose(*found, atol=1e-5)
