"""What the steps of both sides share; Python's own library only, as the PyTorch side has none of our packages."""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

#: A quick run takes one of so many texts.
QUICK_SHARE = 64

Result = dict[str, Any]


@dataclass(frozen=True)
class Measuring:
    """The folder of the unpacked pieces, and how to measure. cpu: rehearse what is for a GPU on the CPU."""

    work: Path
    cpu: bool
    quick: bool

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        """The text sets by name."""
        sets = json.loads((self.work / "texts.json").read_text())
        return {name: texts[:: QUICK_SHARE if self.quick else 1] for name, texts in sets.items()}

    def median_s(self, action: Callable[[], object], seconds: float = 1.0) -> float:
        """Median seconds of an action: three runs or more, for at least this long, after one that does not count."""
        action()
        took: list[float] = []
        while len(took) < (1 if self.quick else 3) or (sum(took) < seconds and not self.quick):
            began = time.perf_counter()
            action()
            took.append(time.perf_counter() - began)
        return statistics.median(took)


Kind = TypeVar("Kind", bound=Measuring)


def run_step(steps: Mapping[str, Callable[[Kind], Result]], kind: type[Kind], cannot: type[Exception]) -> None:
    """Run the step that the command line names and print its result as JSON; `cannot` becomes `not_measured`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=steps)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    try:
        result = steps[options.step](kind(options.work, options.cpu, options.quick))
    except cannot as error:
        result = {"not_measured": str(error)}
    sys.stdout.write(json.dumps(result) + "\n")
