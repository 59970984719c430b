import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from support import ROOT

from udfs.features.page import page
from udfs.features.registry import FEATURES, load_modules
from udfs.sessions.columns import Sessions
from udfs.sessions.frame import EventFrame

PAGE = ROOT / "docs" / "features.md"


def test_page_matches_declarations():
    assert PAGE.read_text() == page(), "run `python -m udfs.features > docs/features.md`"
    assert all(declared.doc.endswith(".") for declared in FEATURES.values())


def test_page_example_works(tmp_path: Path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "example_features.py").write_text(code)
    shown = subprocess.run(
        [sys.executable, "-m", "udfs.features", "example_features"],
        env={"PYTHONPATH": str(tmp_path)}, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "| `price_last` | float64 | currency | Latest known price. |" in shown.stdout
    before = dict(FEATURES)
    sys.path.insert(0, str(tmp_path))
    try:
        load_modules(["example_features"])
        events = Sessions.from_arrays(
            [1], [2], [2], event_time=[[1, 2]], event_type=[["view", "view"]], price=[[4.0, np.nan]]
        )
        assert FEATURES["price_last"].compute(EventFrame.of(events)).tolist() == [4.0]
    finally:
        sys.path.remove(str(tmp_path))
        FEATURES.clear()
        FEATURES.update(before)
