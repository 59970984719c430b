"""Shows the progress of an export, and keeps the noise of other packages away."""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import cast

from rich.console import Console


class ProgressSteps:
    """Shows which step is running, then how long it took. seconds: by step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[Callable[[float], None]]:
        """Run one step. It receives a function to call with the share that is done."""
        start = time.perf_counter()
        with self._console.status(f"{name} …") as status:
            yield lambda share: status.update(f"{name} … {share:.0%}")
        self.seconds[name] = round(time.perf_counter() - start, 2)
        self._console.print(f"{name:<40} {self.seconds[name]:5.1f} s", markup=False)


@contextmanager
def modules_hidden(*packages: str) -> Iterator[None]:
    """Make packages look as if they were not installed to anything imported within."""
    present = {name: sys.modules.get(name) for name in packages}
    sys.modules.update(dict.fromkeys(packages, cast(ModuleType, None)))  # what importlib takes as "not there"
    try:
        yield
    finally:
        for name, module in present.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


@contextmanager
def warnings_silenced() -> Iterator[None]:
    """Silence the warnings of Optimum, transformers and PyTorch about their own internals."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
