"""Known kinds of files: one TOML each in `udfs/events/known`, and a user's own by its path."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from udfs.core.errors import ShopstreamError
from udfs.events.options import BY_CONTENT

Columns = str | list[str]


class LeaveOut(Struct, frozen=True, forbid_unknown_fields=True):
    """Rows that are no events: those whose column begins so, is below a number, or has no value."""

    column: str
    reason: str
    starts_with: str | None = None
    below: float | None = None
    missing: bool = False


class Form(Struct, frozen=True, forbid_unknown_fields=True):
    """One form of a known file. docs/input.md explains each key."""

    map: dict[str, Columns] = field(default_factory=dict)  #: of events: a column, several of them, or const:VALUE
    catalog: dict[str, Columns] = field(default_factory=dict)  #: of items
    needs: list[str] = field(default_factory=list)  #: columns by which a file is recognised; else all that are mapped
    without: list[str] = field(default_factory=list)  #: columns that a file of this form does not have
    header: list[str] = field(default_factory=list)  #: columns of a CSV file whose first line does not name them
    first_line: str | None = None  #: regular expression by which a file without a header is recognised
    read: dict[str, Any] = field(default_factory=dict)  #: options of --read
    values: dict[str, dict[str, str]] = field(default_factory=dict)  #: {field: {value in the file: value}}
    plus_ms: dict[str, str] = field(default_factory=dict)  #: {time: column of ms to add}
    leave_out: list[LeaveOut] = field(default_factory=list)
    line_ids: bool = False  #: the row's number is added to event_id
    tell_repeats: bool = False  #: count rows that are the same as the row before
    variants: bool = False  #: an item has several rows, and is in stock if one of them is

    def fits(self, names: Sequence[str], first_line: str, *, items: bool) -> bool:
        """Return whether a file with these columns is of this form."""
        mapping = self.catalog if items else self.map
        if not mapping:
            return False
        if self.header:
            return self.first_line is not None and re.fullmatch(self.first_line, first_line) is not None
        return set(self.needs or columns_in(mapping)) <= set(names) and not set(self.without) & set(names)


class Preset(Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of file: its forms, the first that fits is taken."""

    description: str
    form: list[Form]


def columns_in(mapping: Mapping[str, Columns]) -> list[str]:
    """Return the columns of a mapping, without constants; of paths such as a.b[].c the part that is a column."""
    named = [name for columns in mapping.values() for name in ([columns] if isinstance(columns, str) else columns)]
    return list(dict.fromkeys(re.split(r"[.\[]", name)[0] for name in named if not name.startswith("const:")))


@cache
def presets() -> Mapping[str, Preset]:
    """Return the presets of the package by name."""
    known = sorted((files("udfs.events") / "known").iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(".toml"): _decoded(file.read_bytes(), file.name) for file in known}


def load_preset(path: Path) -> Preset:
    """Read a user's own preset; ShopstreamError names the file and what is wrong in it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ShopstreamError(f"preset {path} cannot be read: {error.strerror}") from error
    return _decoded(content, str(path))


def has_form(preset: str, names: Sequence[str], first_line: str, *, items: bool) -> bool:
    """Return whether a preset, by name or path, has a form that fits a file with these columns."""
    known = load_preset(Path(preset)) if preset.endswith(".toml") else presets().get(preset)
    forms = known.form if known else []
    return known is None or any(
        form.fits(names, first_line, items=items) or (bool(form.header) and form.first_line is None) for form in forms
    )


def _decoded(content: bytes, name: str) -> Preset:
    try:
        found = msgspec.convert(tomllib.loads(content.decode()), Preset, strict=False)
        for form in found.form:
            BY_CONTENT.updated(form.read)
            re.compile(form.first_line or "")
    except (ValueError, re.error, msgspec.MsgspecError, ShopstreamError) as error:
        raise ShopstreamError(f"preset {name}: {' '.join(str(error).split())}") from error
    return found


def recognise(
    path: Path, names: Sequence[str], first_line: str, preset: str, *, items: bool
) -> tuple[str, Form | None]:
    """Return the preset to read a file with, and its form; ShopstreamError for one that is unknown or does not fit."""
    if preset == "auto":
        for name, known in presets().items():
            for form in known.form:
                if form.fits(names, first_line, items=items):
                    return name, form
        return "events", None
    if preset == "events":
        return preset, None
    own = preset.endswith(".toml")
    if not own and preset not in presets():
        raise ShopstreamError(
            f"preset '{preset}' is unknown; choose auto, events, {', '.join(presets())} or a .toml file of your own"
        )
    known = load_preset(Path(preset)) if own else presets()[preset]
    for form in known.form:
        if form.fits(names, first_line, items=items) or (form.header and form.first_line is None):
            return preset, form
    kind = "items" if items else "events"
    usable = [form for form in known.form if (form.catalog if items else form.map)]
    if not usable:
        raise ShopstreamError(f"{path}: preset '{preset}' has no {kind}: a {preset} file has none")
    needs = " or ".join(
        ", ".join(form.header or form.needs or columns_in(form.catalog if items else form.map)) for form in usable
    )
    raise ShopstreamError(f"{path} is no {preset} file: it has {', '.join(names)}; the preset needs {needs}")
