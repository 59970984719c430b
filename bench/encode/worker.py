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
from udfs.errors import ShopstreamError

#: Texts of a set that a worker warms up on, and that a peer's settings are tried on.
WARM_TEXTS = 512
#: Without network or telemetry, and tokenizers with every core.
WORKER_ENV = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "true",
}


@dataclass
class Contender:
    """What a worker is started with, and by text set the batch size it runs with (ours chooses for itself)."""

    name: str
    command: list[str]
    config: dict[str, Any]
    batches: dict[str, int] = field(default_factory=dict)

    def takes(self, text_set: TextSet) -> bool:
        """A cache is for the stream alone."""
        return not self.config.get("cache") or text_set.chunk > 0

    def setting(self, text_set: TextSet) -> str:
        """The settings on a text set, for people."""
        if text_set.name not in self.batches:
            return ""
        parts = [
            f"{key} {value}" for key, value in {**self.config["setting"], "batch": self.batches[text_set.name]}.items()
        ]
        return ", ".join(parts)


def text_file(folder: Path, name: str) -> Path:
    """Where the texts of a set are, as JSON."""
    return folder / f"{name}.json"


class Worker:
    """A contender's process. It answers one request after the other and sleeps between them.

    memory_mb is its peak so far. Raises ShopstreamError with the last line of its log when it ends before it should.
    """

    def __init__(self, contender: Contender, folder: Path, do: str = "serve") -> None:
        self.contender, self._folder = contender, folder
        self.memory_mb = self._idle_cpu_s = self._idle_s = 0.0
        self._log = folder / f"{contender.name}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*contender.command, do],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | WORKER_ENV,
                text=True,
            )
        self._in, self._out = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
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
        """CPU time while it waited, as a share of a core."""
        return self._idle_cpu_s / max(self._idle_s, 1e-9)

    def encode(
        self, text_set: TextSet, *, limit: int | None = None, batch: int | None = None, save: Path | None = None
    ) -> float:
        """Encode a text set once, or its first `limit` texts; seconds. `save` takes the vectors."""
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
            self._in.write(json.dumps(message) + "\n")
            self._in.flush()
            return dict(json.loads(self._out.readline()))
        except (BrokenPipeError, json.JSONDecodeError):
            raise ShopstreamError(f"{self.contender.name} failed: {last_line(self._log.read_text())}") from None
