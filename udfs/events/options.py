"""How a file is read where its content does not tell: the options of `--read` and of presets."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from zoneinfo import ZoneInfo

from udfs.core.errors import ShopstreamError

_CHOICES = {
    "quotes": ("none", "always"),
    "decimal": ("point", "comma"),
    "dates": ("day-first", "month-first"),
    "times": ("s", "ms", "us", "ns"),
}


@dataclass(frozen=True)
class ReadOptions:
    """None: told by the file's content, or refused where that cannot tell. docs/input.md has each with an example."""

    delimiter: str | None = None  #: of a CSV file, one character
    quotes: str | None = None  #: none: a double quote is a character like others; always: it may hold whole lines
    decimal: str | None = None  #: point or comma, of numbers in texts
    dates: str | None = None  #: day-first or month-first, of dates such as 12/1/2010
    times: str | None = None  #: unit of times that are numbers: s, ms, us or ns
    zone: str | None = None  #: of times without a zone: UTC or an IANA name
    encoding: str | None = None  #: of a text file, when it is not UTF-8
    items: str | None = None  #: what separates the item ids of one cell
    missing: tuple[str, ...] = ()  #: further texts that stand for no value

    def updated(self, given: Mapping[str, object]) -> "ReadOptions":
        """Return these options with those of NAME=VALUE pairs; ShopstreamError names a wrong one."""
        names = [field.name for field in fields(self)]
        changed: dict[str, object] = {}
        for name, value in given.items():
            if name not in names:
                raise ShopstreamError(f"--read {name}={value}: there is no such option; choose from {', '.join(names)}")
            choices = _CHOICES.get(name)
            if choices and value not in choices:
                raise ShopstreamError(f"--read {name}={value}: choose {' or '.join(choices)}")
            changed[name] = _checked(name, value)
        return replace(self, **changed)  # type: ignore[arg-type]


#: Nothing is settled by an option.
BY_CONTENT = ReadOptions()


def _checked(name: str, value: object) -> object:
    if name == "missing":
        return tuple(value.split(",")) if isinstance(value, str) else tuple(map(str, value))  # type: ignore[call-overload]
    text = {"tab": "\t", "\\t": "\t"}.get(str(value), str(value))
    if name == "delimiter" and (len(text.encode()) != 1 or text in '"\r\n'):
        raise ShopstreamError(f"--read delimiter={value}: a delimiter is one ASCII character, or tab")
    if name == "zone":
        zone_named(text)
    if name == "encoding":
        try:
            "".encode(text)
        except LookupError:
            raise ShopstreamError(f"--read encoding={value}: there is no such encoding; try latin-1") from None
    return text


@lru_cache
def zone_named(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name; ShopstreamError for an unknown one."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ShopstreamError(f"{name!r} is no time zone; use UTC or an IANA name such as Europe/Berlin") from None


def parse_options(pairs: Iterable[str]) -> dict[str, str]:
    """Return {option: value} of the NAME=VALUE pairs of --read; ShopstreamError names a bad pair."""
    given = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if not name or not value:
            raise ShopstreamError(f"--read was given {pair!r}; it takes NAME=VALUE, for example dates=day-first")
        given[name] = value
    ReadOptions().updated(given)
    return given
