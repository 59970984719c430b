from pathlib import Path

import pytest

from bench.load.soak import PROCESSES, Look, Soaked, draw, growth, series

#: One look every 5 s: the workers grow by 1 MB per look, after a jump of 500 MB at the start.
LOOKS = tuple(
    Look(
        5.0 * number, 100 * number, 7, 30.0 + number % 2, (300.0, 1200.0, 500.0 * (number > 0) + number), (80, 200, 40)
    )
    for number in range(40)
)


def test_growth_of_second_half_per_hour():
    found = series(LOOKS)
    once = {"lag, events", "state in the last checkpoint, MB"}
    assert set(found) == {f"{process}, {quantity}" for process in PROCESSES for quantity in ("MB", "open files")} | once
    assert abs(growth(LOOKS, found["state in the last checkpoint, MB"]) or 0) < 20
    assert growth(LOOKS, found["Python workers, MB"]) == pytest.approx(720)
    assert growth(LOOKS, found["lag, events"]) == pytest.approx(0)
    assert growth(LOOKS[:4], [1.0, 2.0, 3.0, 4.0]) is None


def test_soak_chart_is_reproducible(tmp_path: Path):
    pytest.importorskip("matplotlib")
    soaked = Soaked(300, 150, 200, 5000, 0, 0, LOOKS)
    for name in ("a.svg", "b.svg"):
        draw(soaked, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert all(process in (tmp_path / "a.svg").read_text() for process in PROCESSES)
