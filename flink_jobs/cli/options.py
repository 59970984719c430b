"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Config = Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="One setting; may be repeated. See `shopstream settings`."),
]
Preset = Annotated[str, typer.Option("--format", help="auto, events (our field names), online_retail or yoochoose.")]
Columns = Annotated[
    list[str] | None, typer.Option("--map", metavar="FIELD=COLUMN", help="Column of a field; may be repeated.")
]
