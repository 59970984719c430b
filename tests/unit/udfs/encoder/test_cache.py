from pathlib import Path

import numpy as np
import pytest

from udfs.bundles.bundle import open_bundle
from udfs.encoder.cache import CachedEncoder
from udfs.encoder.encoder import Encoder, open_encoder
from udfs.encoder.options import EncoderOptions

TEXTS = ["Stoneware mug, speckled blue, 350 ml", "", "x", "mug", "🧦🧦", "a b\x00c\n"]


@pytest.fixture(scope="module")
def encoder(bundles: Path) -> Encoder:
    return open_encoder(open_bundle(bundles), EncoderOptions(variant="int8", provider="cpu", threads=1))


@pytest.mark.parametrize("size", [0, 1, 3, 100])
def test_cache_changes_no_vector(encoder: Encoder, size: int):
    cached = CachedEncoder(encoder, size)
    plain = encoder.encode(TEXTS)
    for _ in range(3):
        assert np.array_equal(cached.encode(TEXTS), plain)
        assert np.array_equal(cached.encode([TEXTS[3], TEXTS[0], TEXTS[3]]), plain[[3, 0, 3]])
    before = cached.stats.cached
    cached.encode(TEXTS)
    assert cached.stats.cached - before <= size  # no more were kept


def test_cached_text_is_not_encoded(encoder: Encoder, monkeypatch: pytest.MonkeyPatch):
    cached = CachedEncoder(encoder, 100)
    first = cached.encode(TEXTS)
    asked: list[str] = []
    encode = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda texts: asked.extend(texts) or encode(texts))
    assert np.array_equal(cached.encode(TEXTS), first)
    assert asked == []
