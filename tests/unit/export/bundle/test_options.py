from pathlib import Path
from typing import Any

import pytest

from export.__main__ import main
from export.bundle.options import ExportOptions
from udfs.core.errors import ShopstreamError


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"variants": ("fp32", "fp8")}, "unknown variant fp8"),
        ({"variants": ("int8",)}, "has to name fp32"),
        ({"learn": True, "recommend_seen": True}, "--repeats needs past sessions"),
        ({"learn": True, "tune_minutes": 1.0}, "--tune needs past sessions"),
        ({"learn": True, "gate": {"new_items": 0.5}}, "--gate new_items is of a ranker"),
        ({"sessions": Path("clicks.csv"), "gate": {"hr_20": 0.5}}, "--gate hr_20 is of a ranker"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], says: str):
    with pytest.raises(ShopstreamError, match=says):
        ExportOptions(Path("catalog.csv"), Path("out"), **options).check()  # type: ignore[arg-type]


def test_prefixes_are_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: dict[str, Any] = {}

    def open_source(_model: str | None, **prefixes: str | None) -> None:
        asked.update(prefixes)
        raise ShopstreamError("enough")

    monkeypatch.setattr("export.bundle.steps.open_source", open_source)
    with pytest.raises(SystemExit):
        main(["bundle", "--catalog", "c.csv", "--out", str(tmp_path), "--query-prefix", "query: "])
    assert asked == {"query_prefix": "query: ", "document_prefix": None}
