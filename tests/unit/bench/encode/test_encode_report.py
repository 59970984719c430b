from dataclasses import replace
from pathlib import Path

import pytest

from bench.chart import require_drawing
from bench.encode.report import Result, Row, comparison, draw, median_ratio
from bench.encode.text_sets import TextSet

ROW = Row("ours-int8", "short", 1000.0, 6.5, 0.9971, 0.9951, 0.95, True, 210.0)


def test_ratio_is_median_of_rounds():
    # The machine was twice as slow in round 2: the medians of the seconds, 2 and 1, would say 2.
    assert median_ratio([2.0, 9.0, 1.5], [1.0, 2.0, 0.5]) == 3.0
    assert median_ratio(None, [1.0]) is None


def test_comparison_takes_the_fastest():
    sets = [TextSet("short", "", ["mug"]), TextSet("zipf", "", ["mug"], 256)]
    peer, slow = replace(ROW, name="openvino-int8", texts_per_s=500.0), replace(ROW, name="fastembed", texts_per_s=9.0)
    results = [Result(ROW, [1.0, 2.0, 3.0], ""), Result(peer, [2.0, 3.0, 12.0], ""), Result(slow, [9.0, 9.0, 9.0], "")]
    assert comparison(sets, results) == "ours to the fastest peer: short 2.00 × (ours-int8 to openvino-int8)"
    assert comparison(sets, results[:1]) == ""


@pytest.mark.parametrize("name", ["chart.svg", "chart.png"])
def test_chart_is_reproducible(tmp_path: Path, name: str):
    rows = [ROW, replace(ROW, name="openvino-int8", cosine_mean=None), replace(ROW, text_set="tokens256")]
    require_drawing(tmp_path / name)
    drawn = []
    for _ in range(2):
        draw(rows, tmp_path / name)
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0] == drawn[1]
    draw(rows[:1], tmp_path / name)
    assert (tmp_path / name).read_bytes() != drawn[0]
