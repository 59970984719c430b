"""`shopstream watch`: recommendations as they arrive, for people to read."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import msgspec

from flink_jobs.brokers.clients import open_consumer
from flink_jobs.brokers.errors import reachable
from flink_jobs.brokers.topics import require_topics
from flink_jobs.commands.catalog import item_titles
from flink_jobs.settings.settings import Settings
from udfs.contracts.rankings import Recommendation
from udfs.core.errors import ShopstreamError

decode_recommendation = msgspec.json.Decoder(Recommendation).decode


def known_titles(settings: Settings) -> Mapping[str, str]:
    """Returns titles by item id, none if there is no bundle on this machine."""
    try:
        return item_titles(settings)
    except ShopstreamError:
        return {}


def describe_recommendation(record: Recommendation, title_of: Mapping[str, str], most: int = 3) -> str:
    """Describes a recommendation in a few lines: for whom, after what, the `most` best items and why."""
    session = record.session
    seen = ", ".join(
        f"{session[name]} {name}" for name in ("views", "clicks", "searches", "purchases") if session.get(name)
    )
    lines = [f"{record.user_id} after {record.trigger_event_id} ({seen or 'first event'})"]
    for item in record.items[:most]:
        reason = item.reasons[0]
        lines.append(
            f"  {item.rank}. {title_of.get(item.item_id, item.item_id)}  {item.score:.3f}"
            f"  {reason.source.replace('_', ' ')}: {reason.because}"
        )
    return "\n".join(lines)


def watch_recommendations(
    settings: Settings,
    show: Callable[[bytes, Recommendation], Any],
    complain: Callable[[str], Any],
    *,
    from_beginning: bool,
    committed: bool,
    limit: int | None,
    idle_s: float | None,
) -> int:
    """Calls `show` with the bytes and the content of each record, and `complain` with a line about unreadable ones.

    Ends after `limit` records or `idle_s` seconds without one; returns the number shown.
    """
    topic = settings.topics.recommendations
    require_topics(settings, topic)
    shown, last = 0, time.monotonic()
    start = "earliest" if from_beginning else "latest"
    with (
        reachable(settings),
        closing(open_consumer(settings, topic, committed=committed, auto_offset_reset=start)) as client,
    ):
        while idle_s is None or time.monotonic() - last < idle_s:
            for records in client.poll(timeout_ms=200).values():
                for record in records:
                    try:
                        recommendation = decode_recommendation(record.value or b"")
                    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                        complain(f"a record of {topic} is not a recommendation: {error}")
                        continue
                    show(record.value, recommendation)
                    shown += 1
                    if shown == limit:
                        return shown
                last = time.monotonic()
    return shown
