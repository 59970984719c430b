import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.encode.text_sets import TextSet
from bench.encode.worker import Contender, Worker
from udfs.core.errors import ShopstreamError

WORKER = """
import numpy as np
from bench.encode.peers import serve

def load(config):
    print("loading", config["name"])
    return lambda batch: lambda texts: (print("noise"), np.full((len(texts), 2), [batch, len(texts)], np.float32))[1]

serve(load)
"""


def test_printing_does_not_disturb_worker(tmp_path: Path):
    contender = Contender("chatty", [sys.executable, "-c", WORKER], {"name": "chatty"}, {"short": 32})
    text_set = TextSet("short", "", ["a", "b", "c", "d", "e"], chunk=2)
    (tmp_path / "short.json").write_text(json.dumps(text_set.texts))
    with Worker(contender, tmp_path) as worker:
        assert 0 < worker.encode(text_set, save=tmp_path / "all.npy") < 10
        worker.encode(text_set, limit=3, batch=16, save=tmp_path / "some.npy")
        assert 5 < worker.memory_mb < 1000
    assert np.load(tmp_path / "all.npy").tolist() == [[32, 2], [32, 2], [32, 2], [32, 2], [32, 1]]
    assert np.load(tmp_path / "some.npy").tolist() == [[16, 2], [16, 2], [16, 1]]


def test_failed_worker_gives_reason(tmp_path: Path):
    program = "import sys; sys.exit('no such model')"
    with pytest.raises(ShopstreamError, match=r"^peer failed: no such model$"):
        Worker(Contender("peer", [sys.executable, "-c", program], {}), tmp_path)
