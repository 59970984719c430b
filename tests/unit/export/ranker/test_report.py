from pathlib import Path

import pytest
from histories import DIMENSIONS, trained
from support import run_command

from export.ranker.positions import bare_manifest
from export.ranker.report import SHOWN, most_important, write_report


def test_report_has_chart_and_same_bytes(tmp_path: Path):
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name / "ranker.md", bare_manifest(DIMENSIONS), trained())
        written.append([(tmp_path / name / f"ranker.{kind}").read_text() for kind in ("md", "svg")])
    assert written[0] == written[1]
    page, chart = written[0]
    assert "](<ranker.svg>)" in page
    assert all(f"| {name} |" in page for name in trained().info.feature_names)
    assert f"| mrr_20 | {trained().info.quality['mrr_20']:g} |" in page
    assert all(name in chart for name, _ in most_important(trained())[:SHOWN])
    assert f"trees: {max(trained().mrr.values()):.4f}" in chart


@pytest.mark.parametrize(("report", "says"), [("ranker.txt", "ends in .md"), ("none/ranker.md", "there is no folder")])
def test_unwritable_report_is_refused_first(report: str, says: str, tmp_path: Path):
    files = [str(tmp_path / name) for name in ("catalog.csv", "sessions.csv", "out", report)]
    given = [
        part for pair in zip(("--catalog", "--sessions", "--out", "--report"), files, strict=True) for part in pair
    ]
    ran = run_command("export", "train", *given)
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    assert says in ran.err
