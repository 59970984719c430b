import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT
from tiny_sessions import HEADER, FixedLists, write_lines

from bench.quality.baselines import published
from bench.quality.contenders import DEFAULTS
from bench.quality.data import read_split
from bench.quality.neighbours import Vstan
from bench.quality.ours import ABLATIONS
from bench.quality.report import Row
from bench.quality.run import Evaluation, Options, run
from udfs.core.errors import ShopstreamError


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "quality", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_quick_run_of_all(shop_folder: Path, bundles: Path, tmp_path: Path):
    report = tmp_path / "report.md"
    options = ("--quick", "--no-repeats", "--bundles", str(bundles), "--json", "--report", str(report))
    ran = bench("--data", str(shop_folder), *options)
    assert ran.returncode == 0, ran.stderr
    rows = [Row(**row) for row in json.loads(ran.stdout)]
    assert {row.name for row in rows} == set(DEFAULTS)
    assert [row.mrr_20 for row in rows] == sorted((row.mrr_20 for row in rows), reverse=True)
    by_name = {row.name: row for row in rows}
    assert by_name["pop"].mrr_20 < by_name["vstan"].mrr_20
    for row in rows:
        assert 0 <= row.mrr_5 <= row.mrr_10 <= row.mrr_20 <= row.ndcg_20 <= row.hr_20 <= 1
        assert row.hr_5 <= row.hr_10 <= row.hr_20
        low, high = row.intervals["hr_20"]
        assert low < row.hr_20 < high
        assert 0 < row.coverage <= 1
        assert 0 <= (row.diversity or 0) <= 1
        assert 0 < row.p50_ms <= row.p99_ms
        assert (row.positions, row.repeats, row.diversity_by) == (rows[0].positions, False, "category")
        assert (row.cold_hr_20 is None) == (row.cold_share == 0)
    assert by_name["vstan"].trials == 3
    assert by_name["vstan-published"].trials == 0
    assert by_name["vstan-published"].parameters == published(Vstan).parameters
    lines = report.read_text().splitlines()
    assert sum(line.startswith("| ") for line in lines) == 2 + len(DEFAULTS)
    assert f"| {rows[0].name} |" in report.read_text()


def test_ablation_and_shops_without_sessions(
    shop_folder: Path, bundles: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for module in ("ours", "report", "run"):
        few = {name: ABLATIONS[name] for name in ("ours-without-history", "ours-without-hidden-items")}
        monkeypatch.setattr(f"bench.quality.{module}.ABLATIONS", few)
    only = ("ours-prior", "ours-blend", "pop")
    run(Options(shop_folder, only, False, True, 1, 300, bundles=bundles, held_back=True, ablate=True), as_json=False)
    out = capsys.readouterr().out
    measured = set(re.findall(r"^ *(ours-[a-z-]+|pop) ", out, re.MULTILINE))
    assert measured == {"ours-no-text", "ours-without-history", "ours-without-hidden-items", *only}
    assert len(re.findall(r"^MRR@20 [+-]0\.\d{4} \(.*\) (?:without-|no-text)", out, re.MULTILINE)) == 3


def test_held_back_sessions_leave_the_test_out(shop_folder: Path):
    split, held_back = (read_split(shop_folder, repeats=False, held_back=value) for value in (False, True))
    assert held_back.test.time.max() <= split.train.time.max() < split.test.start.min()
    assert len(held_back.train) + len(held_back.test) == len(split.train)


def test_draws_need_a_size(shop_folder: Path):
    ran = bench("--data", str(shop_folder), "--draws", "2")
    assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1)
    assert "--sessions" in ran.stderr


def test_draws_of_small_shops(shop_folder: Path, bundles: Path, capsys: pytest.CaptureFixture[str]):
    options = Options(
        shop_folder, ("ours", "personal", "sr"), False, True, 1, 300, bundles=bundles, sessions=700, draws=2
    )
    run(options, as_json=False)
    out = capsys.readouterr().out
    sizes = [int(line.split()[2].replace(",", "")) for line in out.splitlines() if line.startswith("trained on ")]
    assert len(sizes) == 2
    assert all(600 < size <= 700 for size in sizes)
    lines = [line for line in out.splitlines() if line.startswith(("draw ", "mean of 2 draws: "))]
    assert [line[:6] for line in lines] == ["draw 1", "draw 2", "mean o"]
    run(options, as_json=True)
    rows = [Row(**row) for row in json.loads(capsys.readouterr().out)]
    assert {row.name for row in rows} == {"ours", "personal", "sr"}
    by_draw = [rows[:3], rows[3:]]
    assert len({row.positions for row in rows}) <= 2
    for draw in by_draw:
        (ours,) = (row for row in draw if row.name == "ours")
        for row in draw:
            assert row.below_ours is not None
            mean, low, high = row.below_ours
            assert mean == pytest.approx(ours.mrr_20 - row.mrr_20, abs=2e-6)
            assert low <= mean <= high


def test_table_names_next_step(shop_folder: Path, capsys: pytest.CaptureFixture[str]):
    run(Options(shop_folder, only=("pop", "sr"), trials=2, positions=100), as_json=False)
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines() if line[1:4] in ("sr ", "pop")] == ["sr", "pop"]
    assert "best of 2 settings" in out
    assert "sessions drawn whole, seed 0; with repeats" in out
    assert "next: --report FILE.md" in out
    assert "sr: HR@20 " in err


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"only": ("theirs",)}, "--only names theirs; the contenders are ours, ours-no-text, "),
        ({"report": Path("nowhere/report.md")}, "--report nowhere/report.md: there is no folder "),
        ({"data": Path("nowhere")}, "nowhere has no sessions.csv or sessions.csv.gz; --prepare makes one"),
    ],
)
def test_quality_mistakes_are_one_line(shop_folder: Path, options: dict[str, Any], error: str):
    with pytest.raises(ShopstreamError) as raised:
        run(Options(**{"data": shop_folder} | options), as_json=False)
    assert str(raised.value).startswith(error)


def test_cold_items_count(tmp_path: Path):
    write_lines(tmp_path, "sessions.csv", HEADER, "s,u,1,view,p", "s,u,2,view,q")
    write_lines(
        tmp_path, "test_sessions.csv", HEADER, "t,u,5,view,p", "t,u,6,view,new", "t2,u,7,view,q", "t2,u,8,view,p"
    )
    write_lines(tmp_path, "items.csv", "item_id,title", "never,a", "q,b")
    evaluation = Evaluation.of(Options(tmp_path, quick=True), read_split(tmp_path, repeats=True))
    assert evaluation.split.train.items == ["p", "q", "new", "never"]
    row, _ = evaluation.measure("fixed", FixedLists(3, 2, *[-1] * 18), 0, None)
    assert (row.hr_20, row.mrr_20, row.cold_hr_20, row.cold_share) == (0.5, 0.25, 1, 0.5)
    assert row.coverage == pytest.approx(1 / 3, abs=1e-6)  # never, of p, q and never
    assert row.novelty == pytest.approx(math.log2(6), abs=1e-6)  # 1 of 2 + 4
    assert (row.diversity, row.parameters, row.valid_mrr_20) == (1, {}, None)
    everything, _ = evaluation.measure("fixed", FixedLists(0, 1, *[-1] * 18), 0, None)
    assert (everything.coverage, everything.cold_hr_20) == (pytest.approx(2 / 3, abs=1e-6), 0)
    assert everything.diversity == 0  # p and q were in the same sessions


def test_too_few_sessions_are_refused(tmp_path: Path):
    write_lines(tmp_path, "sessions.csv", HEADER, "s,u,1,view,p", "t,u,2,view,p", "t,u,3,view,p")
    with pytest.raises(ShopstreamError, match="one of two items or more to test"):
        read_split(tmp_path, repeats=False)
    write_lines(tmp_path, "test_sessions.csv", HEADER, "t,u,2,view,p", "t,u,3,view,q")
    write_lines(tmp_path, "sessions.csv", HEADER, "s,u,1,view,p")
    for name, error in (
        ("stan", "too few training sessions to tune on"),
        ("ours-no-text", "too few to learn a ranker"),
    ):
        with pytest.raises(ShopstreamError, match=error):
            run(Options(tmp_path, only=(name,)), as_json=False)
