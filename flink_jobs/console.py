"""What a command says: text for people, one JSON object with --json."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console

out = Console(highlight=False, soft_wrap=True)
#: Progress and notes: beside the result, so that a pipe gets the result alone.
notes = Console(stderr=True, highlight=False, soft_wrap=True)


def result(data: Mapping[str, Any], text: str, as_json: bool) -> None:
    """The outcome of a command: `text`, or `data` as one JSON line."""
    if as_json:
        sys.stdout.write(json.dumps(data, default=str) + "\n")
        sys.stdout.flush()
    else:
        out.print(text, markup=False)
