from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from udfs.bundles.bundle import open_bundle
from udfs.encoder.loading import load
from udfs.encoder.onnx_runtime import ort_provider_options
from udfs.encoder.options import EncoderOptions


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_device_options_name_known_providers(provider: str, tmp_path: Path):
    (name, options), *rest = ort_provider_options(
        provider, "tensorrt-int8", EncoderOptions(engine_cache=str(tmp_path / "engines"))
    )
    assert name in ort.get_all_providers()
    assert [part if isinstance(part, str) else part[0] for part in rest][-1] == "CPUExecutionProvider"
    if provider == "tensorrt":
        assert (tmp_path / "engines").is_dir()
        for size, shape in {"min": "1x1", "opt": "64x16", "max": "256x512"}.items():
            assert options[f"trt_profile_{size}_shapes"].split(",")[0] == f"input_ids:{shape}"
        assert options["trt_engine_cache_enable"]
        assert options["trt_int8_enable"]
        assert not ort_provider_options(provider, "fp32", EncoderOptions(engine_cache=str(tmp_path)))[0][1][
            "trt_int8_enable"
        ]
    else:
        assert options["arena_extend_strategy"] == "kSameAsRequested"
        assert options["use_tf32"] == "0"  # or fp32 is not fp32


def test_bound_run_equals_plain_run(bundles: Path):
    bundle = open_bundle(bundles)
    options = EncoderOptions(threads=1)
    runtime = load(bundle.variant_file("fp32"), "bound", "fp32", "cpu", options)
    ids = np.random.default_rng(0).integers(1000, 20_000, (5, 9))
    mask = np.ones_like(ids)
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    assert np.array_equal(runtime.run_bound(feed), runtime.run(ids, mask))  # type: ignore[attr-defined]
