"""Reads past events from the lake."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from udfs.core.errors import ShopstreamError
from udfs.events.columns import EVENTS
from udfs.lake.files import data_files, read


def past_events(folder: Path | str) -> Iterator[pa.RecordBatch]:
    """Yield the events (schema udfs.events.columns.EVENTS) of all sessions but those of bots, by day, time and id.

    An event belongs to the session whose session_id it was written with. Raises ShopstreamError as `read` does, and for
    events without a required value.
    """
    sessions = read(folder, "sessions", columns=["session_id", "bot"])
    bots = sessions["session_id"].filter(pc.fill_null(sessions["bot"], False)).combine_chunks()
    for day in data_files(folder, "events"):
        events = read(folder, "events", days=[day], columns=EVENTS.names)
        if lacking := [name for name in ("event_id", "event_type", "user_id", "event_time") if events[name].null_count]:
            raise ShopstreamError(f"{Path(folder, 'events')} has rows of {day} without {lacking[0]}")
        human = events.filter(pc.invert(pc.is_in(events["session_id"], bots)))
        yield from human.sort_by([("event_time", "ascending"), ("event_id", "ascending")]).to_batches()
