import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.gpu import pack
from bench.gpu.report import markdown
from bench.gpu.start import LIST, check, unpack


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pack of two small files in pieces of 100 bytes."""
    monkeypatch.setattr(pack, "PIECE_BYTES", 100)
    content = tmp_path / "content"
    (content / "folder").mkdir(parents=True)
    (content / "one.bin").write_bytes(bytes(range(256)) * 3)
    (content / "folder" / "two.txt").write_text("two")
    (content / "folder" / "RECORD").write_text("changes with every installation")
    out = tmp_path / "pack"
    pieces = pack.write_pieces(content, out)
    (out / LIST).write_text(json.dumps({"python": f"3.{sys.version_info.minor}", "version": "test", "pieces": pieces}))
    return out


def pieces_of(packed: Path) -> list[dict[str, str]]:
    return json.loads((packed / LIST).read_text())["pieces"]


def start(packed: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(pack.__file__).with_name("start.py")), "--pack", str(packed), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_pieces_are_one_archive(packed: Path, tmp_path: Path):
    assert len(pieces_of(packed)) > 2
    assert all(piece["bytes"] <= 100 for piece in pieces_of(packed))
    assert check(packed, pieces_of(packed)) == []
    unpack(packed, pieces_of(packed), tmp_path / "work")
    assert (tmp_path / "work" / "one.bin").read_bytes() == bytes(range(256)) * 3
    assert (tmp_path / "work" / "folder" / "two.txt").read_text() == "two"
    assert not (tmp_path / "work" / "folder" / "RECORD").exists()


def test_same_files_give_same_pieces(packed: Path, tmp_path: Path):
    (tmp_path / "content" / "one.bin").touch()
    again = pack.write_pieces(tmp_path / "content", tmp_path / "again")
    assert again == pieces_of(packed)


def test_flipped_byte_is_refused(packed: Path):
    damaged = packed / pieces_of(packed)[1]["name"]
    content = bytearray(damaged.read_bytes())
    content[50] ^= 1
    damaged.write_bytes(content)
    for option in ([], ["--receive"]):
        done = start(packed, *option)
        assert done.returncode == 2
        assert done.stderr == f"error: {damaged} is damaged: its SHA-256 is not the one in {LIST}; copy it again\n"


def test_pieces_may_arrive_one_by_one(packed: Path):
    late = packed / pieces_of(packed)[0]["name"]
    content = late.read_bytes()
    late.unlink()
    count = len(pieces_of(packed))
    received = start(packed, "--receive")
    assert (received.returncode, received.stdout) == (
        0,
        f"{count - 1} of {count} pieces are there and intact\nmissing: {late.name}\n",
    )
    assert start(packed).returncode == 1
    late.write_bytes(content)
    assert start(packed, "--receive").stdout == f"{count} of {count} pieces are there and intact\n"


def test_pack_for_another_python_is_refused(packed: Path):
    listed = json.loads((packed / LIST).read_text())
    (packed / LIST).write_text(json.dumps(listed | {"python": "3.9"}))
    done = start(packed)
    assert done.returncode == 2
    assert "the pack is for Python 3.9, this is 3." in done.stderr


def test_missing_pack_names_the_command(tmp_path: Path):
    done = start(tmp_path)
    assert done.returncode == 2
    assert "make a pack with `make gpu-pack`" in done.stderr


def test_report_gives_ratios_and_reasons():
    speeds = {"texts_per_s": {"titles": 5000.0}, "load_s": 1.5, "memory_mib": 900, "model_share": 0.8, "calls": {}}
    report = {
        "date": "2026-01-01",
        "version": "abc",
        "rehearsal": False,
        "machine": {"gpu": "X", "cpu": "Y", "cores": 16, "python": "3.12", "onnxruntime": "1.31.1"},
        "steps": {
            "speed-cuda-fp16": speeds,
            "speed-cpu-int8-2-cores": speeds | {"texts_per_s": {"titles": 400.0}},
            "sentence-transformers": {"texts_per_s": {"titles": 2500.0}},
            "speed-tensorrt-int8": {"not_measured": "no TensorRT here"},
        },
    }
    page = markdown(report)
    assert "cuda-fp16 to cpu-int8-2-cores: titles 12.50 ×" in page
    assert "cuda-fp16 to sentence-transformers: titles 2.00 ×" in page
    assert "- speed-tensorrt-int8: no TensorRT here" in page
