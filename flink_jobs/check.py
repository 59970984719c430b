"""`shopstream check FILE`: hold the recommendations in Kafka against the events that were replayed."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.progress import Progress

from flink_jobs import brokers, catalog_records
from flink_jobs.console import notes
from flink_jobs.replay import messages
from flink_jobs.settings import Settings
from udfs.contracts.rankings import Recommendation
from udfs.events.columns import EVENT_COLUMNS
from udfs.events.files import read_events
from udfs.events.parsing import parse_events


@dataclass(frozen=True)
class Outcome:
    """What was found. Everything after `recommendations` should be 0.

    missing: triggers without a record; doubled: records beyond a trigger's first; unexpected: records of no trigger;
    unreadable: records that do not hold to the contract; misranked: records whose ranks are not 1, 2, …, at most k, or
    whose scores rise; unknown_items: recommended items that are not in the catalogue.
    """

    triggers: int
    recommendations: int
    missing: int
    doubled: int
    unexpected: int
    unreadable: int
    misranked: int
    unknown_items: int

    @property
    def holds(self) -> bool:
        """Exactly one good record for each trigger."""
        wrong = (self.doubled, self.unexpected, self.unreadable, self.misranked, self.unknown_items)
        return self.missing == 0 and not any(wrong) and self.recommendations == self.triggers


def expected_ids(
    settings: Settings, file: Path, *, mapping: Mapping[str, str], preset: str, limit: int | None
) -> set[str]:
    """The recommendation ids that are due for the trigger events of a file, read as `replay` reads it.

    None is due for what the job refuses: each row becomes the record that `replay` sends, and that is parsed.
    """
    expected: set[str] = set()
    keys = settings.keys()
    left = limit
    for batch in read_events(file, mapping=mapping, preset=preset):
        rows = batch if left is None else batch.slice(0, left)
        rows = keys.pseudonymize(rows) if keys else rows
        left = None if left is None else left - len(rows)
        parsed = parse_events([value for _, value, _ in messages(rows)])
        events = [dict(zip(EVENT_COLUMNS, row, strict=True)) for row in parsed]
        expected.update(
            f"{each['user_id']}/{each['event_id']}" for each in events if each["event_type"] in settings.triggers
        )
        if left == 0:
            break
    return expected


def check(settings: Settings, expected: set[str], idle_s: float) -> Outcome:
    """Read `recommendations` from the beginning with read_committed until all are there or `idle_s` brought none.

    Reads on for two more seconds when all are there, for a record too many.
    """
    topic = settings.topics.recommendations
    brokers.require_topics(settings, topic)
    catalogue = catalog_records.titles(settings)
    decode = msgspec.json.Decoder(Recommendation).decode
    found: set[str] = set()
    records = doubled = unexpected = unreadable = misranked = unknown = 0
    with brokers.reachable(settings), Progress(console=notes, disable=not notes.is_terminal) as progress:
        task = progress.add_task("recommendations", total=len(expected))
        consumer = brokers.consumer(settings, topic, auto_offset_reset="earliest")
        last = time.monotonic()
        try:
            while time.monotonic() - last < (min(2.0, idle_s) if len(found) == len(expected) else idle_s):
                for messages in consumer.poll(timeout_ms=200).values():
                    last = time.monotonic()
                    for message in messages:
                        records += 1
                        try:
                            record = decode(message.value or b"")
                        except (msgspec.MsgspecError, UnicodeDecodeError):
                            unreadable += 1
                            continue
                        doubled += record.recommendation_id in found
                        unexpected += record.recommendation_id not in expected
                        misranked += not _well_ranked(record, settings.rank.k)
                        unknown += sum(item.item_id not in catalogue for item in record.items)
                        found.add(record.recommendation_id)
                progress.update(task, completed=len(found))
        finally:
            consumer.close()
    missing = len(expected - found)
    return Outcome(len(expected), records, missing, doubled, unexpected, unreadable, misranked, unknown)


def _well_ranked(record: Recommendation, k: int) -> bool:
    scores = [item.score for item in record.items]
    ranks = [item.rank for item in record.items]
    return ranks == list(range(1, len(ranks) + 1)) and len(ranks) <= k and scores == sorted(scores, reverse=True)
