"""The tests that need a CUDA device. bench/gpu/run.sh runs them over its own bundle, without the other tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def encoder_bundles(request: pytest.FixtureRequest) -> Path:
    """A folder of bundles with the variants fp32 and fp16."""
    given = os.environ.get("SHOPSTREAM_GPU_BUNDLES")
    return Path(given) if given else request.getfixturevalue("bundles")
