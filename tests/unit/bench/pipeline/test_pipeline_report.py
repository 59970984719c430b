from pathlib import Path

import pytest

from bench.pipeline.measure import Run, Sample
from bench.pipeline.prepare import Prepared
from bench.pipeline.report import draw, row_of, steady, with_ratio


def samples(*looks: tuple[float, int]) -> list[Sample]:
    return [Sample(at, records, cpu_s=at * 2, rss_mb=100 + at) for at, records in looks]


PREPARED = Prepared(150, "", frozenset(f"u/{number}" for number in range(100)), [])
LOOKS = samples((0, 0), (10, 20), (11, 60), (14, 110), (17, 110))


def test_rates_span_first_to_last_result():
    window = steady(LOOKS)
    assert window is not None
    assert [sample.at for sample in window] == [10, 14]
    assert steady(samples((0, 0), (5, 0))) is None
    assert steady(samples((0, 0), (5, 100), (8, 100))) is None
    # 110 offsets are 100 records: transactions end with one.
    row = row_of("ours", [Run(LOOKS, 200, True, dict.fromkeys(PREPARED.due, 1), 100)], PREPARED, None)
    assert row.recommendations_per_s == round(90 * 100 / 110 / 4, 1)
    assert row.events_per_s == round(90 * 100 / 110 * 1.5 / 4, 1)
    assert row.texts_per_s == 50
    assert row.cpu_s_per_100k == round(8 / (90 * 100 / 110 * 1.5) * 1e5, 2)
    assert (row.startup_s, row.peak_rss_mb) == (10, 117)
    assert (row.missing, row.doubled, row.unexpected) == (0, 0, 0)
    assert with_ratio(row, row.events_per_s).ratio_ours_to_it == 1
    assert with_ratio(row, None).ratio_ours_to_it is None


def test_wrong_records_are_counted():
    ours = Run(LOOKS, None, True, dict.fromkeys(PREPARED.due, 1), 100)
    digests = dict.fromkeys(sorted(PREPARED.due)[:80], 1) | {"u/x": 1}
    digests["u/0"] = 2
    row = row_of("loop", [Run(LOOKS, None, True, digests, 84)], PREPARED, ours)
    assert (row.missing, row.doubled, row.unexpected, row.same_as_ours) == (20, 3, 1, round(79 / 81, 4))
    cut_off = row_of("loop", [Run(LOOKS, None, False, digests, 84)], PREPARED, ours)
    assert cut_off.missing is None


def test_pipeline_chart_is_reproducible(tmp_path: Path):
    pytest.importorskip("matplotlib")
    row = row_of("ours", [Run(LOOKS, None, True, dict.fromkeys(PREPARED.due, 1), 100)], PREPARED, None)
    for name in ("a.svg", "b.svg"):
        draw([row], tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "exactly-once" in (tmp_path / "a.svg").read_text()
