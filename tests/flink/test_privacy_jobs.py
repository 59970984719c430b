"""Both jobs on events with planted user ids, with pseudonyms: nothing that comes out holds them."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import as_options, read_all, run_command, send

from flink_jobs.settings.loading import load_settings
from udfs.lake.files import read
from udfs.privacy.keys_file import read_keys
from udfs.privacy.masking import WITHHELD, masked_record

pytestmark = pytest.mark.flink

START = 1_782_864_000_000  # 2026-07-01
#: In every user id, and of the secrets, as they stand in their file.
PLANTED, SECRETS = (
    b"pl4nted",
    ("cGxhbnRlZC1wbGFudGVkLXBsYW50ZWQtcGxhbnRlZCE=", "UExBTlRFRC1QTEFOVEVELVBMQU5URUQtUExBTlRFRCE="),
)


def test_planted_ids_never_come_out(own: Callable[..., list[str]], bundles: Path, tmp_path: Path):
    file, home = tmp_path / "keys", tmp_path / "home"
    file.write_text(f"k1 2026-01-01T00:00:00Z {SECRETS[0]}\nk2 2026-07-01T00:01:00Z {SECRETS[1]}\n")
    keys = read_keys(file)
    assignments = own(f"bundles={bundles}", f"home={home}", f"privacy.keys_file={file}", "kafka.bounded=true")
    settings = load_settings(None, assignments)

    def record(number: int, user: str, seconds: int, **more: Any) -> tuple[bytes, bytes]:
        fields = {"event_id": f"e{number}", "event_type": "view", "user_id": user, "event_time": START + 1000 * seconds}
        return user.encode(), json.dumps(fields | {"item_id": "i"} | more).encode()

    users = ["pl4nted-a", "pl4nted-b@example.com", "pl4nted-é"]
    # The keys change between a shopper's events.
    good = [record(10 * place + n, user, 30 * n) for place, user in enumerate(users) for n in range(4)]
    # An event with a number that SQL cannot read is late.
    late = [record(90, "pl4nted-late", 5, x=int("9" * 1500))]
    bad = [
        record(100, "pl4nted-bad", 10, price=-1),
        record(101, "pl4nted-bad", 70, event_type="stare"),
        (b"pl4nted-key", b'{"user_id": "pl4nted-torn", "event_id"'),
        (b"pl4nted-key", b"pl4nted-csv,view,1782864000000"),
        (b"pl4nted-key", None),
        (None, b'{"userId": "pl4nted-name"}'),
    ]
    send(settings, good + late + bad, timestamp_ms=START)

    def run(job: str) -> Any:
        return run_command("submit", job, "--embedded", *as_options(assignments), timeout=500)

    with ThreadPoolExecutor(2) as pool:
        for ran in pool.map(run, ("recommend", "session-features")):
            assert (ran.code, PLANTED in ran.err.encode()) == (0, False), ran.err

    names = {
        json.loads(value)["event_id"]: keys.pseudonyms(
            [json.loads(value)["user_id"]], [json.loads(value)["event_time"]]
        )[0]
        for _, value in good + late
    }
    topics = settings.topics
    answers = [json.loads(each.value) for each in read_all(settings, topics.recommendations)]
    assert {each["recommendation_id"] for each in answers} == {f"{name}/{event}" for event, name in names.items()}
    assert {each.key.decode() for each in read_all(settings, topics.recommendations)} == set(names.values())
    saved = read(settings.lake_folder, "events", columns=["event_id", "user_id"])
    assert dict(zip(saved["event_id"].to_pylist(), saved["user_id"].to_pylist(), strict=True)) == {
        event: name for event, name in names.items() if event != "e90"
    }
    closed = read(settings.lake_folder, "sessions", columns=["user_id"])["user_id"].to_pylist()
    assert sorted(closed) == sorted({name for event, name in names.items() if event != "e90"})
    assert len(closed) == 2 * len(users)

    def letters(topic: str) -> list[tuple[bytes | None, bytes | None]]:
        return sorted(((each.key, each.value) for each in read_all(settings, topic)), key=repr)

    assert letters(topics.late) == [masked_record(keys, *late[0], START)]
    assert letters(topics.dlq) == sorted((masked_record(keys, *each, START) for each in bad), key=repr)
    assert [value for _, value in letters(topics.dlq)].count(WITHHELD) == 1  # the one that is no JSON

    for name, topic in topics.model_dump().items():
        for each in read_all(settings, topic) if name != "clickstream" else ():
            assert PLANTED not in repr((each.key, each.value, each.headers)).encode()
    # Logs, checkpoints and the jobs' other files; Parquet is compressed, and was read above.
    written = [each for each in home.rglob("*") if each.is_file()]
    assert len(written) > 2
    for each in written:
        content = each.read_bytes()
        assert PLANTED not in content, each
        assert not any(secret.encode() in content for secret in SECRETS), each
