from pathlib import Path

import numpy as np
import pytest

from udfs.bundle import open_bundle
from udfs.encoder import CachedEncoder, Encoder, EncoderOptions, providers
from udfs.errors import ShopstreamError

TEXTS = [
    "Stoneware mug, speckled blue, 350 ml",
    "",
    "x",
    "mug",
    "🧦🧦",
    "陶瓷马克杯",
    "كوب خزفي",
    "a b\x00c\n",
    "teapot " * 150_000,
]


@pytest.fixture(scope="module")
def encoder(bundles: Path) -> Encoder:
    return Encoder(open_bundle(bundles), EncoderOptions(provider="cpu", threads=1))


def test_every_text_gets_a_unit_vector(encoder: Encoder):
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_vector_depends_on_its_text_alone(encoder: Encoder):
    together = encoder.encode(TEXTS + TEXTS[::-1])
    for place, text in enumerate(TEXTS):
        alone = encoder.encode([text])[0]
        assert np.array_equal(together[place], alone)
        assert np.array_equal(together[2 * len(TEXTS) - 1 - place], alone)


def test_no_texts_give_no_vectors(encoder: Encoder):
    assert encoder.encode([]).shape == (0, 384)
    assert CachedEncoder(encoder, 10).encode([]).shape == (0, 384)


@pytest.mark.parametrize("size", [0, 1, 3, 100])
def test_the_cache_changes_no_vector_and_stays_small(encoder: Encoder, size: int):
    cached = CachedEncoder(encoder, size)
    plain = encoder.encode(TEXTS)
    for _ in range(3):
        assert np.array_equal(cached.encode(TEXTS), plain)
        assert np.array_equal(cached.encode([TEXTS[3], TEXTS[0], TEXTS[3]]), plain[[3, 0, 3]])
        assert len(cached._cache) <= size


def test_a_cached_text_is_not_encoded_again(encoder: Encoder, monkeypatch: pytest.MonkeyPatch):
    cached = CachedEncoder(encoder, 100)
    first = cached.encode(TEXTS)
    asked: list[str] = []
    encode = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda texts: asked.extend(texts) or encode(texts))
    assert np.array_equal(cached.encode(TEXTS), first)
    assert asked == []


def no_cuda() -> bool:
    return not Path("/dev/nvidiactl").exists()


@pytest.mark.skipif(not no_cuda(), reason="a CUDA device is present")
def test_cuda_that_was_asked_for_and_is_not_there_is_an_error(bundles: Path):
    bundle = open_bundle(bundles)
    with pytest.raises(ShopstreamError, match=r"encoder\.provider"):
        Encoder(bundle, EncoderOptions(provider="cuda"))
    fallen_back = Encoder(bundle, EncoderOptions(provider="cuda", allow_fallback=True))
    assert fallen_back.provider == "CPUExecutionProvider"
    assert providers(EncoderOptions(provider="auto")) == ["CPUExecutionProvider"]


@pytest.mark.gpu
@pytest.mark.skipif(no_cuda(), reason="no CUDA device")
def test_on_cuda_fp32_is_the_default_and_agrees_with_the_cpu(bundles: Path):
    bundle = open_bundle(bundles)
    on_cuda = Encoder(bundle, EncoderOptions(provider="cuda"))
    assert on_cuda.variant == "fp32"
    on_cpu = Encoder(bundle, EncoderOptions(provider="cpu", variant="fp32"))
    assert np.allclose(on_cuda.encode(TEXTS), on_cpu.encode(TEXTS), atol=1e-3)
