"""`python -m bench profile`: where the main job's time goes, as flame graphs of the JVM and of the Python workers.

The JVM's are Flink's own profiler's (async-profiler, ITIMER: processor time of all threads), the workers' py-spy's
(threads that hold the GIL).
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
from rich.console import Console

from bench.chart import OURS, PEERS, require_drawing
from bench.pipeline import (
    Options,
    broker,
    bundle_for,
    cores,
    end,
    flink,
    last_line,
    prepare,
    settings_for,
    shoppers_of,
    wait,
)
from flink_jobs.brokers.clients import open_consumer
from flink_jobs.brokers.errors import reachable
from flink_jobs.settings.loading import load_settings
from flink_jobs.simulation.simulate import simulate
from udfs.errors import ShopstreamError

#: Samples a second of py-spy.
HZ = 150
#: Frames narrower than this share are not drawn, those narrower than the other have no name; levels drawn at most.
DRAWN, NAMED, LEVELS = 0.003, 0.02, 60
#: Flink and Beam; the rest that is not ours is grey.
ENGINE = "#E69F00"
#: Letters that a hundredth of the width holds.
LETTERS = 2.1
#: Packages that are told by a word.
_PACKAGES = {
    "org/apache/flink/kafka/shaded/org/apache/kafka": "Kafka",
    "org/apache/flink": "Flink",
    "org/apache/beam": "Beam",
}
_FRAME = re.compile(r"^f\((\d+),(\d+),(\d+),\d+,'((?:[^'\\]|\\.)*)'", re.MULTILINE)


@dataclass(frozen=True)
class Frame:
    """A rectangle of a flame graph: its level from the root, 0, and where it begins and how wide it is, in samples."""

    level: int
    left: int
    width: int
    name: str


def run(charts: Path, events: int, warm_s: float, seconds: float, bundles: Path | None) -> None:
    """Profile the job while it catches up, and draw profile-jvm.svg and profile-python.svg into the folder `charts`."""
    files = {name: charts / f"profile-{name}.svg" for name in ("jvm", "python")}
    for file in files.values():
        require_drawing(file)
    spy = shutil.which("py-spy", path=Path(sys.executable).parent) or shutil.which("py-spy")
    if spy is None:
        raise ShopstreamError("there is no py-spy: install this package's extra `bench`")
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    options = Options(events=events, bundles=bundles)
    with TemporaryDirectory(prefix="shopstream-profile-", ignore_cleanup_errors=True) as name, ExitStack() as stack:
        folder = Path(name)
        bundle = bundle_for(options, folder, notes)
        address = stack.enter_context(broker(folder))
        assignments = [*settings_for(address, bundle), f"home={folder}"]
        settings = load_settings(None, assignments)
        items = bundle.items().table.to_pylist()
        stream = simulate(items, events=events, shoppers=shoppers_of(options), bad_share=0)
        due = len(prepare(settings, stream, notes).due)
        stack.enter_context(reachable(settings))
        contender = stack.enter_context(flink("ours", folder, assignments))
        client = open_consumer(settings)
        stack.callback(client.close)
        places = [TopicPartition(settings.topics.recommendations, number) for number in range(cores())]

        def answers() -> int:
            return sum(client.end_offsets(places).values())

        wait(lambda: answers() > 0, contender.check, "first answer")
        notes.print(f"the first answer is there; {warm_s:.0f} s to warm up", markup=False)
        time.sleep(warm_s)
        _, task_manager = contender.roots
        workers = _heaviest(task_manager, cores())
        notes.print(f"profiling for {seconds:.0f} s", markup=False)
        raw = [folder / f"{pid}.raw" for pid in workers]
        record = [spy, "record", "--gil", "--format", "raw", "--rate", str(HZ), "--duration", f"{seconds:.0f}"]
        log = stack.enter_context((folder / "py-spy.log").open("w"))
        spying = []
        for pid, file in zip(workers, raw, strict=True):
            command = [*record, "--pid", str(pid), "--output", str(file)]
            spying.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
            stack.callback(end, spying[-1])
        page = _of_jvm(contender.address, seconds)
        wait(lambda: all(process.poll() is not None for process in spying), contender.check, "profile of py-spy")
        if any(process.returncode for process in spying):
            raise ShopstreamError(f"py-spy failed: {last_line((folder / 'py-spy.log').read_text())}")
        if answers() >= due:
            raise ShopstreamError("the job was through before its profile was: give more --events")
        draw(from_page(page), "task manager, processor time of all threads", files["jvm"])
        stacks = "\n".join(file.read_text() for file in raw)
        draw(from_stacks(stacks), "Python workers, threads with the GIL", files["python"])
    for file in files.values():
        notes.print(f"drawn: {file}", markup=False)


def _heaviest(task_manager: int, count: int) -> list[int]:
    """The Python workers that have used most processor time."""
    processes = psutil.Process(task_manager).children(recursive=True)
    used = {each.pid: sum(each.cpu_times()[:2]) for each in processes if "python" in each.name()}
    return sorted(used, key=used.__getitem__, reverse=True)[:count]


def _of_jvm(address: str, seconds: float) -> str:
    """The page that Flink's profiler makes of the only task manager."""
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
        answer = connection.getresponse()
        said = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise ShopstreamError(f"{method} {path} of Flink's REST interface: {error}") from None
    finally:
        connection.close()
    if answer.status >= http.client.BAD_REQUEST:
        raise ShopstreamError(f"{method} {path} of Flink's REST interface: {said[:300]}")
    return said if path.endswith(".html") else json.loads(said)


# --- flame graphs -----------------------------------------------------------------------------------------------------


def from_page(page: str) -> list[Frame]:
    """The frames of a page of async-profiler's; ShopstreamError where there are none."""
    frames = [Frame(int(level), int(left), int(width), name) for level, left, width, name in _FRAME.findall(page)]
    if not frames:
        raise ShopstreamError("Flink's profiler made a page without frames")
    return [replace(frame, name=_java(frame.name)) for frame in frames]


def _java(name: str) -> str:
    """Class and method, without the package but for where it is Flink's or Kafka's."""
    owner, _, rest = name.rpartition("/")
    engine = next((short for part, short in _PACKAGES.items() if owner.startswith(part)), None)
    return f"{engine}: {rest}" if engine else rest


def from_stacks(stacks: str) -> list[Frame]:
    """Frames of lines with a stack, root first and parted by semicolons, and its samples; ShopstreamError for none."""
    counted = [line.rsplit(" ", 1) for line in stacks.splitlines() if line.strip()]
    if not counted:
        raise ShopstreamError("py-spy saw no thread with the GIL")
    total: Counter[tuple[str, ...]] = Counter()
    for stack, samples in counted:
        total[("all", *(_python(frame) for frame in stack.split(";")))] += int(samples)
    frames: list[Frame] = []
    open_: list[tuple[str, int]] = []
    at = 0
    paths: list[tuple[tuple[str, ...], int]] = [*sorted(total.items()), ((), 0)]
    for path, width in paths:
        same = sum(1 for _ in takewhile(lambda pair: pair[0][0] == pair[1], zip(open_, path, strict=False)))
        frames += [Frame(level, left, at - left, name) for level, (name, left) in enumerate(open_) if level >= same]
        open_ = [*open_[:same], *((name, at) for name in path[same:])]
        at += width
    return frames


def _python(frame: str) -> str:
    """A function and its file, without the line, so that one function is one frame."""
    name, _, place = frame.partition(" (")
    return f"{name} ({place.rpartition(':')[0]})" if ":" in place else frame


def draw(frames: Sequence[Frame], title: str, file: Path) -> None:
    """A flame graph, the root below; the same frames give the same bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    whole = max(frame.width for frame in frames)
    drawn = [frame for frame in frames if frame.width >= DRAWN * whole and frame.level < LEVELS]
    levels = 1 + max(frame.level for frame in drawn)
    with mpl.rc_context({"svg.hashsalt": "shopstream", "svg.fonttype": "none", "font.size": 5}):
        figure = Figure(figsize=(10, 0.5 + 0.115 * levels), layout="constrained")
        axes = figure.add_subplot()
        for frame in sorted(drawn, key=lambda frame: (frame.level, frame.left)):
            left, width, colour = 100 * frame.left / whole, 100 * frame.width / whole, _colour(frame.name)
            axes.add_patch(Rectangle((left, frame.level), width, 0.94, color=colour, linewidth=0))
            if width >= 100 * NAMED:
                name = frame.name.removeprefix("Flink: ")[: int(width * LETTERS)]
                ink = "white" if colour == OURS else "black"
                text = axes.text(left + 0.1, frame.level + 0.45, name, color=ink, va="center", clip_on=True)
                text.set_parse_math(False)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, levels)
        axes.set_title(f"{title}; frames of {DRAWN:.1%} and more of {whole:,} samples", loc="left", fontsize=8)
        axes.spines[:].set_visible(False)
        axes.set_yticks([])
        axes.set_xticks(range(0, 101, 10), [f"{share} %" for share in range(0, 101, 10)])
        axes.tick_params(length=0)
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=160)


def _colour(name: str) -> str:
    if "(udfs/" in name:
        return OURS
    return ENGINE if name.startswith(tuple(_PACKAGES.values())) or "beam" in name or "flink" in name else PEERS
