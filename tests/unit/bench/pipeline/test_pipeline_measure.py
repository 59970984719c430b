import psutil
import pytest

from bench.pipeline.measure import Usage
from bench.pipeline.run import Options, run
from udfs.core.errors import ShopstreamError


def test_usage_includes_child_processes():
    with psutil.Popen(["bash", "-c", "i=0; while ((i < 200000)); do ((i++)); done & wait"]) as process:
        usage = Usage([process.pid])
        while process.poll() is None:
            usage.update()
    assert usage.cpu_s > 0
    usage.update()
    assert usage.rss_mb == 0


def test_unknown_contenders_are_refused():
    with pytest.raises(ShopstreamError, match="--only names sparks; the contenders are ours, floor"):
        run(Options(only=("ours", "sparks")), as_json=True, chart=None)
