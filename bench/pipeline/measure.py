"""Watching a contender of `python -m bench pipeline` while it runs, and reading the records it wrote."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psutil
from kafka import TopicPartition

from bench.pipeline.contenders import Running
from flink_jobs.brokers.clients import open_consumer
from flink_jobs.brokers.errors import reachable
from flink_jobs.brokers.reading import read_topic
from flink_jobs.settings.settings import Settings
from udfs.core.errors import ShopstreamError

#: Seconds between two looks at the topic.
LOOK_S = 0.25
#: Seconds between two looks at the processes.
USAGE_S = 1.0
#: Seconds without a new result after which a contender with everything due is finished.
SETTLE_S = 3.0
#: Seconds without a new result after which any other contender is stuck.
STUCK_S = 180.0
#: Seconds to wait for a first or a last answer.
WAIT_S = 300.0
#: The start of every recommendation's JSON; the id follows, up to the next quote.
ID_PREFIX = b'{"recommendation_id":"'


@dataclass(frozen=True)
class Sample:
    """A contender at one moment: seconds since its start, results so far, CPU seconds, and resident MB.

    results: offsets used in its topic; of the encoder alone, answers that its texts are enough for.
    """

    at: float
    results: int
    cpu_s: float
    rss_mb: float


@dataclass(frozen=True)
class Run:
    """One round of a contender.

    texts: that its encoder was asked for. finished: False if it was cut off or stuck. digests: of its records, by
    recommendation id. records: how many there are, repeated ids included. state_mb: of Flink's last checkpoint.
    """

    samples: list[Sample]
    texts: int | None
    finished: bool
    digests: Mapping[str, int]
    records: int
    state_mb: float | None = None


class Usage:
    """CPU seconds of processes and their children, including ended ones, and their resident memory now, in MB."""

    def __init__(self, roots: Sequence[int]) -> None:
        self._roots = [psutil.Process(pid) for pid in roots]
        self._cpu_s: dict[tuple[int, float], float] = {}  # by pid and start time, as pids are reused
        self.rss_mb = 0.0

    def update(self) -> None:
        """Read both again."""
        rss = 0
        for root in self._roots:
            try:
                processes = [root, *root.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            for process in processes:
                try:
                    times = process.cpu_times()
                    memory = process.memory_info()
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
                self._cpu_s[process.pid, process.create_time()] = times.user + times.system
                rss += memory.rss
        self.rss_mb = rss / 1e6

    @property
    def cpu_s(self) -> float:
        """Since the start of each process."""
        return sum(self._cpu_s.values())


def wait(done: Callable[[], bool], check: Callable[[], None], what: str) -> None:
    """Wait until `done`, calling `check` meanwhile; raise ShopstreamError after WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while not done():
        check()
        if time.monotonic() > deadline:
            raise ShopstreamError(f"there was no {what} for {WAIT_S:.0f} s")
        time.sleep(0.5)


def watch(settings: Settings, contender: Running, due: int, limit_s: float) -> tuple[list[Sample], bool]:
    """Sample a contender until it is finished, stuck or out of time; the flag says whether it is finished.

    due: the number of recommendations that it owes.
    """
    usage = Usage(contender.roots)
    topic = settings.topics.recommendations
    samples: list[Sample] = []
    last_usage = last_progress = -STUCK_S
    with reachable(settings):
        client = open_consumer(settings, committed=False)
        partitions = [TopicPartition(topic, number) for number in client.partitions_for_topic(topic) or ()]
        try:
            while True:
                at = time.monotonic() - contender.started
                if at - last_usage >= USAGE_S:
                    last_usage = at
                    usage.update()
                    contender.check()
                offsets = sum(client.end_offsets(partitions).values())
                if not samples or offsets != samples[-1].results:
                    last_progress = at
                samples.append(Sample(at, offsets, usage.cpu_s, usage.rss_mb))
                if offsets >= due and at - last_progress >= SETTLE_S:
                    return samples, True
                if at - last_progress >= STUCK_S or at >= limit_s:
                    return samples, False
                time.sleep(LOOK_S)
        finally:
            client.close()


def read_records(settings: Settings) -> tuple[dict[str, int], int]:
    """Read the committed recommendations: a digest by recommendation id, and their number, repeated ids included."""
    digests: dict[str, int] = {}
    count = 0
    for message in read_topic(settings, settings.topics.recommendations):
        digests[recommendation_id(message.value or b"")] = hash(message.value)
        count += 1
    return digests, count


def recommendation_id(value: bytes) -> str:
    """The id in a recommendation's JSON, without parsing all of it."""
    start = len(ID_PREFIX)
    return value[start : value.index(b'"', start)].decode()
