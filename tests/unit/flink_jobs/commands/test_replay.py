"""What `replay` says of a file: unknown types before anything is sent, and bad rows at the end."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flink_jobs.cli import main
from flink_jobs.commands import replay

ROWS = """timestamp,visitorid,what,itemid
1433221332117,1,view,355908
1433221999827,1,addtocart,355908
soon,1,view,355908
1433222276276,1,transaction,355908
"""
NAMES = ("event_time=timestamp", "user_id=visitorid", "item_id=itemid", "event_type=what")
MAPS = tuple(part for name in NAMES for part in ("--map", name))


@pytest.fixture
def replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[str]]]:
    """Runs replay on ROWS with a broker that takes everything; returns the exit code and what happened, in order."""
    happened: list[str] = []

    @contextmanager
    def sending(_: object) -> Iterator[object]:
        def send(topic: str, key: bytes, value: bytes) -> None:
            happened.append(f"{topic} {key.decode()} {json.loads(value)['event_type']}")

        yield send, lambda: None

    def run(*more: str) -> tuple[int, list[str]]:
        happened.clear()
        monkeypatch.setattr(sys, "argv", ["shopstream", "replay", str(tmp_path / "data" / "rr.csv"), *more])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), list(happened)

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rr.csv").write_text(ROWS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(replay, "sending", sending)
    monkeypatch.setattr(replay, "require_topics", lambda *_: None)
    monkeypatch.setattr("flink_jobs.cli.options.notes.print", lambda line, **_: happened.append(line))
    return run


def test_unknown_types_are_told_before_anything_is_sent(
    replayed: Callable[..., tuple[int, list[str]]], capsys: pytest.CaptureFixture[str]
):
    code, (warning, *sent) = replayed(*MAPS)
    assert (code, sent) == (0, ["clickstream 1 view"])
    assert "2 of 4 events have types that are none of view, click" in warning
    assert "--map event_type:addtocart=TYPE" in warning
    _, summary = capsys.readouterr().out.splitlines()
    assert summary.startswith(
        "rejected 3 rows: event_type: none of the contract's (2), event_time: no time (1); they are"
    )
    assert summary.endswith(" in rr.csv.rejected.jsonl")
    kept = [json.loads(line) for line in Path("rr.csv.rejected.jsonl").read_text().splitlines()]
    assert [(row["line"], row["row"]) for row in kept] == [(n, ROWS.splitlines()[n - 1]) for n in (3, 4, 5)]


def test_translated_types_are_sent(replayed: Callable[..., tuple[int, list[str]]], capsys: pytest.CaptureFixture[str]):
    types = ("--map", "event_type:addtocart=add_to_cart", "--map", "event_type:transaction=purchase", "--json")
    _, sent = replayed(*MAPS, *types, "--rejected", "bad.jsonl")
    assert [each.split()[-1] for each in sent] == ["view", "add_to_cart", "purchase"]
    said = json.loads(capsys.readouterr().out)
    assert (said["events"], said["rejected"], said["rejected_file"]) == (3, {"event_time: no time": 1}, "bad.jsonl")


def test_strict_stops_at_the_first_bad_row(
    replayed: Callable[..., tuple[int, list[str]]], capsys: pytest.CaptureFixture[str]
):
    code, happened = replayed(*MAPS, "--strict")
    assert (code, [each for each in happened if each.startswith("clickstream")]) == (1, [])
    assert "rr.csv: line 3: column 'what': 'addtocart' is none of" in capsys.readouterr().err
    assert not Path("rr.csv.rejected.jsonl").exists()
