"""`shopstream check FILE`: compares the recommendations in Kafka with the events that were replayed."""

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from flink_jobs.brokers.clients import open_consumer
from flink_jobs.brokers.errors import reachable
from flink_jobs.brokers.topics import require_topics
from flink_jobs.commands.catalog import item_titles
from flink_jobs.commands.replay import event_messages
from flink_jobs.settings.settings import Settings
from flink_jobs.sql.sessions import window_rows
from udfs.contracts.rankings import Recommendation, answer_id
from udfs.events.columns import PACKED_COLUMNS
from udfs.events.files import read_events
from udfs.events.packing import content_of, packed_events
from udfs.events.parsing import parse_events
from udfs.events.rejected import Rejected

#: Once all answers are there, how long to wait for one too many.
EXTRA_S = 2.0


@dataclass
class Outcome:
    """What a check found. Everything after `recommendations` should be 0.

    missing: triggers without a record; doubled: records beyond a trigger's first; unexpected: records without a
    trigger; unreadable: records that break the contract; misranked: records whose ranks are not 1, 2, …, at most k, or
    whose scores rise; unknown_items: recommended items that are not in the catalog.
    """

    triggers: int
    recommendations: int = 0
    missing: int = 0
    doubled: int = 0
    unexpected: int = 0
    unreadable: int = 0
    misranked: int = 0
    unknown_items: int = 0

    @property
    def holds(self) -> bool:
        """Whether there is exactly one good record per trigger."""
        wrong = (self.doubled, self.unexpected, self.unreadable, self.misranked, self.unknown_items)
        return self.missing == 0 and not any(wrong) and self.recommendations == self.triggers


def expected_ids(
    settings: Settings,
    file: Path,
    *,
    mapping: Mapping[str, str],
    preset: str,
    limit: int | None,
    options: Mapping[str, object] | None = None,
) -> Counter[str]:
    """Returns the recommendation ids that the trigger events of a file are due, read as `replay` reads it.

    Rows that `replay` rejects are due none. The others become the records that it sends, and these are parsed. Two
    events with one id that are further apart than the job's window get answers with one id: it is due twice.
    """
    expected: Counter[str] = Counter()
    known: set[tuple[str, str, str]] = set()
    latest: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=window_rows(settings)))
    keys = settings.keys()
    left = limit
    for batch in read_events(file, mapping=mapping, preset=preset, options=options, rejected=Rejected()):
        rows = batch if left is None else batch.slice(0, left)
        rows = keys.pseudonymize(rows) if keys else rows
        left = None if left is None else left - len(rows)
        parsed = parse_events([value for _, value, _ in event_messages(rows)])
        for event in (dict(zip(PACKED_COLUMNS, row, strict=True)) for row in packed_events(parsed)):
            if event["error"] is not None:
                continue
            user, event_id, content = str(event["user_id"]), str(event["event_id"]), content_of(str(event["packed"]))
            if (user, event_id, content) not in known and event["event_type"] in settings.triggers:
                known.add((user, event_id, content))
                is_reused = event_id in latest[user]
                expected[answer_id("recommend", user, event_id, content if is_reused else None)] += 1
            latest[user].append(event_id)
        if left == 0:
            break
    return expected


def check_recommendations(
    settings: Settings, expected: Counter[str], idle_s: float, progress: Callable[[int], None] = lambda _: None
) -> Outcome:
    """Reads `recommendations` from the beginning until all are there, or nothing came for `idle_s` seconds.

    Then it waits up to EXTRA_S for a record too many. progress: called with the number of answers found.
    """
    topic = settings.topics.recommendations
    require_topics(settings, topic)
    known_items = item_titles(settings)
    found: set[str] = set()

    def values() -> Iterator[bytes | None]:
        with reachable(settings), closing(open_consumer(settings, topic, auto_offset_reset="earliest")) as consumer:
            last = time.monotonic()
            while time.monotonic() - last < (min(EXTRA_S, idle_s) if len(found) == len(expected) else idle_s):
                for records in consumer.poll(timeout_ms=200).values():
                    last = time.monotonic()
                    yield from (record.value for record in records)
                progress(len(found))

    return judge(values(), expected, known_items, settings.rank.k, found)


def judge(
    values: Iterable[bytes | None],
    expected: Iterable[str] | Mapping[str, int],
    known_items: Container[str],
    k: int,
    found: set[str],
) -> Outcome:
    """Counts what is wrong with the values of recommendations. found: takes the ids as they come."""
    decode = msgspec.json.Decoder(Recommendation).decode
    due, seen = Counter(expected), Counter[str]()
    outcome = Outcome(due.total())
    for value in values:
        outcome.recommendations += 1
        try:
            record = decode(value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError):
            outcome.unreadable += 1
            continue
        seen[record.recommendation_id] += 1
        outcome.doubled += seen[record.recommendation_id] > max(due[record.recommendation_id], 1)
        outcome.unexpected += record.recommendation_id not in due
        outcome.misranked += not _well_ranked(record, k)
        outcome.unknown_items += sum(item.item_id not in known_items for item in record.items)
        found.add(record.recommendation_id)
    outcome.missing = (due - seen).total()
    return outcome


def _well_ranked(record: Recommendation, k: int) -> bool:
    scores = [item.score for item in record.items]
    ranks = [item.rank for item in record.items]
    in_order = record.explored is True or scores == sorted(scores, reverse=True)
    return ranks == list(range(1, len(ranks) + 1)) and len(ranks) <= k and in_order
