"""Pseudonyms: what they are made of, what letters look like with them, and that nothing gives a secret away."""

import base64
import hashlib
import hmac
import json
import logging
import os
import re
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import run_command

from export.history.interactions import interactions
from export.history.neighbours import past_sessions
from export.history.reading import read_past
from flink_jobs import check, dlq, submit
from flink_jobs.backfill import recorded
from flink_jobs.settings import load_settings
from udfs.bundles.forgotten import ErasureList
from udfs.contracts.fields import MAX_TIME_MS, MIN_TIME_MS
from udfs.core.errors import ShopstreamError
from udfs.core.hashing import shopper_hash
from udfs.events.columns import EVENT_COLUMNS
from udfs.events.files import read_events
from udfs.events.parsing import parse_event, parse_events
from udfs.privacy.keys_file import KeysFile, read_keys
from udfs.privacy.pseudonyms import WITHHELD, Key, Keys

DAY = 86_400_000
#: Of 2026-01-01 and 2026-07-01.
JANUARY, JULY = 1_767_225_600_000, 1_782_864_000_000
SECRETS = [bytes(range(32)), b"\xff" * 40]
KEYS = Keys([Key("k1", JANUARY, SECRETS[0]), Key("k2", JULY, SECRETS[1])])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
IDS = TEXTS.filter(bool)
TIMES = st.integers(MIN_TIME_MS, MAX_TIME_MS)


def file_of(folder: Path, *lines: str) -> Path:
    file = folder / "keys"
    file.write_text("\n".join(lines))
    return file


def line(name: str, start: str, secret: bytes) -> str:
    return f"{name} {start} {base64.b64encode(secret).decode()}"


def event(user_id: str, time: object = JULY, **more: Any) -> bytes:
    fields = {"event_id": "e", "event_type": "view", "user_id": user_id, "event_time": time, "item_id": "i"}
    return json.dumps(fields | more).encode()


# --- what they are ----------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(IDS, TIMES), max_size=20))
def test_a_pseudonym_is_the_hash_by_the_key_of_its_time(pairs: list[tuple[str, int]]):
    def by_hand(user_id: str, time: int) -> str:
        secret = SECRETS[1] if time >= JULY else SECRETS[0]
        hashed = hmac.new(secret, user_id.encode(), hashlib.sha256).hexdigest()
        return f"{'k2' if time >= JULY else 'k1'}:{hashed[:32]}"

    users, times = [user for user, _ in pairs], [time for _, time in pairs]
    made = KEYS.pseudonyms(users, times)
    assert made == [by_hand(*pair) for pair in pairs]
    assert KEYS.pseudonyms(made, times[::-1]) == made  # whenever they come back
    for user, name in zip(users, made, strict=True):
        every = KEYS.every(user)
        assert every[0] == user
        assert name in every[1:]


def test_what_is_no_pseudonym_of_a_known_key_is_an_id():
    for user in ("k3:" + "0" * 32, "k1:" + "0" * 31, "k1:" + "G" * 32, "k1:" + "0" * 32 + "\n", "k1", "k1:"):
        assert KEYS.pseudonyms([user], [0]) != [user]
    assert KEYS.every("k2:" + "0" * 32) == ["k2:" + "0" * 32]


def test_keys_come_from_a_file_and_the_one_before_the_first_serves_too(tmp_path: Path):
    lines = ["# ours", "", line("new", "2026-07-01T00:00:00Z", SECRETS[1])]
    file = file_of(tmp_path, *lines, f"  {line('old', '2026-01-01T00:00:00+00:00', SECRETS[0])} # retired in July")
    keys = read_keys(file)
    assert [name.split(":")[0] for name in keys.pseudonyms("uuuu", [0, JANUARY, JULY - 1, JULY])] == [
        *["old"] * 3,
        "new",
    ]
    assert keys.pseudonyms(["u"], [JULY]) == [KEYS.pseudonyms(["u"], [JULY])[0].replace("k2", "new")]


SECRET = base64.b64encode(b"planted-planted-planted-planted!").decode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no key"),
        (f"k1 {SECRET}", "line 1, is no key of pseudonyms: it should have three parts"),
        (f"# one\nk/1 2026-01-01T00:00:00Z {SECRET}", "line 2, is no key of pseudonyms: an id is"),
        (f"k1 2026-01-01 {SECRET}", "a time is RFC 3339 in UTC"),
        (f"k1 2026-01-01T00:00:00+01:00 {SECRET}", "a time is RFC 3339 in UTC"),
        (f"k1 {SECRET} 2026-01-01T00:00:00Z", "a time is RFC 3339 in UTC"),
        (f"k1 2026-01-01T00:00:00Z {SECRET[:-4]}", "a secret is base64 of 32 bytes or more"),
        (f"k1 2026-01-01T00:00:00Z {SECRET}!", "a secret is base64"),
        (f"k1 2026-01-01T00:00:00Z {SECRET}\nk1 2026-02-01T00:00:00Z {SECRET}", "line 2, is no key"),
        (f"k1 2026-01-01T00:00:00Z {SECRET}\nk2 2026-01-01T00:00:00Z {SECRET}", "line 2, is no key"),
    ],
)
def test_a_line_that_is_amiss_is_named_and_not_told(text: str, says: str, tmp_path: Path):
    with pytest.raises(ShopstreamError) as error:
        read_keys(file_of(tmp_path, text))
    assert says in str(error.value)
    assert SECRET[:8] not in str(error.value)
    assert SECRET[:8] not in "".join(traceback.format_exception(error.value))


def test_keys_do_not_show_their_secrets(tmp_path: Path):
    assert "secret" not in repr(Key("k1", 0, b"planted"))
    with pytest.raises(ShopstreamError, match="cannot be read: No such file"):
        read_keys(tmp_path / "none")


def test_a_line_that_is_added_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any):
    monkeypatch.setattr("udfs.privacy.keys_file.CHECK_S", 0.0)
    first, second = (
        line(*each) for each in (("k1", "2026-01-01T00:00:00Z", SECRETS[0]), ("k2", "2026-07-01T00:00:00Z", SECRETS[1]))
    )
    file = file_of(tmp_path, first)
    known = KeysFile(file)
    before = known.latest().pseudonyms(["u"], [JULY])
    file.write_text("broken")
    os.utime(file, ns=(1, 1))
    with caplog.at_level(logging.ERROR):
        assert known.latest().pseudonyms(["u"], [JULY]) == before == known.latest().pseudonyms(["u"], [JULY])
    assert len(caplog.records) == 1
    file_of(tmp_path, first, second)
    assert known.latest().pseudonyms(["u"], [JULY]) == KEYS.pseudonyms(["u"], [JULY])


# --- events and letters -----------------------------------------------------------------------------------------------


@given(st.lists(st.builds(event, IDS, TIMES | st.just("2026-07-01T00:00:00Z")) | st.binary() | st.none(), max_size=8))
def test_parsed_events_differ_by_their_user_ids_alone(values: list[bytes | None]):
    for plain, named in zip(parse_events(values), parse_events(values, KEYS.pseudonyms), strict=True):
        expected = dict(zip(EVENT_COLUMNS, plain, strict=True))
        if plain[0] is None:
            expected["user_id"] = KEYS.pseudonyms([str(plain[4])], [int(str(plain[5]))])[0]
        else:
            expected["error"] = re.sub("'.*'", "'…'", str(plain[0]))
        assert dict(zip(EVENT_COLUMNS, named, strict=True)) == expected


def test_an_error_quotes_nothing_of_a_value():
    shifted = event("u", event_type="planted@example.com")
    assert "planted" in str(parse_events([shifted])[0][0])
    assert parse_events([shifted], KEYS.pseudonyms)[0][0] == "Invalid enum value '…' - at `$.event_type`"


@given(IDS, TIMES, st.dictionaries(TEXTS, TEXTS | st.integers() | st.booleans()), st.booleans())
@example('é\u2028"\\/', JULY, {"user_id ": "u", 'an "user_id': "u"}, True)
def test_a_letter_has_the_pseudonym_and_else_what_came(user: str, time: int, more: dict[str, object], ascii_only: bool):
    def said(user: str) -> bytes:
        return json.dumps(more | {"user_id": user, "event_time": time}, ensure_ascii=ascii_only).encode()

    (name,) = KEYS.pseudonyms([user], [time])
    assert KEYS.letter(user.encode(), said(user), 0) == (name.encode(), said(name))
    assert KEYS.letter(name.encode(), said(name), 0) == (name.encode(), said(name))  # goes back, and dies again


U1, U2 = (KEYS.pseudonyms([user], [JULY])[0] for user in ("u1", "u2"))


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        (None, None),
        (b"", WITHHELD),
        (b"\xff\xfe", WITHHELD),
        (b"e1,view,u1,1782864000000", WITHHELD),
        (b'{"userId": "u1"}', WITHHELD),
        (b'{"user_id": 1}', WITHHELD),
        (b'{"user_id": null}', WITHHELD),
        (b'{"user_id": "u', WITHHELD),
        (b'{"user_id": "u1", "also": {"user_id": 7}}', WITHHELD),
        (rb'"{\"user_id\": \"u1\"}"', WITHHELD),
        ('{"user_id": "u1"}'.encode("utf-16"), WITHHELD),
        (b'{"user_id" :\n"u1", "x": \xff', b'{"user_id" :\n"%s", "x": \xff' % U1.encode()),
        (rb'{"us\u0065r\u005Fid": "\u00751"}', rb'{"us\u0065r\u005Fid": "%s"}' % U1.encode()),
        (b'[{"user_id":"u1"},{"user_id":"u2"}]', f'[{{"user_id":"{U1}"}},{{"user_id":"{U2}"}}]'.encode()),
        (b'{"user_id": "u1", "user_id": ""}', b'{"user_id": "%s", "user_id": ""}' % U1.encode()),
        (b"[" * 100_000, WITHHELD),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_value_without_an_id_that_can_be_replaced_is_withheld(value: bytes | None, masked: bytes | None):
    assert KEYS.letter(b"u1", value, JULY) == (U1.encode(), masked)


def test_bytes_that_are_no_text_become_a_pseudonym_too():
    key, value = KEYS.letter(b"\xff", b'{"user_id": "\xff"}', JULY)
    assert key is not None
    assert re.fullmatch(b"k2:[0-9a-f]{32}", key)
    assert value == b'{"user_id": "%s"}' % key
    assert KEYS.letter(None, None, JULY) == (None, None)
    assert KEYS.letter(b"", None, JULY) == (b"", None)


def test_a_letters_key_is_that_of_its_events_time_or_of_the_record():
    for time, moment, name in ((JULY, 0, "k2"), (JULY - 1, JULY, "k1"), ("soon", JULY, "k2"), (1.5, JULY - 1, "k1")):
        masked = KEYS.letter(b"u", event("u", time), moment)
        assert masked[0] is not None
        assert masked[0].startswith(name.encode())


def test_a_withheld_letter_does_not_go_back():
    class Letter:
        key, headers = b"k", [("__connect.errors.topic", b"clickstream")]
        value = b"{"

    assert dlq.can_go_back(Letter())
    Letter.value = WITHHELD
    assert not dlq.can_go_back(Letter())


# --- files and commands -----------------------------------------------------------------------------------------------


@pytest.fixture
def keyed(tmp_path: Path) -> list[str]:
    lines = (line("k1", "2026-01-01T00:00:00Z", SECRETS[0]), line("k2", "2026-07-01T00:00:00Z", SECRETS[1]))
    return [f"privacy.keys_file={file_of(tmp_path, *lines)}", f"home={tmp_path}"]


def test_a_file_of_events_has_the_jobs_names(keyed: list[str], tmp_path: Path):
    file = tmp_path / "events.jsonl"
    users = ["u1", "u2", U2, "u1"]
    values = [event(user, JULY - place % 2, event_id=f"e{place}") for place, user in enumerate(users)]
    file.write_bytes(b"\n".join(values))
    names = [str(row[4]) for row in parse_events(values, KEYS.pseudonyms)]
    settings = load_settings(None, keyed)
    with recorded(settings, file, {}, "auto") as found:
        (copy,) = Path(found.uri.removeprefix("file://")).iterdir()
        assert pq.read_table(copy)["user_id"].to_pylist() == names
    due = check.expected_ids(settings, file, mapping={}, preset="auto", limit=None)
    assert due == {f"{name}/e{place}" for place, name in enumerate(names)}
    for batch in read_events(file):
        assert KEYS.named(batch).drop_columns(["user_id"]).equals(batch.drop_columns(["user_id"]))


def test_training_knows_shoppers_by_the_jobs_names(keyed: list[str], tmp_path: Path):
    sessions, settings = tmp_path / "sessions.jsonl", load_settings(None, keyed)
    sessions.write_bytes(
        b"\n".join(event(user, JULY - place, event_id=f"e{place}") for place, user in enumerate("uvuw"))
    )
    ErasureList.read(tmp_path).with_more(map(shopper_hash, KEYS.every("w")), JULY).write(tmp_path)
    log = interactions(read_past(sessions, {}, settings.keys_file, tmp_path), 1_800_000)
    names = {name for user in "uv" for name in KEYS.every(user)[1:]} - {KEYS.pseudonyms("v", [JULY])[0]}
    assert set(log.users) == names
    assert set(past_sessions(log).shoppers.tolist()) == set(map(shopper_hash, names))


def test_jobs_are_told_where_the_keys_are_and_not_what(tmp_path: Path):
    told = submit.job_arguments(load_settings(None, ["privacy.keys_file=keys"]), None, [])
    assert f"privacy.keys_file={Path('keys').absolute()}" in told
    assert not any("keys_file" in each for each in submit.job_arguments(load_settings(), None, []))
    with pytest.raises(ShopstreamError, match="none, cannot be read"):
        submit.check(submit.JOBS["recommend"], load_settings(None, [f"privacy.keys_file={tmp_path}/none"]))


def test_the_command_tells_pseudonyms(keyed: list[str]):
    options = [part for each in keyed for part in ("--set", each)]
    told = run_command("privacy", "pseudonym", "u1", "u2", "--at", "2026-07-01T02:00:00+02:00", *options)
    assert (told.code, told.out) == (0, f"{U1}\n{U2}\n"), told.err
    for arguments, says in (
        (["--at", "2026-07-01"], "--at '2026-07-01' should be a time"),
        ([], "set privacy.keys_file"),
    ):
        ran = run_command("privacy", "pseudonym", "u1", *arguments, *(options if arguments else []))
        assert (ran.code, ran.out) == (1, "")
        assert says in ran.err
        assert len(ran.err.splitlines()) == 1


def test_hashing_is_small_beside_parsing():
    """By counting: an id that comes often is hashed once a batch, by each key."""
    hashed: list[str] = []

    class Counting(Keys):
        def _pseudonym(self, user_id: str, nth: int) -> str:
            hashed.append(user_id)
            return super()._pseudonym(user_id, nth)

    keys = Counting([Key("k1", 0, SECRETS[0])])
    parse_events([event(f"u{place % 7}") for place in range(500)], keys.pseudonyms)
    assert sorted(hashed) == [f"u{number}" for number in range(7)]


def test_times_may_come_as_numpy_has_them():
    batch = pa.record_batch({"user_id": ["u1", "u1"], "event_time": np.array([JULY, 0])})
    assert KEYS.named(batch)["user_id"].to_pylist() == KEYS.pseudonyms(["u1", "u1"], [JULY, 0])
    assert parse_event(event("u1"))[4] == "u1"
