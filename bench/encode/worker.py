"""A contender of `python -m bench encode`, and the process that it runs in."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from bench.encode.peers import BATCHES
from bench.encode.text_sets import TextSet
from bench.environment import last_line
from udfs.core.errors import ShopstreamError

#: Texts of a set that a worker warms up on, and that a peer's settings are tried on.
WARM_UP_TEXTS = 512
#: No network, no telemetry; tokenizers use every core.
WORKER_ENV = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "true",
}


@dataclass
class Contender:
    """How to start a contender's worker. batches: the batch size per text set; ours choose for themselves."""

    name: str
    command: list[str]
    config: dict[str, Any]
    batches: dict[str, int] = field(default_factory=dict)

    def takes(self, text_set: TextSet) -> bool:
        """Whether it runs on the text set; one with a cache runs on the stream only."""
        return not self.config.get("cache") or text_set.chunk > 0

    def setting(self, text_set: TextSet) -> str:
        """Its settings on the text set, for people."""
        if text_set.name not in self.batches:
            return ""
        settings = {**self.config["setting"], "batch": self.batches[text_set.name]}
        return ", ".join(f"{name} {value}" for name, value in settings.items())


def text_file(folder: Path, name: str) -> Path:
    """The file with the texts of a text set, as JSON."""
    return folder / f"{name}.json"


class Worker:
    """A contender's process: it answers one request at a time and sleeps in between.

    memory_mb: its peak so far. Raises ShopstreamError with the last line of its log if it ends too early.
    """

    def __init__(self, contender: Contender, folder: Path, mode: str = "serve") -> None:
        self.contender = contender
        self.memory_mb = 0.0
        self._folder = folder
        self._idle_cpu_s = 0.0
        self._idle_s = 0.0
        self._log = folder / f"{contender.name}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*contender.command, mode],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | WORKER_ENV,
                text=True,
            )
        self._requests = cast(IO[str], self._process.stdin)
        self._answers = cast(IO[str], self._process.stdout)
        try:
            self._ask(contender.config)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def idle_share(self) -> float:
        """CPU time while it was idle, as a share of a core."""
        return self._idle_cpu_s / max(self._idle_s, 1e-9)

    def encode(
        self, text_set: TextSet, *, limit: int | None = None, batch: int | None = None, save: Path | None = None
    ) -> float:
        """Encode a text set, or its first `limit` texts, once; return the seconds. The vectors go to `save`."""
        answer = self._ask(
            {
                "texts": str(text_file(self._folder, text_set.name)),
                "limit": limit,
                "chunk": text_set.chunk,
                "batch": batch or self.contender.batches.get(text_set.name, BATCHES[0]),
                "save": str(save) if save else None,
            }
        )
        self.memory_mb = answer["memory_mb"]
        self._idle_cpu_s += answer["idle_cpu_s"]
        self._idle_s += answer["idle_s"]
        return answer["seconds"]

    def _ask(self, message: Mapping[str, Any]) -> dict[str, float]:
        try:
            self._requests.write(json.dumps(message) + "\n")
            self._requests.flush()
            return dict(json.loads(self._answers.readline()))
        except (BrokenPipeError, json.JSONDecodeError):
            raise ShopstreamError(f"{self.contender.name} failed: {last_line(self._log.read_text())}") from None
