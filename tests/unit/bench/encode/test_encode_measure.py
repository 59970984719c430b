import numpy as np
import pytest

from bench.encode.measure import fidelity, is_invariant
from bench.encode.peers import Vectors


def test_fidelity_by_hand():
    reference = np.eye(3, dtype=np.float32)
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0, 0.6, 0.8]], dtype=np.float32)
    mean, p01, overlap = fidelity(vectors, reference)
    assert mean == pytest.approx((1 + 1 + 0.8) / 3)
    assert p01 == pytest.approx(0.8 + 0.02 * 0.2)
    assert overlap == 1  # three texts: everyone's two neighbours are the other two
    assert fidelity(vectors, None) == (None, None, None)


def on_circle(*angles: float) -> Vectors:
    return np.array([[np.cos(angle), np.sin(angle)] for angle in angles], dtype=np.float32)


def test_invariance_needs_vectors_and_neighbours():
    # Twelve far texts, so that not everyone is among the ten nearest, and two almost equally near to the first.
    vectors = on_circle(0, 0.0100, -0.0104, *np.linspace(1, 3, 12))
    assert is_invariant(on_circle(0, 0.0100), vectors)
    assert is_invariant(2 * on_circle(0, 0.0100), vectors)
    assert not is_invariant(on_circle(0.01, 0.0100), vectors)  # cosine .99995
    assert not is_invariant(on_circle(-0.001, 0.0100), vectors)  # cosine .9999995, but the other one is nearer
