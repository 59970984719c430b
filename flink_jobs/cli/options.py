"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from flink_jobs.console import notes
from udfs.events.rejected import Rejected

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Config = Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="One setting; may be repeated. See `shopstream settings`."),
]
Preset = Annotated[
    str,
    typer.Option(
        "--preset", "--format", help="auto, events (our field names), a known kind of file, or a TOML file of your own."
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN",
        help="Column of a field. Also FIELD=const:VALUE, and FIELD:OLD=NEW for a value. May be repeated.",
    ),
]
Read = Annotated[
    list[str] | None,
    typer.Option(
        "--read",
        metavar="NAME=VALUE",
        help="How to read a file, as in dates=day-first (docs/input.md). May be repeated.",
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first row that cannot be read.")]
RejectedFile = Annotated[
    Path | None,
    typer.Option("--rejected", help="Where rows go that cannot be read.", show_default="FILE.rejected.jsonl, here"),
]


def rejected_rows(file: Path, kept: Path | None, *, strict: bool) -> Rejected:
    """Take the rows of a file that cannot be read; what it tells at once goes to standard error."""
    return Rejected(
        kept or Path(f"{file.name}.rejected.jsonl"),
        strict=strict,
        tell=lambda line: notes.print(f"warning: {file}: {line}", markup=False),
    )
