from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.bundles.bundle import open_bundle
from udfs.encoder.batching import PAD_TO, SHORT, Limits, TokenizedTexts, exact_batches, padded_batches
from udfs.encoder.encoder import CHUNK, open_encoder
from udfs.encoder.loading import call_limits
from udfs.encoder.options import CPU_TOKENS, GPU_TOKENS, EncoderOptions
from udfs.encoder.selection import gpu_memory_gib

LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=200).map(np.array)
LIMITS = st.builds(Limits, st.integers(1, 500), st.integers(1, 40), st.integers(64, 100), st.integers(1, 4))


@given(LENGTHS, LIMITS)
@pytest.mark.parametrize("group", [exact_batches, padded_batches])
def test_every_text_is_in_one_batch(group, lengths, limits: Limits):
    batches = group(lengths, limits)
    assert sorted(np.concatenate([rows for rows, _ in batches])) == list(range(len(lengths)))
    for rows, width in batches:
        assert len(rows) <= limits.rows
        assert len(rows) == 1 or len(rows) * width <= limits.tokens
        assert lengths[rows].max() <= width <= limits.tokens_per_text


@given(LENGTHS, LIMITS)
def test_exact_batches_have_no_padding(lengths, limits: Limits):
    assert all((lengths[rows] == width).all() for rows, width in exact_batches(lengths, limits))


@given(LENGTHS, LIMITS)
def test_padded_batches_waste_little(lengths, limits: Limits):
    for rows, width in padded_batches(lengths, limits):
        assert width % PAD_TO == 0 or width == limits.tokens_per_text
        assert width <= SHORT or (2 * lengths[rows] >= width).all()


def test_short_texts_are_one_padded_batch():
    limits = Limits(tokens=16_384, rows=4096, tokens_per_text=256, calls=2)
    assert len(padded_batches(np.arange(3, 33), limits)) == 1
    assert len(exact_batches(np.arange(3, 33), limits)) == 30


class Encoded:
    """As the tokenizer gives it."""

    def __init__(self, ids: list[int]) -> None:
        self.ids, self.overflowing = ids, [ids] if len(ids) > 8 else []


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=12), min_size=1, max_size=20), st.integers(0, 5))
def test_padded_rows_hold_their_tokens(texts: list[list[int]], extra: int):
    tokens = TokenizedTexts.of([Encoded(text) for text in texts])
    rows = np.arange(len(texts))[::-1]
    width = max(map(len, texts)) + extra
    ids, mask = tokens.padded(rows, width)
    assert ids.tolist() == [text + [0] * (width - len(text)) for text in texts[::-1]]
    assert mask.tolist() == [[1] * len(text) + [0] * (width - len(text)) for text in texts[::-1]]
    assert tokens.truncated == sum(len(text) > 8 for text in texts)


def test_limits_follow_provider():
    assert call_limits("cpu", EncoderOptions(threads=3), 256) == Limits(CPU_TOKENS, 256, 256, 3)
    assert call_limits("tensorrt", EncoderOptions(batch_tokens=9000), 512).tokens == 9000
    assert GPU_TOKENS[0] <= call_limits("cuda", EncoderOptions(), 512).tokens <= GPU_TOKENS[1]
    assert (gpu_memory_gib() > 0) == Path("/dev/nvidiactl").exists()


def test_padded_batches_move_vectors_little(bundles: Path):
    """On the CPU, as a GPU's batches are made."""
    encoder = open_encoder(open_bundle(bundles), EncoderOptions(variant="fp32", provider="cpu", threads=2))
    texts = ["mug", "red stoneware mug, 350 ml", "teapot " * 30, "", "blue mug"] * 3
    exact = encoder.encode(texts)
    encoder._batches = padded_batches
    padded = encoder.encode(texts)
    assert encoder.stats.last_batches[-1][0] == 12  # all but the long ones
    assert ((exact * padded).sum(axis=1) > 0.99999).all()


def test_many_texts_are_tokenized_in_chunks(bundles: Path):
    encoder = open_encoder(open_bundle(bundles), EncoderOptions(provider="cpu"))
    texts = [f"mug {number % 10}" for number in range(CHUNK + 5)]
    vectors = encoder.encode(texts)
    assert np.array_equal(vectors[:10], encoder.encode(texts[:10]))
    assert np.array_equal(vectors[-5:], encoder.encode(texts[-5:]))
    assert encoder.stats.texts == len(texts) + 15
