"""A run of a contender of `python -m bench pipeline`."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from kafka import TopicPartition
from rich.console import Console

from bench.environment import cores
from bench.pipeline.contenders import FLINK, SETTLE_S, STUCK_S, Contender, flink, other
from bench.pipeline.prepare import ENCODED, Options, Prepared
from bench.pipeline.sessions import Due, Shopper, sessions_of
from flink_jobs import brokers
from flink_jobs.settings import Settings, load_settings
from udfs.bundle import Bundle
from udfs.encoder import Encoder
from udfs.errors import ShopstreamError
from udfs.items import LiveItems
from udfs.learned import open_ranker
from udfs.ranking import RankOptions

#: Seconds between two looks at the topic, and at the processes.
LOOK_S, USAGE_S = 0.25, 1.0
#: Seconds for a first or a last answer.
WAIT_S = 300.0
ENCODER_S = 20.0
ID = b'{"recommendation_id":"'


@dataclass(frozen=True)
class Sample:
    """A look at a contender: seconds since its start, records in its topic, CPU seconds and MB of its processes."""

    at: float
    records: int
    cpu_s: float
    rss_mb: float


@dataclass(frozen=True)
class Run:
    """One round of a contender: its samples, the texts that its encoder was asked for, its records, and its state."""

    samples: list[Sample]
    texts: int | None
    through: bool
    digests: Mapping[str, int]  #: of the records, by recommendation id
    records: int
    state_mb: float | None = None


def race(
    name: str, own: Path, base: Sequence[str], bundle: Bundle, prepared: Prepared, options: Options, notes: Console
) -> Run:
    """Start a contender, watch it catch up, end it, and read what it wrote. ShopstreamError when it fails."""
    topic = f"recommendations-{own.name}"
    assignments = [*base, f"home={own}", f"topics.recommendations={topic}", f"kafka.group={topic}"]
    assignments.append(f"sink.transactional_id_prefix={topic}")
    settings = load_settings(None, assignments)
    if name == "encoder":
        share = write_batches(own / "batches.json", bundle, prepared)
        with other(name, own, settings, prepared.events, notes) as contender:
            return encode_for(ENCODER_S, contender, share)
    brokers.create_topics(settings, cores())
    with (
        flink(name, own, assignments)
        if name in FLINK
        else other(name, own, settings, prepared.events, notes) as contender
    ):
        samples, through = watch(settings, contender, len(prepared.due), options.limit_s)
        asked, state_mb = contender.texts(), contender.state_mb()
    digests, records = read_records(settings)
    with brokers.reachable(settings):
        admin = brokers.admin(settings)
        admin.delete_topics([topic])
        admin.close()
    return Run(samples, asked, through, digests, records, state_mb)


class Usage:
    """CPU seconds of some processes and their children, also of those that have ended, and resident memory now, MB."""

    def __init__(self, roots: Sequence[int]) -> None:
        self._roots = [psutil.Process(pid) for pid in roots]
        self._cpu: dict[tuple[int, float], float] = {}
        self.rss_mb = 0.0

    def look(self) -> None:
        """Bring both up to now."""
        rss = 0
        for root in self._roots:
            try:
                processes = [root, *root.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            for process in processes:
                try:
                    times, memory = process.cpu_times(), process.memory_info()
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
                self._cpu[process.pid, process.create_time()] = times.user + times.system
                rss += memory.rss
        self.rss_mb = rss / 1e6

    @property
    def cpu_s(self) -> float:
        """Since each of them began."""
        return sum(self._cpu.values())


def wait(done: Callable[[], bool], check: Callable[[], None], what: str) -> None:
    """Until it is done; ShopstreamError after WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while not done():
        check()
        if time.monotonic() > deadline:
            raise ShopstreamError(f"there was no {what} for {WAIT_S:.0f} s")
        time.sleep(0.5)


def watch(settings: Settings, contender: Contender, due: int, limit_s: float) -> tuple[list[Sample], bool]:
    """Look at a contender until its topic has all that is due and rests, or it is stuck or out of time: not through."""
    usage = Usage(contender.roots)
    topic = settings.topics.recommendations
    samples: list[Sample] = []
    used = moved = -STUCK_S
    with brokers.reachable(settings):
        client = brokers.consumer(settings, committed=False)
        places = [TopicPartition(topic, number) for number in client.partitions_for_topic(topic) or ()]
        try:
            while True:
                at = time.monotonic() - contender.began
                if at - used >= USAGE_S:
                    used = at
                    usage.look()
                    contender.check()
                records = sum(client.end_offsets(places).values())
                if not samples or records != samples[-1].records:
                    moved = at
                samples.append(Sample(at, records, usage.cpu_s, usage.rss_mb))
                if records >= due and at - moved >= SETTLE_S:
                    return samples, True
                if at - moved >= STUCK_S or at >= limit_s:
                    return samples, False
                time.sleep(LOOK_S)
        finally:
            client.close()


def steady(samples: Sequence[Sample]) -> tuple[Sample, Sample] | None:
    """The looks at the first result and at the last, None without a second between them."""
    some = [place for place, sample in enumerate(samples) if sample.records]
    if not some:
        return None
    last = next(place for place, sample in enumerate(samples) if sample.records == samples[-1].records)
    first, end = samples[some[0]], samples[last]
    return (first, end) if end.at - first.at >= 1 else None


def read_records(settings: Settings) -> tuple[dict[str, int], int]:
    """Of the committed recommendations: a digest by recommendation id, and how many there are."""
    digests: dict[str, int] = {}
    records = 0
    for message in brokers.records(settings, settings.topics.recommendations):
        value = message.value
        digests[value[len(ID) : value.index(b'"', len(ID))].decode()] = hash(value)
        records += 1
    return digests, records


def write_batches(file: Path, bundle: Bundle, prepared: Prepared) -> float:
    """Write the texts that ranking asks for, a list a batch of due answers; answers for each text, once a batch."""
    rows = load_settings().python.bundle_size
    ranker, shoppers, dues = open_ranker(bundle, LiveItems(bundle), RankOptions()), dict[bytes, Shopper](), list[Due]()
    for key, value in prepared.values:
        if due := shoppers.setdefault(key, Shopper()).meet(value):
            dues.append(due)
    dues = dues[:ENCODED]
    batches: list[list[str]] = []
    encoder = Encoder(bundle)

    def encode(texts: Sequence[str]) -> Any:
        batches.append(list(texts))
        return encoder.encode(texts)

    for place in range(0, len(dues), rows):
        batch = dues[place : place + rows]
        ranker.answer([due[0] for due in batch], sessions_of(batch), encode)
    file.write_text(json.dumps(batches))
    return len(dues) / sum(len(set(batch)) for batch in batches)


def encode_for(seconds: float, contender: Contender, answers_a_text: float) -> Run:
    """Let the encoder run for so long from its first note on; samples count the answers that its texts are for."""
    usage = Usage(contender.roots)
    samples: list[Sample] = []
    texts: list[int] = []
    while not samples or samples[-1].at - samples[0].at < seconds:
        time.sleep(USAGE_S)
        contender.check()
        usage.look()
        if asked := contender.texts():
            at = time.monotonic() - contender.began
            samples.append(Sample(at, round(asked * answers_a_text), usage.cpu_s, usage.rss_mb))
            texts.append(asked)
    return Run(samples, texts[-1] - texts[0], True, {}, 0)
