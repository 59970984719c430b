"""Reads settings, lists them, and explains the ones that are wrong."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsConfigDict

from flink_jobs.settings.fields import UNITS_MS, SettingsGroup
from flink_jobs.settings.settings import Settings
from udfs.contracts import EventType
from udfs.errors import ShopstreamError

#: Names of the settings that are shown with a unit.
_DURATIONS = ("gap", "ttl", "transaction_timeout", "interval", "bundle_time", "delay", "idle", "ahead")


def load_settings(file: Path | None = None, assignments: Iterable[str] = ()) -> Settings:
    """Settings from a TOML file, SHOPSTREAM_… variables and `name=value` assignments, the later ones winning.

    Raises ShopstreamError that names the setting and what it may be.
    """
    if file is not None and not file.is_file():
        raise ShopstreamError(f"there is no settings file {file}")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ShopstreamError(f"setting {assignment!r} should look like name=value, as in session.gap='20 min'")
        group = values
        *groups, last = name.strip().split(".")
        for part in groups:
            group = group.setdefault(part, {})
            if not isinstance(group, dict):
                raise ShopstreamError(f"setting {name!r} is in {part!r}, which is set as a whole before it")
        group[last] = value
    try:
        return FromFile(**values)
    except ValidationError as error:
        raise ShopstreamError(_explain(error)) from None
    except (ValueError, RecursionError) as error:  # of TOML that is none, too deep, or with a number too long
        raise ShopstreamError(f"{file or 'the environment'} cannot be read as settings: {error}") from None


def settings_table() -> list[tuple[str, str, str]]:
    """Name, default and meaning of every setting."""

    def rows(model: type[BaseModel], prefix: str) -> Iterable[tuple[str, str, str]]:
        for name, field in model.model_fields.items():
            if isinstance(field.default, SettingsGroup):
                yield from rows(type(field.default), f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", _shown(name, field.default), field.description or ""

    return list(rows(Settings, ""))


def _shown(name: str, default: object) -> str:
    if isinstance(default, frozenset):
        return ",".join(kind for kind in get_args(EventType) if kind in default)
    if name in _DURATIONS and isinstance(default, int):
        for unit in ("h", "min", "s"):
            if default % UNITS_MS[unit] == 0:
                return f"{default // UNITS_MS[unit]} {unit}"
        return f"{default} ms"
    if isinstance(default, tuple):
        return ",".join(default)
    return str(default).lower() if isinstance(default, bool) else str(default)


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = [setting for setting, _, _ in settings_table()]
        near = difflib.get_close_matches(name, known, n=3) or known
        return f"there is no setting {name!r}; did you mean {', '.join(near)}?"
    message = first["msg"].removeprefix("Value error, ")
    return f"setting {name} cannot be {first['input']!r}: {message[0].lower()}{message[1:]}"
