import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from bench.encode.report import Row


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--only", "theirs"], "--only names theirs; the contenders are ours-int8, "),
        (["--chart", "chart.pdf"], "--chart chart.pdf: use a name that ends in .svg or .png"),
        (["--catalog", "nowhere.csv"], "nowhere.csv: no such file"),
    ],
)
def test_encode_mistakes_are_one_line(arguments: list[str], error: str):
    ran = bench("encode", "--quick", *arguments)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith(f"error: {error}")
    assert ran.stdout == ""


def test_quick_run_of_ours(bundles: Path, shop: Path):
    given = ("--quick", "--bundles", str(bundles), "--catalog", str(shop / "catalog.jsonl"))
    ran = bench("encode", *given, "--json", "--only", "ours-int8-onnxruntime,ours-int8-cached", "--only", "ours-fp32")
    assert ran.returncode == 0, ran.stderr
    rows = [Row(**row) for row in json.loads(ran.stdout)]
    sets = ("short", "tokens64", "tokens256", "zipf")
    expected = {(name, text_set) for name in ("ours-int8-onnxruntime", "ours-fp32") for text_set in sets}
    assert {(row.name, row.text_set) for row in rows} == expected | {("ours-int8-cached", "zipf")}
    for row in rows:
        assert row.batch_invariant, row
        assert 0 < row.texts_per_s < 1e6
        assert 50 < row.memory_mb < 10_000
        # without Sentence Transformers there is nothing to compare with
        assert {row.ratio_to_sentence_transformers, row.cosine_mean, row.cosine_p01, row.top10_overlap} == {None}
