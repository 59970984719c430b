"""`python -m bench pipeline`: the main job's throughput beside what one would take instead, on one real Kafka broker.

Every contender catches up alone on the same prepared topic, with the same bundle and a worker for each core.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import psutil
from kafka import TopicPartition
from rich import box
from rich.console import Console
from rich.table import Table

from bench.chart import OURS, PEERS, require_drawing
from bench.encode import machine
from bench.environment import ROOT, peers_python, peers_versions
from bench.pipeline_sessions import Due, Shopper, sessions_of
from deploy.local.flink import LocalFlink
from deploy.local.jars import jars
from deploy.local.kafka import LocalKafka
from deploy.local.process import free_port, last_error, terminate
from flink_jobs import brokers, simulate
from flink_jobs import submit as submitting
from flink_jobs.settings import Settings, load_settings
from udfs.bundles.bundle import Bundle, open_bundle
from udfs.catalog.items import LiveItems
from udfs.contracts.clickstream import ClickstreamEvent
from udfs.core.errors import ShopstreamError
from udfs.encoder.encoder import open_encoder
from udfs.ranking.model import open_ranker
from udfs.ranking.options import RankOptions

#: Where the same events are with a broken one after each 99.
BAD_TOPIC, BAD_EACH = "clickstream-bad", 99
_JOBS = submitting.Job(ROOT / "bench" / "pipeline_jobs.py", "a contender", topics=("clickstream", "recommendations"))
#: Flink's contenders: the job, settings beside the defaults, and what only its file takes.
FLINK: Mapping[str, tuple[submitting.Job, tuple[str, ...], tuple[str, ...]]] = {
    "ours": (submitting.JOBS["recommend"], (), ()),
    "floor": (_JOBS, (), ("--contender", "floor")),
    "identity": (_JOBS, (), ("--contender", "identity")),
    "ours-cold": (submitting.JOBS["recommend"], ("encoder.cache=0",), ()),
    "ours-rocksdb": (submitting.JOBS["recommend"], ("checkpoint.backend=rocksdb",), ()),
    "identity-rocksdb": (_JOBS, ("checkpoint.backend=rocksdb",), ("--contender", "identity")),
    "ours-bad": (submitting.JOBS["recommend"], (f"topics.clickstream={BAD_TOPIC}",), ()),
}
#: The others, and whether they run in the peers' environment; `encoder` is no pipeline, but the most that one can do.
OTHERS: Mapping[str, bool] = {
    "bytewax": True,
    "quix-streams": True,
    "spark": True,
    "loop": False,
    "encoder": False,
}
NAMES = (*FLINK, *OTHERS)
GUARANTEES = dict.fromkeys(FLINK, "exactly-once") | {
    "bytewax": "at-least-once",
    "quix-streams": "at-least-once",
    "spark": "at-least-once",
    "loop": "at-least-once, sessions lost",
    "encoder": "",
}
PEER_PACKAGES = ("bytewax", "quixstreams", "pyspark", "confluent-kafka", "kafka-python")

ITEMS = 1500
EVENTS, QUICK_EVENTS = 1_000_000, 20_000
#: Of the simulated shop: about one for each 50 events.
EVENTS_A_SHOPPER = 50
#: Seconds between two looks at the topic, and at the processes.
LOOK_S, USAGE_S = 0.25, 1.0
#: A contender is through when all is there and nothing came for SETTLE_S; it is stuck when nothing came for STUCK_S.
SETTLE_S, STUCK_S = 3.0, 180.0
#: Seconds for a first or a last answer.
WAIT_S = 300.0
#: Flink asks its workers for their metrics every 10 s.
METRICS_S = 11.0
#: Triggers whose texts the encoder alone is given, in batches of as many rows as cross into the job's Python at a time.
ENCODED = 4096
ENCODER_S = 20.0
ID = b'{"recommendation_id":"'


@dataclass(frozen=True)
class Options:
    """What was asked for: how many events, rounds and seconds a contender, whom (none: all), and whose bundle.

    assignments: settings of the Flink jobs, `name=value` each.
    """

    events: int = EVENTS
    rounds: int = 1
    only: tuple[str, ...] = ()
    limit_s: float = 900.0
    bundles: Path | None = None
    assignments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One contender, as the JSON has it: the median of its rounds. events: those prepared, or got through in time.

    Rates are from the first result to the last, events_per_s by the share of the events that the results stand for;
    texts are those that the encoder was asked for, each once a batch, from its cache too. CPU is of all the contender's
    processes in that time, peak_rss_mb the most that they held together, pages that they share counted for each.
    startup_s: from its start (Flink's cluster runs by then) to the first result; state_mb: of Flink's last checkpoint.
    missing, doubled and unexpected recommendations, of all rounds; same_as_ours: share of its records that equal those
    of `ours` byte for byte. Null is what cannot be told: rates of too short a run, missing ones of a run that was cut
    off.
    """

    name: str
    guarantee: str
    events: int
    events_per_s: float | None
    recommendations_per_s: float | None
    texts_per_s: float | None
    cpu_s_per_100k: float | None
    peak_rss_mb: float | None
    startup_s: float | None
    state_mb: float | None
    ratio_ours_to_it: float | None
    missing: int | None
    doubled: int
    unexpected: int
    same_as_ours: float | None


@dataclass(frozen=True)
class Prepared:
    """What is in the topic, and the ids of the recommendations that are due for it."""

    events: int
    about: str
    due: frozenset[str]
    values: list[tuple[bytes, bytes]]  #: the first records' keys and values, for the encoder alone


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


# --- the command ------------------------------------------------------------------------------------------------------


def run(options: Options, *, as_json: bool, chart: Path | None) -> None:
    """Measure, and print a table or a JSON list; raises ShopstreamError for what a user can mend."""
    if unknown := sorted(set(options.only) - set(NAMES)):
        raise ShopstreamError(f"--only names {', '.join(unknown)}; the contenders are {', '.join(NAMES)}")
    if chart is not None:
        require_drawing(chart)
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    with TemporaryDirectory(prefix="shopstream-bench-", ignore_cleanup_errors=True) as folder:
        about, rows = catch_up(options, Path(folder), notes)
    if chart is not None:
        draw(rows, chart)
    if as_json:
        sys.stdout.write(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    else:
        show(about, rows, Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140))


def catch_up(options: Options, folder: Path, notes: Console) -> tuple[str, list[Row]]:
    """What was prepared, and a row for each contender that ran; `folder` takes everything that is written."""
    bundle = bundle_for(options, folder, notes)
    shoppers = shoppers_of(options)
    names = [name for name in NAMES if not options.only or name in options.only]
    with broker(folder) as address:
        base = [*settings_for(address, bundle), *options.assignments]
        stream = simulate.simulate(
            bundle.items().table.to_pylist(), events=options.events, shoppers=shoppers, bad_share=0
        )
        prepared = prepare(load_settings(None, base), stream, notes)
        prepared = replace(prepared, about=f"{prepared.about}; 2 % of the events up to 20 s late; bundle {bundle.id}")
        notes.print(prepared.about, markup=False)
        if "ours-bad" in names:
            spoil(load_settings(None, [*base, *FLINK["ours-bad"][1]]), bundle, options.events, shoppers)
        runs: dict[str, list[Run]] = {}
        for turn in range(options.rounds):
            for name in names if turn % 2 == 0 else reversed(names):
                notes.print(f"{name}: round {turn + 1} of {options.rounds}", markup=False)
                own = folder / f"{name}-{turn}"
                own.mkdir()
                try:
                    done = race(name, own, base, bundle, prepared, options, notes)
                except ShopstreamError as error:
                    notes.print(f"warning: left out: {name}: {error}", markup=False)
                    continue
                runs.setdefault(name, []).append(done)
                notes.print(f"  {_line(row_of(name, [done], prepared, None))}", markup=False)
    if not runs:
        raise ShopstreamError("no contender is left to measure")
    ours = runs.get("ours", [None])[0]
    rows = [row_of(name, runs[name], prepared, ours) for name in NAMES if name in runs]
    base_rate = next((row.events_per_s for row in rows if row.name == "ours"), None)
    return prepared.about, [with_ratio(row, base_rate) for row in rows]


def with_ratio(row: Row, base: float | None) -> Row:
    """The row with how many times as many events a second `ours` (base) does."""
    return replace(row, ratio_ours_to_it=round(base / row.events_per_s, 3)) if base and row.events_per_s else row


def cores() -> int:
    """The cores that this process may use: workers of every contender, and partitions of every topic."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """The address of a broker of our own."""
    local = LocalKafka(folder / "kafka", free_port())
    try:
        yield local.start().bootstrap
    finally:
        local.stop()


def settings_for(address: str, bundle: Bundle) -> list[str]:
    """What every contender is set to: the broker, the bundle, a worker for each core."""
    folder = bundle.path.parent.absolute()
    return [f"kafka.bootstrap={address}", f"bundles={folder}", f"parallelism={cores()}", "encoder.threads=1"]


def shoppers_of(options: Options) -> int:
    """How many shoppers the simulated shop has."""
    return max(100, options.events // EVENTS_A_SHOPPER)


def bundle_for(options: Options, folder: Path, notes: Console) -> Bundle:
    """The bundle that was named, or one of the simulated shop, exported into `folder` once."""
    own = folder / "bundles"
    if options.bundles is None and not own.exists():
        export_shop(shoppers_of(options), folder, notes)
    return open_bundle(options.bundles or own)


def export_shop(shoppers: int, folder: Path, notes: Console, items: int = ITEMS) -> None:
    """A bundle of the simulated shop in `folder`/bundles, its ranker learned."""
    notes.print("exporting the bundle of a simulated shop")
    simulate.write(folder / "shop", events=1, items=items, shoppers=shoppers)
    files = ["--catalog", str(folder / "shop" / "catalog.jsonl"), "--sessions", str(folder / "shop" / "sessions.jsonl")]
    command = [sys.executable, "-m", "export", "train", *files, "--out", str(folder / "bundles"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ShopstreamError(f"the export failed: {last_line(done.stderr).removeprefix('error: ')}")


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


# --- what is prepared -------------------------------------------------------------------------------------------------


def prepare(settings: Settings, stream: Iterable[simulate.Record], notes: Console) -> Prepared:
    """Fill `clickstream` with events, none of them broken."""
    brokers.create_topics(settings, cores())
    decode = msgspec.json.Decoder(ClickstreamEvent).decode
    due, users, counts = set[str](), set[str](), dict[str, int]()
    first: list[tuple[bytes, bytes]] = []
    records = repeats = size = 0
    seen = set[str | None]()
    begun = time.monotonic()
    with brokers.reachable(settings):
        producer = brokers.producer(settings)
        for record in stream:
            key, value = record.key or b"", record.value or b""
            repeats += record.kind == "duplicate"
            producer.send(settings.topics.clickstream, key=key, value=value)
            event = decode(value)
            if event.event_type in settings.triggers:
                due.add(f"{event.user_id}/{event.event_id}")
            if len(first) < ENCODED * 2:
                first.append((key, value))
            users.add(event.user_id)
            seen.add(event.session_id)
            if event.item_id:
                counts[event.item_id] = counts.get(event.item_id, 0) + 1
            records, size = records + 1, size + len(value)
        producer.flush()
        producer.close()
    notes.print(f"prepared in {time.monotonic() - begun:.0f} s", markup=False)
    about = (
        f"{records:,} events ({repeats:,} of them repeats) of {len(users):,} shoppers in {len(seen):,} sessions, "
        f"{size / records:.0f} bytes each, {len(due):,} triggers; {len(counts):,} items, the most frequent in "
        f"{max(counts.values()) / sum(counts.values()):.1%} of the events; {cores()} partitions"
    )
    return Prepared(records, about, frozenset(due), first)


def spoil(settings: Settings, bundle: Bundle, events: int, shoppers: int) -> None:
    """Fill another topic with what `prepare` does, and a broken record after each BAD_EACH; as many answers are due."""
    brokers.create_topics(settings, cores())
    catalog = bundle.items().table.to_pylist()
    bad = (record for record in simulate.simulate(catalog, seed=1, bad_share=1) if record.kind == "bad")
    with brokers.reachable(settings):
        producer = brokers.producer(settings)
        for count, record in enumerate(
            simulate.simulate(catalog, events=events, shoppers=shoppers, bad_share=0), start=1
        ):
            for each in (record, next(bad)) if count % BAD_EACH == 0 else (record,):
                producer.send(settings.topics.clickstream, key=each.key, value=each.value)
        producer.flush()
        producer.close()


# --- a contender's run ------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class Contender:
    """One that runs: when it began, its processes, whether it is alive (else ShopstreamError), its encoder's texts.

    state_mb: of Flink's last checkpoint; address: of Flink's REST interface.
    """

    began: float
    roots: Sequence[int]
    check: Callable[[], None]
    texts: Callable[[], int | None]
    state_mb: Callable[[], float | None] = lambda: None
    address: str = ""


@contextmanager
def flink(name: str, own: Path, assignments: Sequence[str]) -> Iterator[Contender]:
    """A Flink cluster of its own with one job."""
    job, more, arguments = FLINK[name]
    cluster = LocalFlink(own / "flink", free_port(), slots=cores(), task_memory=f"{1024 + 512 * cores()}m")
    try:
        status = cluster.start()
        given = [*assignments, *more, f"flink.address={status.url.removeprefix('http://')}"]
        settings = load_settings(None, given)
        command = submitting.flink_run(job, settings, submitting.job_arguments(settings, None, given))
        began = time.monotonic()
        job_id = submitting.submit([*command, *arguments], settings)

        def check() -> None:
            state = submitting.cluster(settings, f"/jobs/{job_id}")["state"]
            if state in ("FAILED", "FAILING", "CANCELED"):
                raise ShopstreamError(f"its job is {state.lower()}")

        def texts() -> int | None:
            if job is _JOBS:
                return None
            encoder_texts(settings, job_id)
            time.sleep(METRICS_S)
            return encoder_texts(settings, job_id)

        def state_mb() -> float | None:
            last = submitting.cluster(settings, f"/jobs/{job_id}/checkpoints")["latest"]["completed"]
            return round(last["state_size"] / 1e6, 3) if last else None

        roots = [pid for pid in (status.job_manager_pid, status.task_manager_pid) if pid is not None]
        yield Contender(began, roots, check, texts, state_mb, settings.flink.address)
    finally:
        cluster.stop()


def encoder_texts(settings: Settings, job_id: str) -> int:
    """Texts that the job's encoders were asked for, by Flink's metrics."""
    asked = 0
    for vertex in submitting.cluster(settings, f"/jobs/{job_id}")["vertices"]:
        path = f"/jobs/{job_id}/vertices/{vertex['id']}/metrics"
        names = [each["id"] for each in submitting.cluster(settings, path)]
        wanted = [name for name in names if name.endswith((".encoder.texts", ".encoder.cached"))]
        if wanted:
            asked += sum(int(each["value"]) for each in submitting.cluster(settings, f"{path}?get={','.join(wanted)}"))
    return asked


@contextmanager
def other(name: str, own: Path, settings: Settings, events: int, notes: Console) -> Iterator[Contender]:
    """Processes of bench.peers_pipeline: one a core, but Spark has its own workers."""
    python = peers_python("pipeline", "some 1.2 GB", notes) if OTHERS[name] else Path(sys.executable)
    config = {
        "bootstrap": settings.kafka.bootstrap,
        "clickstream": settings.topics.clickstream,
        "recommendations": settings.topics.recommendations,
        "bundles": str(settings.bundle_folder),
        "processes": cores(),
        "threads": settings.encoder.threads,
        "folder": str(own),
        "events": events,
        "batches": str(own / "batches.json"),
        "jars": [str(jar) for jar in jars("spark")] if name == "spark" else [],
        "ports": [free_port() for _ in range(cores())],
    }
    (own / "config.json").write_text(json.dumps(config))
    env = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    with ExitStack() as stack:
        log = stack.enter_context((own / "log").open("w"))
        running = []
        for process in range(1 if name == "spark" else cores()):
            command = [str(python), "-m", "bench.peers_pipeline", name, str(process), str(own / "config.json")]
            running.append(
                subprocess.Popen(command, cwd=own, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            )
            stack.callback(end, running[-1])

        def check() -> None:
            if any(each.poll() is not None for each in running):
                raise ShopstreamError(f"it ended: {last_error(own / 'log')}")

        def texts() -> int:
            return sum(json.loads(file.read_text())["texts"] for file in own.glob("stats-*.json"))

        yield Contender(began, [each.pid for each in running], check, texts)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and what it started."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    process.terminate()
    for child in children:
        terminate(child.pid, SETTLE_S)
    try:
        process.wait(SETTLE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# --- what is seen of it -----------------------------------------------------------------------------------------------


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


# --- the encoder alone ------------------------------------------------------------------------------------------------


def write_batches(file: Path, bundle: Bundle, prepared: Prepared) -> float:
    """Write the texts that ranking asks for, a list a batch of due answers; answers for each text, once a batch."""
    rows = load_settings().python.bundle_size
    ranker, shoppers, dues = open_ranker(bundle, LiveItems(bundle), RankOptions()), dict[bytes, Shopper](), list[Due]()
    for key, value in prepared.values:
        if due := shoppers.setdefault(key, Shopper()).meet(value):
            dues.append(due)
    dues = dues[:ENCODED]
    batches: list[list[str]] = []
    encoder = open_encoder(bundle)

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


# --- what is said of it -----------------------------------------------------------------------------------------------


def row_of(name: str, runs: Sequence[Run], prepared: Prepared, ours: Run | None) -> Row:
    """The median of a contender's rounds; `ours`: what its records are compared with."""
    rates: dict[str, list[float]] = {}
    for run in runs:
        if window := steady(run.samples):
            first, end = window
            seconds = end.at - first.at
            # A transaction's end takes an offset too, so the topic counts a few more than there are records.
            real = run.records / end.records if run.records else 1.0
            answers = (end.records - first.records) * real
            events = answers * prepared.events / len(prepared.due)
            of_run = {"events": events / seconds, "recommendations": answers / seconds, "startup": first.at}
            of_run["cpu"] = (end.cpu_s - first.cpu_s) / events * 1e5
            if run.texts is not None:
                of_run["texts"] = run.texts / seconds
            for key, value in of_run.items():
                rates.setdefault(key, []).append(value)

    def median(key: str, digits: int = 1) -> float | None:
        return round(statistics.median(rates[key]), digits) if key in rates else None

    counted = [run for run in runs if name != "encoder"]
    share = [
        sum(ours.digests.get(key) == digest for key, digest in run.digests.items()) / max(len(run.digests), 1)
        for run in counted
        if ours is not None
    ]
    return Row(
        name=name,
        guarantee=GUARANTEES[name],
        events=min(
            prepared.events if run.through else len(run.digests) * prepared.events // len(prepared.due) for run in runs
        ),
        events_per_s=median("events"),
        recommendations_per_s=median("recommendations"),
        texts_per_s=median("texts"),
        cpu_s_per_100k=median("cpu", 2),
        peak_rss_mb=round(max((sample.rss_mb for run in runs for sample in run.samples), default=0.0), 1),
        startup_s=median("startup"),
        state_mb=next((run.state_mb for run in reversed(runs) if run.state_mb is not None), None),
        ratio_ours_to_it=None,
        missing=sum(len(prepared.due - run.digests.keys()) for run in counted)
        if all(run.through for run in counted)
        else None,
        doubled=sum(run.records - len(run.digests) for run in counted),
        unexpected=sum(len(run.digests.keys() - prepared.due) for run in counted),
        same_as_ours=round(statistics.median(share), 4) if share else None,
    )


def show(about: str, rows: Sequence[Row], console: Console) -> None:
    """A table, the fastest first, then what was prepared, the machine and the versions.

    CPU s: for 100,000 events; wrong: doubled and unexpected records; same: share of records equal to those of `ours`.
    """
    table = Table(box=box.SIMPLE_HEAD)
    headings = (
        "",
        "guarantee",
        "events/s",
        "ours/it",
        "recs/s",
        "texts/s",
        "CPU s",
        "MB",
        "start s",
        "missing",
        "wrong",
    )
    for heading in (*headings, "same"):
        table.add_column(heading, justify="left" if heading in ("", "guarantee") else "right", no_wrap=True)
    for row in sorted(rows, key=lambda row: -(row.events_per_s or 0)):
        table.add_row(
            row.name,
            row.guarantee,
            _figure(row.events_per_s),
            _figure(row.ratio_ours_to_it, 2),
            _figure(row.recommendations_per_s),
            _figure(row.texts_per_s),
            _figure(row.cpu_s_per_100k, 1),
            _figure(row.peak_rss_mb),
            _figure(row.startup_s, 1),
            _figure(row.missing),
            str(row.doubled + row.unexpected),
            _figure(row.same_as_ours, 3),
            style="bold" if row.name.startswith("ours") else None,
        )
    console.print(table)
    console.print(f"events: {about}", markup=False)
    console.print(f"machine: {machine()}; broker, contender and the measuring process share it", markup=False)
    if any(OTHERS.get(row.name) for row in rows):
        versions = peers_versions("pipeline", *PEER_PACKAGES)
        console.print("peers: " + ", ".join(f"{name} {number}" for name, number in versions.items()), markup=False)


def _figure(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _line(row: Row) -> str:
    """A row on one line, as progress."""
    texts = f", {row.texts_per_s:,.0f} texts/s" if row.texts_per_s is not None else ""
    wrong = f"missing {row.missing}, doubled {row.doubled}, unexpected {row.unexpected}"
    return f"{_figure(row.events_per_s)} events/s{texts}, first result after {_figure(row.startup_s, 1)} s; {wrong}"


def draw(rows: Sequence[Row], file: Path) -> None:
    """Bars of events a second; the same rows give the same bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    bars = sorted((row for row in rows if row.events_per_s), key=lambda row: row.events_per_s or 0)
    with mpl.rc_context({"svg.hashsalt": "shopstream", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(6.4, 0.6 + 0.32 * len(bars)), layout="constrained")
        axes = figure.add_subplot()
        colours = [OURS if row.name.startswith("ours") else PEERS for row in bars]
        drawn = axes.barh([row.name for row in bars], [row.events_per_s or 0 for row in bars], color=colours)
        axes.bar_label(drawn, [f"{row.events_per_s:,.0f}  ({row.guarantee})" for row in bars], padding=4)
        axes.set_title("events/s, catching up", loc="left", fontsize=9)
        axes.margins(x=0.6)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xticks([])
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=160)
