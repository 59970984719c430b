"""The worked examples of CONTRIBUTING.md: each does what the page says, in the one file that it names.

The candidate source is tested in udfs/candidates/test_source.py.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from support import ROOT

from udfs.features import compute_features, load_modules
from udfs.features.registry import FEATURES
from udfs.sessions.columns import Sessions

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)

#: An event with the new field, from its bytes to its session's column.
USE_OF_FIELD = """
from udfs.events.columns import EVENT_COLUMNS, EVENTS
from udfs.events.parsing import parse_event
from udfs.sessions.columns import Sessions

event = b'{"event_id": "e", "event_type": "view", "user_id": "u", "event_time": 0, "item_id": "i", "campaign_id": "c"}'
parsed = dict(zip(EVENT_COLUMNS, parse_event(event)))
print(parsed["campaign_id"], EVENTS.field("campaign_id").type, EVENT_COLUMNS["campaign_id"])
sessions = Sessions.from_arrays([0], [0], [1], event_time=[[0]], event_type=[["view"]], campaign_id=[["c"]])
print(sessions.campaign_id)
"""


def example(text: str) -> str:
    """The one example that has this text."""
    (found,) = [each for each in EXAMPLES if text in each]
    return str(found)


def module_of(source: str, folder: Path) -> ModuleType:
    file = folder / "worked_example.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location("worked_example", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_feature_is_declared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "worked_feature.py").write_text(example("@feature"))
    monkeypatch.syspath_prepend(tmp_path)
    try:
        load_modules(["worked_feature"])
        sessions = Sessions.from_arrays(
            [0], [2], [3], event_time=[[0, 1, 2]], event_type=[["view"] * 3], price=[[5.0, np.nan, 2.5]]
        )
        assert compute_features(sessions)[0]["price_range"] == 2.5
    finally:
        del FEATURES["price_range"]


def test_field_is_one_line(tmp_path: Path):
    shutil.copytree(ROOT / "udfs", tmp_path / "udfs", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "udfs" / "contracts" / "clickstream.py"
    declared = file.read_text()
    assert declared.count("    session_id: str") == 1
    file.write_text(declared.replace("    session_id: str", example("campaign_id") + "    session_id: str"))
    used = subprocess.run(
        [sys.executable, "-c", USE_OF_FIELD], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert used.stdout.splitlines() == ["c string STRING", "['c']"], used.stderr


def test_job_is_a_script(tmp_path: Path):
    job = module_of(example("StatementSet"), tmp_path)
    assert job.NAME == "shopstream-event-counts"
    assert callable(job.main)
