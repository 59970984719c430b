"""The lake: closed sessions and their events, in Parquet files by UTC day.

Usage:

    read("lake", "sessions")                                           # an Arrow table
    read("lake", "events", days=["2026-01-31"], columns=["user_id", "item_id"])
    past_events("lake")                                                # batches of events, without those of bots
    sessions_schema(), events_schema()                                 # the columns
"""

from udfs.lake.files import data_files, read
from udfs.lake.history import past_events
from udfs.lake.schema import DAY, VERSION, events_schema, sessions_schema

__all__ = ["DAY", "VERSION", "data_files", "events_schema", "past_events", "read", "sessions_schema"]
