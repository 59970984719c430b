"""The progress that people see, and the warnings and packages that they do not."""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import cast

from rich.console import Console


class Steps:
    """Tells people which step runs, then how long it took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[Callable[[float], None]]:
        """Run one step, which may call what it is given with the share done."""
        start = time.perf_counter()
        with self._console.status(f"{name} …") as status:
            yield lambda share: status.update(f"{name} … {share:.0%}")
        self.seconds[name] = round(time.perf_counter() - start, 2)
        self._console.print(f"{name:<40} {self.seconds[name]:5.1f} s", markup=False)


@contextmanager
def _hidden(*packages: str) -> Iterator[None]:
    """Make packages look as if they were not installed, for what is imported meanwhile."""
    there = {name: sys.modules.get(name) for name in packages}
    sys.modules.update(dict.fromkeys(packages, cast(ModuleType, None)))  # what importlib takes as "not there"
    try:
        yield
    finally:
        for name, module in there.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


@contextmanager
def _quiet() -> Iterator[None]:
    """Optimum's, transformers' and PyTorch's warnings about their own insides stay off the screen."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
