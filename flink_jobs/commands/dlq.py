"""`shopstream dlq`: shows why there are dead letters, and sends them back to their topics."""

import base64
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from kafka import KafkaProducer
from kafka.structs import OffsetAndMetadata, TopicPartition

from flink_jobs.brokers.clients import open_producer, transaction
from flink_jobs.brokers.errors import reachable
from flink_jobs.brokers.reading import ConsumerRecord, committed_offsets, read_topic
from flink_jobs.brokers.topics import require_topics
from flink_jobs.settings.settings import Settings
from udfs.core.errors import ShopstreamError
from udfs.privacy.masking import WITHHELD

#: Prefix of the headers that describe the error, as Kafka Connect and our jobs write them.
ERRORS = "__connect.errors."
#: Header of a letter that was cut: the length of its whole value.
CUT = f"{ERRORS}value.bytes"
#: Examples per reason.
EXAMPLES = 3
#: Letters per transaction.
CHUNK = 1000
#: Bytes that a committed offset may carry by a broker's default (offset.metadata.max.bytes).
MAX_METADATA = 4096


@dataclass(frozen=True)
class Reason:
    """Why letters are dead. message: without what differs from letter to letter. Empty if a header is missing."""

    exception: str
    message: str
    topic: str
    stage: str

    def __str__(self) -> str:
        return f"{self.exception}: {self.message}"


@dataclass
class Letters:
    """Dead letters of one reason: their number, how many of them were sent back, and the first few."""

    count: int = 0
    sent_back: int = 0
    examples: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Replayed:
    """What a replay did. left: skipped (other topic or reason, or not replayable)."""

    sent: int
    left: int


@dataclass
class ReplayState:
    """Which letters of a partition were sent back: all before offset `first`, and `sent` from there on.

    While a replay runs, it has read up to offset `read_to`, and `left` is the first letter that it skipped.
    """

    first: int = 0
    sent: set[int] = field(default_factory=set)
    read_to: int = 0
    left: int | None = None

    @classmethod
    def committed(cls, found: OffsetAndMetadata | None) -> "ReplayState":
        """Reads what `to_commit` wrote; without a committed offset nothing was sent back.

        Raises ShopstreamError if another client has written it.
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
        """Notes a letter as sent, unless `first` covers it already."""
        if offset >= self.first:
            self.sent.add(offset)

    def compact(self) -> None:
        """Keeps no more than needed at the end of a replay: moves `first` to the first letter that was skipped."""
        self.first = max(self.first, self.read_to if self.left is None else self.left)
        self.sent = {offset for offset in self.sent if offset >= self.first}

    def to_commit(self) -> OffsetAndMetadata:
        """Packs `sent` as compressed bits, one per offset; raises ShopstreamError if they are too many to commit."""
        bits = np.zeros(max(self.sent, default=self.first - 1) - self.first + 1, np.uint8)
        bits[np.fromiter(self.sent, np.int64) - self.first] = 1
        packed = base64.b64encode(zlib.compress(np.packbits(bits).tobytes(), 9)).decode() if self.sent else ""
        if len(packed) > MAX_METADATA:
            raise ShopstreamError(
                "Kafka cannot remember which letters were sent back: they are too scattered among the others; "
                "what was sent so far is remembered, so go on without --reason and --topic"
            )
        return OffsetAndMetadata(self.first, packed, -1)


def reason_of(headers: list[tuple[str, bytes | None]]) -> Reason:
    """Reads the reason from a letter's headers. Quoted text and numbers in its message become … and N."""
    header = {name.removeprefix(ERRORS): (value or b"").decode(errors="replace") for name, value in headers}
    message = re.sub(r"\b(0x[0-9a-f]+|\d+)\b", "N", re.sub(r"'[^']*'", "'…'", header.get("exception.message", "")))
    return Reason(header.get("exception.class.name", ""), message, header.get("topic", ""), header.get("stage", ""))


def is_replayable(letter: ConsumerRecord) -> bool:
    """Whether a letter names its topic, is whole, and kafka-python can send it: not empty, and no empty header."""
    if CUT in dict(letter.headers):
        return False
    sendable = (letter.key, letter.value) != (None, None) and all(value is not None for _, value in letter.headers)
    return sendable and letter.value != WITHHELD and bool(reason_of(letter.headers).topic)


def dead_letters_by_reason(settings: Settings, limit: int | None = None) -> dict[Reason, Letters]:
    """Groups dead letters by reason, the most frequent first. limit: look at only this many of the first letters."""
    states = _sent_back(settings)
    found: dict[Reason, Letters] = {}
    for number, letter in enumerate(_letters(settings)):
        if number == limit:
            break
        letters = found.setdefault(reason_of(letter.headers), Letters())
        state = states[letter.partition]
        letters.count += 1
        letters.sent_back += letter.offset < state.first or letter.offset in state.sent
        if len(letters.examples) < EXAMPLES:
            letters.examples.append(_example(letter))
    return dict(sorted(found.items(), key=lambda entry: -entry[1].count))


def describe_reasons(found: dict[Reason, Letters]) -> str:
    """Describes reasons with their counts and examples."""
    lines = []
    for reason, letters in found.items():
        sent = f", {letters.sent_back:,} sent back" if letters.sent_back else ""
        origin = f"(from {reason.topic or 'an unknown topic'}, {reason.stage}{sent})"
        lines.append(_printable(f"{letters.count:,} × {reason} {origin}"))
        lines += [f"    {example['from']} key {example['key']}: {example['value']}" for example in letters.examples]
    return "\n".join(lines)


def replay_dead_letters(
    settings: Settings, *, topic: str | None = None, reason: str | None = None, limit: int | None = None
) -> Replayed:
    """Sends letters back where they came from: key, value, timestamp, own headers and, if it exists, partition.

    topic: only letters from there. reason: only letters whose reason, as `dlq show` writes it, contains this. limit: at
    most this many. One transaction holds the records and, as offsets of a consumer group, which letters they are. So
    readers with read_committed see a letter once, also after a crash or next to another replay, which this one ends.
    """
    sent = left = 0
    chunk: list[ConsumerRecord] = []
    require_topics(settings, settings.topics.dlq)
    with reachable(settings):
        producer = open_producer(settings, transactional_id=f"{settings.sink.transactional_id_prefix}-replay")
        try:
            producer.init_transactions()  # ends another replay's open transaction; what it committed is remembered
            states = _sent_back(settings)
            for letter in _letters(settings, {number: state.first for number, state in states.items()}):
                if sent == limit:
                    break
                state, why = states[letter.partition], reason_of(letter.headers)
                state.read_to = letter.offset + 1
                if letter.offset in state.sent:
                    continue
                if not is_replayable(letter) or topic not in (None, why.topic) or (reason or "") not in str(why):
                    left += 1
                    state.left = letter.offset if state.left is None else state.left
                else:
                    chunk.append(letter)
                    sent += 1
                    if len(chunk) == CHUNK:
                        _send_back(settings, producer, chunk, states)
                        chunk = []
            for state in states.values():
                state.compact()
            if sent:
                _send_back(settings, producer, chunk, states)
        finally:
            producer.close()
    return Replayed(sent, left)


def _send_back(
    settings: Settings, producer: KafkaProducer, letters: list[ConsumerRecord], states: dict[int, ReplayState]
) -> None:
    """Sends letters to their topics, and commits where each partition of the dead letters stands."""
    for origin in {reason_of(letter.headers).topic for letter in letters}:
        require_topics(settings, origin)
    with transaction(producer, _group(settings)) as (send, offsets):
        for letter in letters:
            origin = reason_of(letter.headers).topic
            number = dict(letter.headers).get(f"{ERRORS}partition") or b""
            partition = int(number) if number.isdigit() and len(number) < 10 else None
            send(
                origin,
                key=letter.key,
                value=letter.value,
                headers=[(name, value) for name, value in letter.headers if not name.startswith(ERRORS)],
                partition=partition if partition in producer.partitions_for(origin) else None,
                timestamp_ms=letter.timestamp,
            )
            states[letter.partition].add(letter.offset)
        offsets |= {TopicPartition(settings.topics.dlq, number): state.to_commit() for number, state in states.items()}


def _letters(settings: Settings, begin: Mapping[int, int] | None = None) -> Iterator[ConsumerRecord]:
    return read_topic(settings, settings.topics.dlq, begin)


def _sent_back(settings: Settings) -> dict[int, ReplayState]:
    """Returns what was sent back, by partition of the dead letters."""
    found = committed_offsets(settings, settings.topics.dlq, _group(settings))
    return {number: ReplayState.committed(state) for number, state in found.items()}


def _group(settings: Settings) -> str:
    return f"{settings.kafka.group}-dlq-replay"


def _example(letter: ConsumerRecord) -> dict[str, str]:
    header = {name: (value or b"").decode(errors="replace") for name, value in letter.headers}
    origin = "/".join(header.get(f"{ERRORS}{part}", "?") for part in ("topic", "partition", "offset"))
    key, value = (
        "none" if part is None else _printable(part[:200].decode(errors="replace"))
        for part in (letter.key, letter.value)
    )
    return {"from": _printable(origin), "key": key, "value": value}


def _printable(text: str) -> str:
    """Escapes what a terminal would obey or not show, such as zero bytes and colors."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
