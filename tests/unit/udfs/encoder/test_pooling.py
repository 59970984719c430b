import numpy as np
import pytest

from udfs.encoder.pooling import POOLINGS, normalize

HIDDEN = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
LENGTHS = [4, 2, 1]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_ignores_padding(name: str, padded: bool):
    lengths = LENGTHS if padded else [4, 4, 4]
    mask = (np.arange(4) < np.array(lengths)[:, None]).astype(np.int64)
    one_text = {
        "cls": lambda rows: rows[0],
        "max": lambda rows: rows.max(axis=0),
        "mean": lambda rows: rows.mean(axis=0),
    }
    expected = [one_text[name](rows[:length]) for rows, length in zip(HIDDEN, lengths, strict=True)]
    assert np.allclose(POOLINGS[name](HIDDEN, mask), expected, rtol=1e-6)


def test_normalized_vectors_have_unit_length():
    vectors = np.concatenate([HIDDEN[0], np.zeros((1, 5), np.float32)])
    assert np.linalg.norm(normalize(vectors), axis=1) == pytest.approx([1, 1, 1, 1, 0], rel=1e-6)
