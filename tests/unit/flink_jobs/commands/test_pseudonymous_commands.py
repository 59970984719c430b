from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pseudonymous import JULY, KEYS, SECRETS, event, file_of, line
from support import run_command

from export.history.interactions import interactions
from export.history.neighbours import past_sessions
from export.history.reading import read_past
from flink_jobs.commands.backfill import recorded
from flink_jobs.commands.check import expected_ids
from flink_jobs.commands.dlq import is_replayable
from flink_jobs.settings.loading import load_settings
from flink_jobs.submit.command import check_ready
from flink_jobs.submit.registry import JOBS
from udfs.bundles.forgotten import ErasureList
from udfs.core.errors import ShopstreamError
from udfs.core.hashing import shopper_hash
from udfs.events.files import read_events
from udfs.events.parsing import parse_events
from udfs.privacy.masking import WITHHELD

U1, U2 = (KEYS.pseudonyms([user], [JULY])[0] for user in ("u1", "u2"))


def test_withheld_record_is_not_replayed():
    class Letter:
        key, headers = b"k", [("__connect.errors.topic", b"clickstream")]
        value = b"{"

    assert is_replayable(Letter())
    Letter.value = WITHHELD
    assert not is_replayable(Letter())


@pytest.fixture
def keyed(tmp_path: Path) -> list[str]:
    lines = (line("k1", "2026-01-01T00:00:00Z", SECRETS[0]), line("k2", "2026-07-01T00:00:00Z", SECRETS[1]))
    return [f"privacy.keys_file={file_of(tmp_path, *lines)}", f"home={tmp_path}"]


def test_event_files_get_the_jobs_pseudonyms(keyed: list[str], tmp_path: Path):
    file = tmp_path / "events.jsonl"
    users = ["u1", "u2", U2, "u1"]
    values = [event(user, JULY - place % 2, event_id=f"e{place}") for place, user in enumerate(users)]
    file.write_bytes(b"\n".join(values))
    names = [str(row[4]) for row in parse_events(values, KEYS.pseudonyms)]
    settings = load_settings(None, keyed)
    with recorded(settings, file, {}, "auto") as found:
        (copy,) = Path(found.uri.removeprefix("file://")).iterdir()
        assert pq.read_table(copy)["user_id"].to_pylist() == names
    due = expected_ids(settings, file, mapping={}, preset="auto", limit=None)
    assert set(due) == {f"{name}/e{place}" for place, name in enumerate(names)}
    for batch in read_events(file):
        assert KEYS.pseudonymize(batch).drop_columns(["user_id"]).equals(batch.drop_columns(["user_id"]))


def test_training_uses_the_jobs_pseudonyms(keyed: list[str], tmp_path: Path):
    sessions, settings = tmp_path / "sessions.jsonl", load_settings(None, keyed)
    sessions.write_bytes(
        b"\n".join(event(user, JULY - place, event_id=f"e{place}") for place, user in enumerate("uvuw"))
    )
    ErasureList.read(tmp_path).with_more(map(shopper_hash, KEYS.aliases("w")), JULY).write(tmp_path)
    log = interactions(read_past(sessions, {}, settings.privacy.keys_file, tmp_path), 1_800_000)
    names = {name for user in "uv" for name in KEYS.aliases(user)[1:]} - {KEYS.pseudonyms("v", [JULY])[0]}
    assert set(log.users) == names
    assert set(past_sessions(log).shoppers.tolist()) == set(map(shopper_hash, names))


def test_submission_checks_the_keys_file(tmp_path: Path):
    with pytest.raises(ShopstreamError, match="none, cannot be read"):
        check_ready(JOBS["recommend"], load_settings(None, [f"privacy.keys_file={tmp_path}/none"]))


def test_command_prints_pseudonyms(keyed: list[str]):
    options = [part for each in keyed for part in ("--set", each)]
    ran = run_command("privacy", "pseudonym", "u1", "u2", "--at", "2026-07-01T02:00:00+02:00", *options)
    assert (ran.code, ran.out) == (0, f"{U1}\n{U2}\n"), ran.err
    for arguments, says in (
        (["--at", "2026-07-01"], "--at '2026-07-01' should be a time"),
        ([], "set privacy.keys_file"),
    ):
        ran = run_command("privacy", "pseudonym", "u1", *arguments, *(options if arguments else []))
        assert (ran.code, ran.out) == (1, "")
        assert says in ran.err
        assert len(ran.err.splitlines()) == 1
