from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from udfs.bundles.bundle import open_bundle
from udfs.encoder.cache import CachedEncoder
from udfs.encoder.encoder import Encoder, EncoderFiles, open_encoder
from udfs.encoder.options import EncoderOptions
from udfs.encoder.selection import Choice

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
    encode = encoder.encode_given
    monkeypatch.setattr(encoder, "encode_given", lambda texts: asked.extend(texts) or encode(texts))
    assert np.array_equal(cached.encode(TEXTS), first)
    assert asked == []


def test_searches_and_titles_have_prefixes_of_their_own(encoder: Encoder, bundles: Path):
    bundle, choice = open_bundle(bundles), Choice("int8", "cpu", "a test")
    files = EncoderFiles.of_bundle(bundle, "int8")
    info = msgspec.structs.replace(files.info, prefix="passage: ", query_prefix="query: ")
    prefixed = Encoder(replace(files, info=info), choice, EncoderOptions(threads=1))
    texts, queries = ["mug", "mug", "x" * 100_000], np.array([False, True, True])
    plain = encoder.encode(["passage: mug", "query: mug", "query: " + "x" * 100_000])
    assert np.array_equal(prefixed.encode(texts, queries), plain)
    assert np.array_equal(prefixed.encode(texts[:1]), plain[:1])
    cached = CachedEncoder(prefixed, 100)
    for _ in range(2):
        assert np.array_equal(cached.encode(texts, queries), plain)
        assert np.array_equal(cached.encode(texts, ~queries)[:2], plain[[1, 0]])
    same = msgspec.structs.replace(info, query_prefix=None)  # as in bundles made before
    prefixed = Encoder(replace(files, info=same), choice, EncoderOptions(threads=1))
    assert np.array_equal(prefixed.encode(texts[:2], queries[:2]), plain[[0, 0]])
