"""`python -m bench profile`: where our job spends its time, as flame graphs of the JVM and of the Python workers.

The JVM's is made by Flink's own profiler (async-profiler, ITIMER: processor time of all threads), the workers' by
py-spy (threads that hold the GIL).
"""

import http.client
import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from kafka import TopicPartition

from bench.chart import OURS, PEERS, drawing, require_drawing
from bench.environment import cores, last_line
from bench.output import progress_console
from bench.pipeline.contenders import end, flink
from bench.pipeline.measure import wait
from bench.pipeline.prepare import broker, bundle_for, prepare, settings_for, shopper_count
from flink_jobs.brokers.clients import open_consumer
from flink_jobs.brokers.errors import reachable
from flink_jobs.settings.loading import load_settings
from flink_jobs.simulation.simulate import simulate
from udfs.core.errors import ShopstreamError

#: Samples per second of py-spy.
HZ = 150
#: The smallest share of the width at which a frame is drawn.
DRAWN = 0.003
#: The smallest share of the width at which a frame gets its name.
NAMED = 0.02
#: The most levels that are drawn.
LEVELS = 60
#: Letters that fit into a hundredth of the width.
LETTERS = 2.1
#: The colour of Flink and Beam; ours is blue, the rest grey.
ENGINE = "#E69F00"
#: Packages that are shortened to a word.
_PACKAGES = {
    "org/apache/flink/kafka/shaded/org/apache/kafka": "Kafka",
    "org/apache/flink": "Flink",
    "org/apache/beam": "Beam",
}
_FRAME = re.compile(r"^f\((\d+),(\d+),(\d+),\d+,'((?:[^'\\]|\\.)*)'", re.MULTILINE)


@dataclass(frozen=True)
class Frame:
    """A rectangle of a flame graph: its level (the root's is 0), its left edge and its width, both in samples."""

    level: int
    left: int
    width: int
    name: str


def run(charts: Path, events: int, warm_up_s: float, seconds: float, bundles: Path | None) -> None:
    """Profile the job while it catches up; draw profile-jvm.svg and profile-python.svg to the folder `charts`."""
    files = {name: charts / f"profile-{name}.svg" for name in ("jvm", "python")}
    for file in files.values():
        require_drawing(file)
    spy = shutil.which("py-spy", path=Path(sys.executable).parent) or shutil.which("py-spy")
    if spy is None:
        raise ShopstreamError("there is no py-spy: install this package's extra `bench`")
    progress = progress_console()
    with TemporaryDirectory(prefix="shopstream-profile-", ignore_cleanup_errors=True) as name, ExitStack() as stack:
        folder = Path(name)
        shoppers = shopper_count(events)
        bundle = bundle_for(bundles, shoppers, folder, progress)
        address = stack.enter_context(broker(folder))
        assignments = [*settings_for(address, bundle), f"home={folder}"]
        settings = load_settings(None, assignments)
        stream = simulate(bundle.items().table.to_pylist(), events=events, shoppers=shoppers, bad_share=0)
        due = len(prepare(settings, stream, progress).due)
        stack.enter_context(reachable(settings))
        contender = stack.enter_context(flink("ours", folder, assignments))
        client = open_consumer(settings)
        stack.callback(client.close)
        partitions = [TopicPartition(settings.topics.recommendations, number) for number in range(cores())]

        def answers() -> int:
            return sum(client.end_offsets(partitions).values())

        wait(lambda: answers() > 0, contender.check, "first answer")
        progress.print(f"the first answer is there; {warm_up_s:.0f} s to warm up", markup=False)
        time.sleep(warm_up_s)
        progress.print(f"profiling for {seconds:.0f} s", markup=False)
        _, task_manager = contender.roots
        workers = _busiest_workers(task_manager, cores())
        stacks = [folder / f"{pid}.raw" for pid in workers]
        record = [spy, "record", "--gil", "--format", "raw", "--rate", str(HZ), "--duration", f"{seconds:.0f}"]
        log = stack.enter_context((folder / "py-spy.log").open("w"))
        spies = []
        for pid, file in zip(workers, stacks, strict=True):
            command = [*record, "--pid", str(pid), "--output", str(file)]
            spies.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
            stack.callback(end, spies[-1])
        page = _profile_jvm(contender.address, seconds)
        wait(lambda: all(process.poll() is not None for process in spies), contender.check, "profile of py-spy")
        if any(process.returncode for process in spies):
            raise ShopstreamError(f"py-spy failed: {last_line((folder / 'py-spy.log').read_text())}")
        if answers() >= due:
            raise ShopstreamError("the job had caught up before its profile was made: give more --events")
        draw(from_page(page), "task manager, processor time of all threads", files["jvm"])
        draw(
            from_stacks("\n".join(file.read_text() for file in stacks)),
            "Python workers, threads with the GIL",
            files["python"],
        )
    for file in files.values():
        progress.print(f"drawn: {file}", markup=False)


def _busiest_workers(task_manager: int, count: int) -> list[int]:
    """The Python workers that have used most processor time."""
    processes = psutil.Process(task_manager).children(recursive=True)
    used = {process.pid: sum(process.cpu_times()[:2]) for process in processes if "python" in process.name()}
    return sorted(used, key=used.__getitem__, reverse=True)[:count]


def _profile_jvm(address: str, seconds: float) -> str:
    """Run Flink's profiler on the only task manager; return its page."""
    (manager,) = _rest(address, "GET", "/taskmanagers")["taskmanagers"]
    path = f"/taskmanagers/{manager['id']}/profiler"
    _rest(address, "POST", path, {"mode": "ITIMER", "duration": int(seconds)})
    deadline = time.monotonic() + seconds + 30
    while time.monotonic() < deadline:
        time.sleep(1)
        last = next(iter(_rest(address, "GET", path)["profilingList"]), {"status": "none"})
        if last["status"] == "FINISHED":
            return str(_rest(address, "GET", f"{path}/{last['outputFile']}"))
        if last["status"] == "FAILED":
            raise ShopstreamError(f"Flink's profiler failed: {last['message']}")
    raise ShopstreamError("Flink's profiler did not end")


def _rest(address: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    connection = http.client.HTTPConnection(address, timeout=30)
    headers = {"Content-Type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise ShopstreamError(f"{method} {path} of Flink's REST interface: {error}") from None
    finally:
        connection.close()
    if response.status >= http.client.BAD_REQUEST:
        raise ShopstreamError(f"{method} {path} of Flink's REST interface: {text[:300]}")
    return text if path.endswith(".html") else json.loads(text)


def from_page(page: str) -> list[Frame]:
    """The frames of async-profiler's page; raise ShopstreamError if there are none."""
    frames = [Frame(int(level), int(left), int(width), name) for level, left, width, name in _FRAME.findall(page)]
    if not frames:
        raise ShopstreamError("Flink's profiler made a page without frames")
    return [replace(frame, name=_java_name(frame.name)) for frame in frames]


def _java_name(name: str) -> str:
    """Class and method; the package only where it is one of _PACKAGES, as a word."""
    owner, _, rest = name.rpartition("/")
    package = next((word for path, word in _PACKAGES.items() if owner.startswith(path)), None)
    return f"{package}: {rest}" if package else rest


def from_stacks(stacks: str) -> list[Frame]:
    """The frames of py-spy's lines, each a stack, root first and separated by semicolons, and its number of samples.

    Raises ShopstreamError if there are none.
    """
    lines = [line.rsplit(" ", 1) for line in stacks.splitlines() if line.strip()]
    if not lines:
        raise ShopstreamError("py-spy saw no thread with the GIL")
    samples_of: Counter[tuple[str, ...]] = Counter()
    for stack, samples in lines:
        samples_of[("all", *(_python_name(frame) for frame in stack.split(";")))] += int(samples)
    frames: list[Frame] = []
    open_frames: list[tuple[str, int]] = []  # name and left edge, root first
    left = 0
    paths: list[tuple[tuple[str, ...], int]] = [*sorted(samples_of.items()), ((), 0)]  # the last one closes all frames
    for path, width in paths:
        shared = sum(1 for _ in takewhile(lambda pair: pair[0][0] == pair[1], zip(open_frames, path, strict=False)))
        for level in range(shared, len(open_frames)):
            name, opened = open_frames[level]
            frames.append(Frame(level, opened, left - opened, name))
        open_frames = [*open_frames[:shared], *((name, left) for name in path[shared:])]
        left += width
    return frames


def _python_name(frame: str) -> str:
    """A function and its file, without the line, so that one function is one frame."""
    name, _, location = frame.partition(" (")
    return f"{name} ({location.rpartition(':')[0]})" if ":" in location else frame


def draw(frames: Sequence[Frame], title: str, file: Path) -> None:
    """Draw a flame graph with the root at the bottom; the same frames give the same bytes."""
    from matplotlib.patches import Rectangle  # slow to import, and in the extra `bench` only

    total = max(frame.width for frame in frames)
    drawn = [frame for frame in frames if frame.width >= DRAWN * total and frame.level < LEVELS]
    levels = 1 + max(frame.level for frame in drawn)
    with drawing(file, 10, 0.5 + 0.115 * levels, font_size=5) as chart:
        axes = chart.add_subplot()
        for frame in sorted(drawn, key=lambda frame: (frame.level, frame.left)):
            left = 100 * frame.left / total
            width = 100 * frame.width / total
            colour = _colour(frame.name)
            axes.add_patch(Rectangle((left, frame.level), width, 0.94, color=colour, linewidth=0))
            if width >= 100 * NAMED:
                name = frame.name.removeprefix("Flink: ")[: int(width * LETTERS)]
                ink = "white" if colour == OURS else "black"
                text = axes.text(left + 0.1, frame.level + 0.45, name, color=ink, va="center", clip_on=True)
                text.set_parse_math(False)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, levels)
        axes.set_title(f"{title}; frames of {DRAWN:.1%} and more of {total:,} samples", loc="left", fontsize=8)
        axes.spines[:].set_visible(False)
        axes.set_yticks([])
        axes.set_xticks(range(0, 101, 10), [f"{share} %" for share in range(0, 101, 10)])
        axes.tick_params(length=0)


def _colour(name: str) -> str:
    if "(udfs/" in name:
        return OURS
    return ENGINE if name.startswith(tuple(_PACKAGES.values())) or "beam" in name or "flink" in name else PEERS
