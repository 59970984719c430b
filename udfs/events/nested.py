"""Values inside objects and lists: `a.b`, `a[].b` (each of a list, one event each) and `a[key=NAME].b`."""

import re
from collections.abc import Callable, Sequence
from typing import Any

Getter = Callable[[Any], Any]

_STEP = re.compile(r"([^.\[\]]+)|\[\]|\[(\w+)=([^\]]*)\]")


class Each(list[Any]):
    """Values of one row that are one event each."""


def getter(path: str, names: Sequence[str]) -> Getter:
    """Return a function that takes a row (an object) and returns the value at a path, None if it is not there."""
    if path in names or not re.search(r"[.\[]", path):
        return lambda row: row.get(path)
    steps = [(match[1], match[2], match[3]) for match in _STEP.finditer(path)]
    return lambda row: _walk(row, steps)


def _walk(value: Any, steps: Sequence[tuple[str | None, str | None, str | None]]) -> Any:
    for number, (name, key, wanted) in enumerate(steps):
        if value is None:
            return None
        if name is not None:
            value = value.get(name) if isinstance(value, dict) else None
        elif key is not None:
            found = [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
            value = next((each for each in found if each.get(key) == wanted), None)
        elif isinstance(value, list):
            return Each(_walk(each, steps[number + 1 :]) for each in value)
    return value
