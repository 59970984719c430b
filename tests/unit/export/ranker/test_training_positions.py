from pathlib import Path

import numpy as np
import pytest
from histories import bundle_of, tiny

from export.history.interactions import Interactions
from export.ranker import positions
from export.ranker.positions import candidates, sample_groups
from udfs.candidates.generator import CandidateGenerator


def test_prefixes_are_what_the_job_sees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """An item met twice stays twice in a prefix; without repeats it is asked for once."""
    seen: list[list[int]] = []

    def spy(generator: CandidateGenerator, sofar: Interactions, encode: object) -> object:
        seen.extend(
            sofar.item[first:last].tolist() for first, last in zip(sofar.offsets, sofar.offsets[1:], strict=False)
        )
        return candidates(generator, sofar, encode)  # type: ignore[arg-type]

    monkeypatch.setattr(positions, "candidates", spy)
    generator = bundle_of(tmp_path, tiny(("u", "abc")))
    log = tiny(("u", "abac"))
    vectors = np.eye(6, dtype=np.float32)
    sample_groups(
        generator,
        log,
        lambda texts, _: vectors[[ord(t) - 97 for t in texts]],
        np.random.default_rng(0),
        9,
        print,
        recommend_seen=False,
    )
    assert seen == [[0], [0, 1, 0]]
