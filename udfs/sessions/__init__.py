"""Sessions as columns: S sessions of E events in flat arrays, cut by offsets.

Usage:

    sessions = Sessions.from_arrays([0], [9], [2], event_time=[[0, 9]], event_type=[["view", "click"]])
    sessions.event_time[sessions.is_type("view")]   # any field of an event is a column: array([0])
    sound, found = clean(sessions)                  # without duplicates and impossible values; what was found
    frame = EventFrame.of(sessions, catalog)        # what session features are computed from
    sessionize(user, time)                          # cuts events into sessions
"""

from udfs.sessions.cleaning import Cleaned, clean
from udfs.sessions.columns import Sessions
from udfs.sessions.frame import EventFrame
from udfs.sessions.sessionize import GAP_MS, sessionize

__all__ = ["GAP_MS", "Cleaned", "EventFrame", "Sessions", "clean", "sessionize"]
