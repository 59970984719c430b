from pathlib import Path

import pytest

from bench.__main__ import main
from bench.load.profile import Frame, draw, from_page, from_stacks
from udfs.core.errors import ShopstreamError

STACKS = """run (threading.py:10);eval (udfs/functions.py:5);_scores (udfs/learned.py:90) 6
run (threading.py:10);eval (udfs/functions.py:7);to_arrow (pyarrow/x.py:3) 3
wait (threading.py:20) 1
"""
PAGE = """<script>
f(0,0,10,3,'all')
f(1,0,7,1,'org/apache/flink/table/A$B$$Lambda.process')
f(2,0,4,2,'org/apache/flink/kafka/shaded/org/apache/kafka/Sender.run')
f(1,7,3,4,'GCTaskThread::run')
"""


def test_frames_of_stacks():
    frames = from_stacks(STACKS)
    assert set(frames) == {
        Frame(0, 0, 10, "all"),
        Frame(1, 0, 9, "run (threading.py)"),
        Frame(2, 0, 9, "eval (udfs/functions.py)"),
        Frame(3, 0, 6, "_scores (udfs/learned.py)"),
        Frame(3, 6, 3, "to_arrow (pyarrow/x.py)"),
        Frame(1, 9, 1, "wait (threading.py)"),
    }
    assert len(frames) == 6


def test_frames_of_profiler_page():
    assert from_page(PAGE) == [
        Frame(0, 0, 10, "all"),
        Frame(1, 0, 7, "Flink: A$B$$Lambda.process"),
        Frame(2, 0, 4, "Kafka: Sender.run"),
        Frame(1, 7, 3, "GCTaskThread::run"),
    ]


@pytest.mark.parametrize("frames_of", [from_page, from_stacks])
def test_empty_profile_is_refused(frames_of):
    with pytest.raises(ShopstreamError):
        frames_of("\n")


def test_flame_graph_is_reproducible(tmp_path: Path):
    pytest.importorskip("matplotlib")
    for name in ("a.svg", "b.svg"):
        draw(from_stacks(STACKS), "workers", tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "eval (udfs/functions.py)" in (tmp_path / "a.svg").read_text()
    draw(from_page(PAGE), "task manager", tmp_path / "c.svg")  # dollar signs are not mathematics
    assert "A$B$$Lambda.process" in (tmp_path / "c.svg").read_text()


def test_missing_folder_is_one_line_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match=r"^1$"):
        main(["profile", "--charts", str(tmp_path / "none")])
    assert "there is no folder" in capsys.readouterr().err
