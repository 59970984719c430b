"""Reads settings, lists them, and explains the ones that are wrong."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from flink_jobs.settings.fields import UNITS_MS, SettingsGroup, unit_of
from flink_jobs.settings.settings import Settings
from udfs.contracts.clickstream import EventType
from udfs.core.errors import ShopstreamError


def load_settings(file: Path | None = None, assignments: Iterable[str] = (), *, environment: bool = True) -> Settings:
    """Reads settings from a TOML file, SHOPSTREAM_… variables and `name=value` assignments; later ones win.

    environment: False for a file of effective settings, which has taken the variables in already.
    Raises ShopstreamError that names the setting and what it may be.
    """
    if file is not None and not file.is_file():
        raise ShopstreamError(f"there is no settings file {file}")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=file)

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            variables = (env_settings,) if environment else ()
            return init_settings, *variables, TomlConfigSettingsSource(settings_cls)

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


def settings_table(model: type[BaseModel] = Settings, prefix: str = "") -> list[tuple[str, str, str]]:
    """Lists name, default and meaning of every setting."""
    rows: list[tuple[str, str, str]] = []
    for name, field in model.model_fields.items():
        if isinstance(field.default, SettingsGroup):
            rows += settings_table(type(field.default), f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", _default_text(field), field.description or ""))
    return rows


def _default_text(field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, frozenset):
        return ",".join(kind for kind in get_args(EventType) if kind in default)
    if unit_of(field) == "ms" and isinstance(default, int):
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
