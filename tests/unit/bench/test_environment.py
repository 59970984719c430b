from pathlib import Path

import pytest
import torch
from rich.console import Console
from support import ROOT

from bench import environment
from bench.encode.contenders import PEER_PACKAGES as ENCODE_PACKAGES
from bench.encode.peers import LOADERS, SETTINGS
from bench.environment import peers_versions
from bench.pipeline.contenders import GUARANTEES, NAMES, PEER_PACKAGES, PROCESS_GROUPS
from bench.pipeline.peers import PEERS
from deploy.local.jars import read_lock
from udfs.core.errors import ShopstreamError


def test_encode_peers_are_complete():
    assert set(SETTINGS) == set(LOADERS)
    assert all(peers_versions("encode", *ENCODE_PACKAGES).values())
    assert torch.__version__.startswith(peers_versions("encode", "torch")["torch"])  # downloaded once, not twice


def test_peers_need_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "peers-encode.lock").write_text("")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ShopstreamError, match="uv is needed to install packages"):
        environment.peers_python("encode", "some MB", Console(quiet=True))


def test_pipeline_contenders_are_complete(monkeypatch: pytest.MonkeyPatch):
    assert set(PROCESS_GROUPS) == set(PEERS)
    assert set(GUARANTEES) == set(NAMES)
    monkeypatch.setattr(environment, "ROOT", ROOT)
    assert set(peers_versions("pipeline", *PEER_PACKAGES)) == set(PEER_PACKAGES)
    # PySpark and its Kafka connector are one version.
    connector = next(jar for jar in read_lock() if jar.artifact.startswith("spark-sql-kafka"))
    assert peers_versions("pipeline", "pyspark") == {"pyspark": connector.version}
