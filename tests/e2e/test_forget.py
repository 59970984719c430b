"""Erasure requests on a real broker: each is acknowledged once, even among invalid ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import as_options, read_all, run_command, send

from flink_jobs.brokers.clients import open_producer
from flink_jobs.commands.privacy import HOLDING, Done, erase
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from udfs.bundles.forgotten import ErasureList
from udfs.core.hashing import shopper_hash
from udfs.lake.files import read
from udfs.lake.schema import events_schema
from udfs.schemas.generate import json_schema

pytestmark = pytest.mark.e2e

DAY = 86_400_000


def acknowledgements(settings: Settings) -> list[dict[str, Any]]:
    """Read the acknowledgements, by partition."""
    validator = jsonschema.Draft202012Validator(json_schema("privacy-acknowledgements"))
    found = [json.loads(record.value) for record in read_all(settings, settings.topics.privacy_acknowledgements)]
    for each in found:
        validator.validate(each)
    return found


def ask(settings: Settings, *requests: object) -> None:
    values = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in requests]
    send(settings, [(b"k", value) for value in values], settings.topics.privacy_requests)


def test_requests_are_acknowledged_once(own: Callable[..., list[str]], tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text("k1 2026-01-01T00:00:00Z MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
    assignments = own(
        f"home={tmp_path}", f"privacy.keys_file={keys}", "retention.recommendations=10 d", "retention.late=1 h"
    )
    settings, options = load_settings(None, assignments), as_options(assignments)
    pseudonym = run_command("privacy", "pseudonym", "u1", *options).out.strip()
    rows = [
        {"schema_version": 1, "event_id": str(place), "user_id": user, "event_time": place}
        for place, user in enumerate(["u1", pseudonym, "u2", "u3"])
    ]
    place = settings.lake_folder / "events" / "day=1970-01-01"
    place.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, events_schema()), place / "part-0")

    ask(
        settings,
        {"request_id": "r1", "user_id": "u1"},
        b"{",
        {"request_id": "r2"},
        {"request_id": "r3", "user_id": "u1"},
        {"request_id": "r4", "user_id": "nobody", "more": 1},
    )
    ran = run_command("privacy", "forget", "--json", *options)
    assert ran.json() == {"requests": 5, "refused": 2, "lake_rows": 2}, ran.err
    found = {each["request_id"]: each for each in acknowledgements(settings)}
    assert len(acknowledgements(settings)) == 5
    assert {name: found[name]["lake_rows"] for name in ("r1", "r3", "r4")} == {"r1": 2, "r3": 0, "r4": 0}
    assert found["r2"]["error"].endswith("is no request: Object missing required field `user_id`")
    assert found[None]["error"].endswith("is no request: Input data was truncated")
    done = found["r1"]["done_at"]
    assert found["r1"]["state_expires_at"] == done + settings.max_state_age_ms()
    kept = found["r1"]["kept_until"]
    assert len(kept) == len(HOLDING)
    # Retention, and that of a segment; the local broker deletes nothing by itself.
    assert kept[settings.topics.recommendations] == done + (10 + 7) * DAY
    assert kept[settings.topics.late] == done + 2 * DAY // 24
    assert kept[settings.topics.clickstream] is None
    left = read(settings.lake_folder, "events", columns=["user_id"])["user_id"].to_pylist()
    assert sorted(left) == ["u2", "u3"]
    assert {shopper_hash("u1"), shopper_hash(pseudonym)} <= set(
        ErasureList.read(settings.bundle_folder).shopper.tolist()
    )

    # Nothing is done twice; a run that is killed in mid-transaction is taken back by the next.
    assert erase(settings) == Done(0, 0, 0)
    ask(settings, {"request_id": "r5", "user_id": "u2"})
    killed = open_producer(settings, transactional_id=f"{settings.sink.transactional_id_prefix}-privacy")
    killed.init_transactions()
    killed.begin_transaction()
    killed.send(settings.topics.privacy_acknowledgements, value=b"never").get(10)
    assert erase(settings) == Done(1, 0, 1)
    assert [each["request_id"] for each in acknowledgements(settings)].count("r5") == 1
    assert len(acknowledgements(settings)) == 6
    killed.close(timeout=0)
