"""The types of settings: durations, addresses, lists, and what every group of settings has in common."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

UNITS_MS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(value: object) -> object:
    """Reads '30 min', '1 s', '250ms', '1 h', '2 d' or a number of milliseconds; raises ValueError for anything else."""
    if not isinstance(value, str) or value.isdecimal():
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)", value.strip())
    if match is None:
        raise ValueError("give a number with a unit: ms, s, min, h or d, as in '30 min'")
    return round(float(match[1]) * UNITS_MS[match[2]])


def comma_separated(value: object) -> object:
    """Splits text at its commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


@dataclass(frozen=True)
class Unit:
    """Marks a type of settings: its numbers are in this unit."""

    name: str


def unit_of(field: FieldInfo) -> str | None:
    """Returns the unit that a setting's type is marked with, also where the setting may be none."""
    parts = [mark for part in get_args(field.annotation) for mark in getattr(part, "__metadata__", ())]
    return next((mark.name for mark in (*field.metadata, *parts) if isinstance(mark, Unit)), None)


Duration = Annotated[int, BeforeValidator(duration_ms), Field(ge=0), Unit("ms")]
PositiveDuration = Annotated[int, BeforeValidator(duration_ms), Field(gt=0), Unit("ms")]
#: A path that means the same in any working folder.
AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]


def _addresses(value: str) -> str:
    for address in value.split(","):
        host, _, port = address.strip().rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError("give host:port, as in localhost:9092")
    return value


Addresses = Annotated[str, AfterValidator(_addresses)]
Ports = Annotated[str, Field(pattern=r"^\d{1,5}([-,]\d{1,5})*$")]


class SettingsGroup(BaseModel):
    """A table of settings: frozen, and it refuses names that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
