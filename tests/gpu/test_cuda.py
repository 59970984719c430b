from pathlib import Path

import numpy as np
import pytest

from udfs.bundles.bundle import Bundle, open_bundle
from udfs.core.arrays import Scores
from udfs.core.errors import ShopstreamError
from udfs.encoder.encoder import Encoder, open_encoder
from udfs.encoder.options import EncoderOptions
from udfs.encoder.selection import gpu_memory_gib

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="no CUDA device"),
]
TEXTS = ["mug", "red stoneware mug", "", "teapot " * 400, "blue mug, 350 ml"] * 50


@pytest.fixture(scope="module")
def bundle(encoder_bundles: Path) -> Bundle:
    return open_bundle(encoder_bundles)


@pytest.fixture(scope="module")
def fp16(bundle: Bundle) -> Encoder:
    return open_encoder(bundle, EncoderOptions(provider="cuda"))


@pytest.fixture(scope="module")
def reference(bundle: Bundle) -> Scores:
    return open_encoder(bundle, EncoderOptions(provider="cpu", variant="fp32")).encode(TEXTS)


def test_auto_takes_fp16_on_cuda(bundle: Bundle, fp16: Encoder):
    assert (fp16.variant, fp16.provider) == ("fp16", "cuda")
    chosen = open_encoder(bundle, EncoderOptions())
    assert (chosen.variant, chosen.provider) == ("fp16", "cuda")


def test_fp16_agrees_with_cpu(fp16: Encoder, reference: Scores):
    assert ((fp16.encode(TEXTS) * reference).sum(axis=1) > 0.999).all()


def test_fp32_agrees_with_cpu(bundle: Bundle, reference: Scores):
    fp32 = open_encoder(bundle, EncoderOptions(provider="cuda", variant="fp32"))
    assert np.allclose(fp32.encode(TEXTS), reference, atol=1e-4)


def test_vector_hardly_depends_on_its_batch(fp16: Encoder):
    alone = fp16.encode(["red stoneware mug"])[0]
    for texts in (["red stoneware mug"] * 1000, ["red stoneware mug", *TEXTS]):
        assert (fp16.encode(texts)[0] * alone).sum() > 0.999


def test_concurrent_calls_do_not_mix(fp16: Encoder):
    texts = [f"mug number {number} " * (number % 20 + 1) for number in range(3000)]
    once, twice = fp16.encode(texts), fp16.encode(texts)
    assert ((once * twice).sum(axis=1) > 0.9999).all()


def test_unusable_tensorrt_is_an_error(bundle: Bundle, tmp_path: Path):
    """With TensorRT it runs; without it, nothing else runs in its place."""
    options = EncoderOptions(provider="tensorrt", variant="fp32", engine_cache=str(tmp_path))
    try:
        outcome = open_encoder(bundle, options).provider
    except ShopstreamError as error:
        outcome = str(error)
    assert outcome.startswith(("tensorrt", "encoder.provider is tensorrt"))


def test_memory_of_the_device_is_known():
    assert gpu_memory_gib() > 0
