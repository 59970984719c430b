"""`shopstream dlq`: why dead letters are there, and the way back to the topics they came from."""

import base64
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from kafka import KafkaProducer
from kafka.structs import OffsetAndMetadata, TopicPartition

from flink_jobs import brokers
from flink_jobs.settings import Settings
from flink_jobs.tables import MAX_RECORD_BYTES
from udfs.core.errors import ShopstreamError
from udfs.privacy.masking import WITHHELD

#: What Kafka Connect, and so our jobs, put before the names of the headers that tell of the error.
ERRORS = "__connect.errors."
EXAMPLES = 3
#: Letters in one transaction.
CHUNK = 1000
#: A broker's default for what a committed offset may carry (offset.metadata.max.bytes).
MAX_METADATA = 4096


@dataclass(frozen=True)
class Reason:
    """Why letters are dead. message: without what differs from letter to letter; empty where headers do not say."""

    exception: str
    message: str
    topic: str
    stage: str

    def __str__(self) -> str:
        return f"{self.exception}: {self.message}"


@dataclass
class Letters:
    """Dead letters of one reason: how many, how many of them were sent back, and the first few."""

    count: int = 0
    sent_back: int = 0
    examples: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Replayed:
    """What a replay did. left: seen, but of another topic or reason, or not such as can go back."""

    sent: int
    left: int


@dataclass
class Place:
    """What was sent back of a partition: all letters before offset `first`, and of those from there on `sent`.

    While a replay runs: it has read up to offset `read_to`, and `left` is the first letter that it did not send.
    """

    first: int = 0
    sent: set[int] = field(default_factory=set)
    read_to: int = 0
    left: int | None = None

    @classmethod
    def committed(cls, found: OffsetAndMetadata | None) -> "Place":
        """As `to_commit` wrote it; nothing was sent back where there is no committed offset.

        ShopstreamError where another client has written it.
        """
        if found is None:
            return cls()
        try:
            bits = zlib.decompress(base64.b64decode(found.metadata)) if found.metadata else b""
        except (ValueError, zlib.error):
            raise ShopstreamError(
                "the offsets of the group that replays dead letters are those of another client"
            ) from None
        beyond = np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8)))
        return cls(found.offset, set((beyond + found.offset).tolist()))

    def add(self, offset: int) -> None:
        """Note a letter as sent, unless `forget` has already covered it."""
        if offset >= self.first:
            self.sent.add(offset)

    def forget(self) -> None:
        """Keep no more than it takes, at the end of a replay: `first` goes on to the first letter that is left."""
        self.first = max(self.first, self.read_to if self.left is None else self.left)
        self.sent = {offset for offset in self.sent if offset >= self.first}

    def to_commit(self) -> OffsetAndMetadata:
        """`sent` as compressed bits, one an offset; ShopstreamError when a committed offset cannot hold them."""
        bits = np.zeros(max(self.sent, default=self.first - 1) - self.first + 1, np.uint8)
        bits[np.fromiter(self.sent, np.int64) - self.first] = 1
        packed = base64.b64encode(zlib.compress(np.packbits(bits).tobytes(), 9)).decode() if self.sent else ""
        if len(packed) > MAX_METADATA:
            raise ShopstreamError(
                "Kafka cannot remember which letters were sent back, they are too scattered among those that were not; "
                "what was sent so far is remembered: go on without --reason and --topic"
            )
        return OffsetAndMetadata(self.first, packed, -1)


def reason_of(headers: list[tuple[str, bytes | None]]) -> Reason:
    """From a letter's headers. Quoted text and numbers in its message become … and N."""
    told = {name.removeprefix(ERRORS): (value or b"").decode(errors="replace") for name, value in headers}
    message = re.sub(r"\b(0x[0-9a-f]+|\d+)\b", "N", re.sub(r"'[^']*'", "'…'", told.get("exception.message", "")))
    return Reason(told.get("exception.class.name", ""), message, told.get("topic", ""), told.get("stage", ""))


def can_go_back(letter: Any) -> bool:
    """Whether it says where it came from, is whole, and kafka-python can send it: not empty, and no empty header."""
    sent = (letter.key, letter.value) != (None, None) and all(value is not None for _, value in letter.headers)
    return sent and letter.value != WITHHELD and bool(reason_of(letter.headers).topic)


def show(settings: Settings, limit: int | None = None) -> dict[Reason, Letters]:
    """The dead letters by reason, the most frequent first; of the first `limit` letters alone, if given."""
    places = _remembered(settings)
    found: dict[Reason, Letters] = {}
    for number, letter in enumerate(_letters(settings)):
        if number == limit:
            break
        letters = found.setdefault(reason_of(letter.headers), Letters())
        place = places[letter.partition]
        letters.count += 1
        letters.sent_back += letter.offset < place.first or letter.offset in place.sent
        if len(letters.examples) < EXAMPLES:
            letters.examples.append(_example(letter))
    return dict(sorted(found.items(), key=lambda entry: -entry[1].count))


def describe(found: dict[Reason, Letters]) -> str:
    """Reasons with their counts and examples, as a person would read them."""
    lines = []
    for reason, letters in found.items():
        sent = f", {letters.sent_back:,} sent back" if letters.sent_back else ""
        lines.append(f"{letters.count:,} × {reason} (from {reason.topic or 'an unknown topic'}, {reason.stage}{sent})")
        lines += [f"    {each['from']} key {each['key']}: {each['value']}" for each in letters.examples]
    return "\n".join(lines)


def replay(
    settings: Settings, *, topic: str | None = None, reason: str | None = None, limit: int | None = None
) -> Replayed:
    """Send letters back to where they came from: key, value, timestamp, own headers and, if it is there, partition.

    topic: only those from there. reason: only those whose reason, as `show` writes it, contains this. limit: at most so
    many. The records and what is remembered of them, in the offsets of a consumer group, are one transaction: for
    readers with read_committed a letter goes back once, also after a crash or beside another replay, which it ends.
    """
    sent = left = 0
    chunk: list[Any] = []
    brokers.require_topics(settings, settings.topics.dlq)
    with brokers.reachable(settings):
        producer = brokers.producer(
            settings,
            transactional_id=f"{settings.sink.transactional_id_prefix}-replay",
            max_request_size=MAX_RECORD_BYTES,
        )
        try:
            producer.init_transactions()  # ends what another replay has under way: all that it sent is remembered
            places = _remembered(settings)
            for letter in _letters(settings, {number: place.first for number, place in places.items()}):
                if sent == limit:
                    break
                place, why = places[letter.partition], reason_of(letter.headers)
                place.read_to = letter.offset + 1
                if letter.offset in place.sent:
                    continue
                if not can_go_back(letter) or topic not in (None, why.topic) or (reason or "") not in str(why):
                    left += 1
                    place.left = letter.offset if place.left is None else place.left
                else:
                    chunk.append(letter)
                    sent += 1
                    if len(chunk) == CHUNK:
                        _send_back(settings, producer, chunk, places)
                        chunk = []
            for place in places.values():
                place.forget()
            if sent:
                _send_back(settings, producer, chunk, places)
        finally:
            producer.close()
    return Replayed(sent, left)


def _send_back(settings: Settings, producer: KafkaProducer, letters: list[Any], places: dict[int, Place]) -> None:
    """One transaction: the letters to their topics, and where each partition of the dead letters stands."""
    for origin in {reason_of(letter.headers).topic for letter in letters}:
        brokers.require_topics(settings, origin)
    with brokers.transaction(producer, _group(settings)) as (send, offsets):
        for letter in letters:
            origin = reason_of(letter.headers).topic
            told = dict(letter.headers).get(f"{ERRORS}partition", b"")
            partition = int(told) if told.isdigit() and len(told) < 10 else None
            send(
                origin,
                key=letter.key,
                value=letter.value,
                headers=[(name, value) for name, value in letter.headers if not name.startswith(ERRORS)],
                partition=partition if partition in producer.partitions_for(origin) else None,
                timestamp_ms=letter.timestamp,
            )
            places[letter.partition].add(letter.offset)
        offsets |= {TopicPartition(settings.topics.dlq, number): place.to_commit() for number, place in places.items()}


def _letters(settings: Settings, begin: Mapping[int, int] | None = None) -> Iterator[Any]:
    return brokers.records(settings, settings.topics.dlq, begin)


def _remembered(settings: Settings) -> dict[int, Place]:
    """By partition of the dead letters."""
    found = brokers.committed(settings, settings.topics.dlq, _group(settings))
    return {number: Place.committed(place) for number, place in found.items()}


def _group(settings: Settings) -> str:
    return f"{settings.kafka.group}-dlq-replay"


def _example(letter: Any) -> dict[str, str]:
    told = {name: (value or b"").decode(errors="replace") for name, value in letter.headers}
    place = "/".join(told.get(f"{ERRORS}{part}", "?") for part in ("topic", "partition", "offset"))
    key, value = (
        "none" if part is None else part[:200].decode(errors="replace") for part in (letter.key, letter.value)
    )
    return {"from": place, "key": key, "value": value}
