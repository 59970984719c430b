"""Features of the item-to-item matrices are those of plain loops."""

from pathlib import Path

import numpy as np
import pytest
from histories import bundle_of, of_letters, tiny

from export.ranker.positions import candidates
from udfs.bundles.bundle import Bundle
from udfs.bundles.contents import CoVisits
from udfs.candidates.item_to_item import MATRICES, SUFFIXES
from udfs.candidates.source import DECAY, SessionContext


def dense(matrix: CoVisits, items: int) -> np.ndarray:
    weights = np.zeros((items, items))
    for row in range(items):
        entries = slice(matrix.offsets[row], matrix.offsets[row + 1])
        weights[row, matrix.columns[entries]] = matrix.weights[entries]
    return weights


def naive(weights: np.ndarray, context: SessionContext, session: int) -> dict[str, np.ndarray]:
    """Each feature of one matrix for one session and every item, by the end of its name."""
    recent = np.flatnonzero(context.session == session)  # newest first
    rows = weights[context.item[recent]]
    nothing = np.zeros(weights.shape[1])
    by_age = sum((DECAY ** context.age[index] * row for index, row in zip(recent, rows, strict=True)), nothing)
    last, second, third = [*rows, nothing, nothing, nothing][:3]
    return {
        "": by_age,
        "_last": last,
        "_second": second,
        "_third": third,
        "_most": rows.max(axis=0, initial=0),
        "_items": (rows > 0).sum(axis=0),
    }


@pytest.mark.parametrize("seed", range(5))
def test_features_are_those_of_loops(seed: int, tmp_path: Path):
    rng = np.random.default_rng(seed)

    def sessions(count: int) -> list[tuple[str, str]]:
        return [(f"u{number}", "".join(rng.choice([*"abcdef"], rng.integers(1, 7)))) for number in range(count)]

    generator = bundle_of(tmp_path, tiny(*sessions(8)))
    found = candidates(generator, tiny(*sessions(6)), of_letters)
    bundle = Bundle(tmp_path, manifest=None)  # type: ignore[arg-type]
    matrices = dict(zip(MATRICES, (bundle.co_visits(), bundle.near(), bundle.follows()), strict=True))
    values = dict(zip(generator.feature_names, found.features.T, strict=True))
    for name, matrix in matrices.items():
        for session in range(6):
            chosen = found.session == session
            expected = {
                suffix: column[found.item[chosen]]
                for suffix, column in naive(dense(matrix, 6), found.context, session).items()
            }
            for suffix in ("", "_last"):
                expected[f"{suffix}_share"] = expected[suffix] / (expected[suffix].max(initial=0) or 1)
            assert expected.keys() == set(SUFFIXES)
            for suffix, column in expected.items():
                assert values[name + suffix][chosen] == pytest.approx(column, rel=1e-6), name + suffix
