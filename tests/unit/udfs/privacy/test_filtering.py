import json
from pathlib import Path

import pyarrow as pa

from udfs.bundles.forgotten import ErasureList
from udfs.core.hashing import shopper_hash
from udfs.events.files import EVENTS, read_events
from udfs.privacy.filtering import without_erased
from udfs.privacy.pseudonyms import Key, Keys

NOBODY = ErasureList.read(Path("no-such-folder"))


def erase(at: int, *users: str) -> ErasureList:
    return NOBODY.with_more(map(shopper_hash, users), at)


def test_erased_events_are_left_out(tmp_path: Path):
    keys = Keys([Key("k1", 0, b"1" * 32), Key("k2", 50, b"2" * 32)])
    rows = [("u", 40), ("u", 60), ("v", 40), ("u", 101), (keys.pseudonyms(["u"], [60])[0], 70)]
    file = tmp_path / "events.jsonl"
    fields = [
        {"event_id": str(number), "event_type": "view", "user_id": user, "event_time": time, "item_id": "i"}
        for number, (user, time) in enumerate(rows)
    ]
    file.write_text("\n".join(map(json.dumps, fields)))

    def kept(keys: Keys | None, erased: ErasureList) -> list[str]:
        table = pa.Table.from_batches(without_erased(read_events(file), keys, erased), EVENTS)
        return list(table["event_id"].to_pylist())

    assert kept(None, NOBODY) == kept(keys, NOBODY) == list("01234")
    assert kept(None, erase(100, "u")) == list("234")
    assert kept(keys, erase(100, *keys.aliases("u"))) == list("23")
    assert kept(keys, erase(60, *keys.aliases("u"))) == list("234")
