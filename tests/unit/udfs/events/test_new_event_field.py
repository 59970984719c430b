"""A new event field is one line in the record's class, and a feature on it one file: all else follows."""

import shutil
import subprocess
import sys
from pathlib import Path

from support import ROOT

FIELDS = """\
    campaign_id: Id | None = None
    position: PositiveCount | None = None
"""

FEATURE = '''\
"""Features of campaigns."""

import numpy as np

from udfs.features import EventFrame, Ints, feature


@feature("int64", "events")
def campaign_events(frame: EventFrame) -> Ints:
    """Events of any campaign, below the fold."""
    return frame.count_of((frame.campaign_id != np.array(None)) & (frame.position > 3))
'''

PROBE = """\
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from flink_jobs.settings.settings import Settings
from flink_jobs.sql.closed_sessions import batch_views, window_views
from flink_jobs.sql.ddl import FIELDS
from flink_jobs.sql.lake import lake_views, recorded_schema
from udfs.events.columns import EVENT_COLUMNS, PACKED
from udfs.events.files import in_contract, read_events
from udfs.events.packing import packed_events, unpacked_events
from udfs.events.parsing import parse_event, parse_events
from udfs.features import compute_features
from udfs.features.registry import FEATURES
from udfs.lake import events_schema
from udfs.lake.closing import CLOSING_COLUMNS
from udfs.schemas.generate import json_schema
from udfs.sessions import Sessions

NEW = ["campaign_id", "position"]
view = {"event_id": "e1", "event_type": "view", "user_id": "u", "event_time": 1, "item_id": "i"}
events = [view | {"campaign_id": "c7", "position": 4}, view | {"event_id": "e2"}]

rows = parse_events(json.dumps(event).encode() for event in events)
parsed = [dict(zip(EVENT_COLUMNS, row)) for row in rows]
assert [[row[name] for name in NEW] for row in parsed] == [["c7", 4], [None, None]]
assert "campaign_id" in parse_event(json.dumps(view | {"campaign_id": "c" * 1025}).encode())[0]
assert "position" in parse_event(json.dumps(view | {"position": 0}).encode())[0]

packed = [row[-1] for row in packed_events(rows)]
assert unpacked_events(packed) == [tuple(row[name] for name in PACKED) for row in parsed]

arrays = {name: [[row[name] for row in parsed]] for name in PACKED}
for sessions in (Sessions.from_packed([1], [1], [2], [packed]), Sessions.from_arrays([1], [1], [2], **arrays)):
    assert sessions.campaign_id.tolist() == ["c7", None]
    np.testing.assert_array_equal(sessions.position, [4, np.nan])
    (features,) = compute_features(sessions)
    assert features["campaign_events"] == 1
assert list(FEATURES)[-1] == "campaign_events"

lines = [json.dumps(event | {"event_id": f"f{n}"}) for n, event in enumerate([*events, view | {"position": 0}])]
Path("events.jsonl").write_text("\\n".join(lines))
recorded = pa.Table.from_batches(read_events("events.jsonl"))
assert recorded.filter(in_contract()).select(NEW).to_pylist() == [
    {"campaign_id": "c7", "position": 4}, {"campaign_id": None, "position": None}
]

assert [str(events_schema().field(name).type) for name in NEW] == ["string", "int64"]
assert set(NEW) <= {*FIELDS} & {*recorded_schema().names}
assert [CLOSING_COLUMNS[name] for name in NEW] == ["ARRAY<STRING>", "ARRAY<BIGINT>"]
for views in (window_views, batch_views):
    assert all(f"ARRAY_AGG({name}) AS {name}" in views(Settings())["closed"] for name in NEW)
assert all(f"session.events__{name}[nth] AS `{name}`" in lake_views()["event_rows"] for name in NEW)
assert set(NEW) <= json_schema("clickstream")["$defs"]["ClickstreamEvent"]["properties"].keys()
assert "campaign_events" in json.dumps(json_schema("session-features"))
"""


def test_new_field_reaches_everything(tmp_path: Path):
    shutil.copytree(ROOT / "udfs", tmp_path / "udfs", ignore=shutil.ignore_patterns("__pycache__"))
    record = tmp_path / "udfs" / "contracts" / "clickstream.py"
    before = "    session_id: str | None = None\n"
    assert record.read_text().count(before) == 1
    record.write_text(record.read_text().replace(before, FIELDS + before))
    (tmp_path / "udfs" / "features" / "campaigns.py").write_text(FEATURE)
    ran = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
