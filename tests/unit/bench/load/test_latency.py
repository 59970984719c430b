import pytest

from bench.load.latency import run_latency
from bench.pipeline.run import Options
from udfs.errors import ShopstreamError


def test_unknown_modes_are_refused():
    with pytest.raises(ShopstreamError, match=r"--only names 2s; the modes are at-least-once, .*1s-changelog"):
        run_latency(Options(only=("1s", "2s")), 60, 1, as_json=True)
