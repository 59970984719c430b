import json

import pytest

from bench import input as input_bench
from bench.__main__ import main


def test_readers_agree_and_are_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(input_bench, "FILES", {"ISO times": ("iso", 0.3)})
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["input", "--rows", "1000", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [each["reader"] for each in found] == ["shopstream", "pandas", "duckdb"]
    assert all(each["rows_per_second"] > 0 and each["peak_mb"] > 10 for each in found)
