from dataclasses import replace
from pathlib import Path

from udfs.bundles.bundle import open_bundle
from udfs.bundles.manifest import Provider
from udfs.encoder.loading import Runtime, load
from udfs.encoder.options import EncoderOptions


def test_process_loads_model_once(bundles: Path):
    bundle, options = open_bundle(bundles), EncoderOptions(threads=1)

    def loaded(variant: str, options: EncoderOptions, provider: Provider = "cpu") -> Runtime:
        key = bundle.manifest.files[f"encoder/{variant}.onnx"].sha256
        return load(bundle.variant_file(variant), key, variant, provider, options)

    first = loaded("fp32", options)
    assert loaded("fp32", options) is first
    assert loaded("fp32", replace(options, threads=2)) is not first
    assert loaded("fp32", options, "openvino") is not first
    assert loaded("int8", options) is not first
