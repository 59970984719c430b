"""Reads records that name their schema in a schema registry: Avro, or JSON, behind five bytes.

The registry answers Confluent's REST API, `GET <url>/schemas/ids/<id>`, as Apicurio Registry and Karapace do, too.
"""

import base64
import http.client
import json
import logging
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fastavro
import msgspec

from udfs.core.clock import epoch_ms
from udfs.core.errors import ShopstreamError

log = logging.getLogger(__name__)

#: Bytes of the header: a zero and the schema's id, big-endian.
HEADER = 5

TIMEOUT_S = 10.0

#: Pauses between attempts while the registry does not answer.
PAUSES_S = (1.0, 2.0, 4.0, 8.0)

#: Schemas that are kept; a topic has one per version of its records.
SCHEMAS = 1000

#: Seconds after which a schema that could not be read is asked for again: it may be there by then.
ASK_AGAIN_S = 30.0

#: Bytes of a decimal at most; longer ones take time by the square of their length.
DECIMAL_BYTES = 64


@dataclass(frozen=True)
class RegistryOptions:
    """Where the registry is; plain data, so that it travels to the workers. The password stays in its file."""

    url: str
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None  #: PEM of the trusted CAs; None: the machine's own


class Registry:
    """Takes the header off records, by schemas that are asked for once."""

    def __init__(self, options: RegistryOptions) -> None:
        """Raise ShopstreamError for a file of the options that cannot be read."""
        self._url = options.url.rstrip("/")
        self._login: str | None = None
        try:
            if options.username is not None:
                password = options.password_file.read_text().rstrip("\r\n") if options.password_file else ""
                login = base64.b64encode(f"{options.username}:{password}".encode()).decode()
                self._login = f"Basic {login}"
            self._tls = ssl.create_default_context(cafile=options.ca_file)
        except (OSError, UnicodeDecodeError) as error:
            raise ShopstreamError(f"registry.password_file or registry.ca_file cannot be read: {error}") from None
        self._fetched = lru_cache(SCHEMAS)(self._fetch)
        self._refused: dict[int, tuple[float, str]] = {}  # by schema: when to ask again, and why not now

    def check(self) -> None:
        """Raise ShopstreamError if the registry does not answer as one, or refuses the user."""
        if not isinstance(self._get("/schemas/types"), list):
            raise ShopstreamError(f"{self._url} (registry.url) is not the address of a schema registry's REST API")

    def json_of(self, value: bytes) -> bytes:
        """Return a record as JSON; of a change event of Debezium, its `after`.

        Raises ValueError for what has no header, a schema that the registry does not have, or a value that is not of
        its schema. Raises ShopstreamError if the registry cannot be asked: the record may be a good one.
        """
        body = without_header(value)
        if body is value:
            return value
        number = int.from_bytes(value[1:HEADER], "big")
        schema = self._schema(number)
        if schema is None:
            return body
        stream = BytesIO(body)
        try:
            record = fastavro.schemaless_reader(stream, schema, None)
        except Exception as error:  # fastavro raises whatever a wrong byte leads to
            raise ValueError(f"is not of schema {number}: {type(error).__qualname__}: {error}") from None
        if stream.read(1):
            raise ValueError(f"is not of schema {number}: there is more behind the record")
        if isinstance(record, dict) and {"op", "after"} <= record.keys():
            record = record["after"]
        return msgspec.json.encode(_plain(record))

    def _schema(self, number: int) -> Any:
        """Return fastavro's schema, None for records in JSON; raise ValueError for one that cannot be read."""
        again, why = self._refused.get(number, (0.0, ""))
        if time.monotonic() < again:
            raise ValueError(why)
        try:
            return self._fetched(number)
        except ValueError as error:
            if len(self._refused) >= SCHEMAS:
                self._refused.clear()
            self._refused[number] = (time.monotonic() + ASK_AGAIN_S, str(error))
            raise

    def _fetch(self, number: int) -> Any:
        found = self._get(f"/schemas/ids/{number}") if number < 2**31 else None
        if found is None:
            raise ValueError(f"schema {number} is not in the registry")
        try:
            kind = found.get("schemaType", "AVRO")
            if kind == "JSON":
                return None
            if kind != "AVRO":
                raise ValueError(f"it is of type {kind}; only AVRO and JSON are read")
            named: dict[str, Any] = {}
            self._name_references(found, named)
            schema = fastavro.parse_schema(json.loads(found["schema"]), named_schemas=named)
            _refuse_endless(schema, named, ())
        except ShopstreamError:
            raise
        except Exception as error:  # whatever a wrong schema leads to
            why = str(error) if type(error) is ValueError else f"{type(error).__qualname__}: {error}"
            raise ValueError(f"schema {number} cannot be read: {why}") from None
        return schema

    def _name_references(self, schema: Any, named: dict[str, Any]) -> None:
        """Parse the schemas that one refers to, and those that they refer to, into `named`."""
        for reference in schema.get("references") or ():
            subject = quote(reference["subject"], safe="")
            found = self._get(f"/subjects/{subject}/versions/{reference['version']}")
            if found is None:
                raise ValueError(f"it refers to {reference['subject']}, which is not there")
            self._name_references(found, named)
            fastavro.parse_schema(json.loads(found["schema"]), named_schemas=named)

    def _get(self, path: str) -> Any:
        """Return the registry's answer, None for what it does not have; try again while it does not answer."""
        accepted = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        for pause in (*PAUSES_S, None):
            try:
                request = urllib.request.Request(self._url + path, headers=accepted)  # noqa: S310 - the settings take http and https alone
                if self._login:  # for this address, not for one that it redirects to
                    request.add_unredirected_header("Authorization", self._login)
                with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=self._tls) as answer:  # noqa: S310
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code in (400, 404, 422):
                    return None
                if error.code in (401, 403):
                    raise ShopstreamError(
                        f"the schema registry {self._url} refuses registry.username or its password ({error.code})"
                    ) from None
                why = f"answers {error.code}"
            except (OSError, ValueError, http.client.HTTPException) as error:
                why = f"does not answer: {getattr(error, 'reason', error)}"
            if pause is None:
                raise ShopstreamError(f"the schema registry {self._url} {why}")
            log.warning("the schema registry %s %s; next attempt in %s s", self._url, why, pause)
            time.sleep(pause)
        raise AssertionError


def without_header(value: bytes) -> bytes:
    """Return what is behind the header; JSON without one, from before there was a registry, as it is.

    Raises ValueError for a value that begins with neither.
    """
    if value[:1] == b"\0" and len(value) > HEADER:
        return value[HEADER:]
    if value[:1] == b"{":
        return value
    raise ValueError("begins with neither a schema registry's header nor `{`")


def _plain(value: Any) -> Any:
    """Return an Avro value as JSON has it: times as epoch ms; bytes as an object, which no field takes for a text."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime) and value.tzinfo is not None:
        return epoch_ms(value)
    return {"bytes": len(value)} if isinstance(value, bytes) else value


def _refuse_endless(schema: Any, named: dict[str, Any], within: tuple[str, ...]) -> None:
    """Raise ValueError for a schema of which a short value can be a deep or a large one.

    Such are one that refers to itself, and an array of items that take no bytes: fastavro bounds neither.
    """
    if isinstance(schema, list):
        for each in schema:
            _refuse_endless(each, named, within)
    elif isinstance(schema, str):
        if schema in within:
            raise ValueError(f"`{schema}` refers to itself, which is not read")
        if schema in named:
            _refuse_endless(named[schema], named, within)
    elif schema["type"] in ("record", "error"):
        if schema["name"] in within:
            raise ValueError(f"`{schema['name']}` refers to itself, which is not read")
        for field in schema["fields"]:
            _refuse_endless(field["type"], named, (*within, schema["name"]))
    elif schema["type"] == "array":
        _refuse_endless(schema["items"], named, within)
        if not _takes_bytes(schema["items"], named):
            raise ValueError("it has an array of items that take no bytes, which is not read")
    elif schema["type"] == "map":
        _refuse_endless(schema["values"], named, within)


def _takes_bytes(schema: Any, named: dict[str, Any]) -> bool:
    """Return whether a value of a schema takes a byte at least. Nothing refers to itself here."""
    if isinstance(schema, list):
        return True
    if isinstance(schema, str):
        return _takes_bytes(named[schema], named) if schema in named else schema != "null"
    if schema["type"] in ("record", "error"):
        return any(_takes_bytes(field["type"], named) for field in schema["fields"])
    return bool(schema.get("size", 1)) and schema["type"] != "null"


def _decimal(data: Any, schema: dict[str, Any] | None, _: Any) -> Decimal:
    """Read a decimal; raise ValueError for a longer one than DECIMAL_BYTES."""
    if len(data) > DECIMAL_BYTES:
        raise ValueError(f"a decimal of {len(data):,} bytes")
    return Decimal(int.from_bytes(data, "big", signed=True)).scaleb(-(schema or {}).get("scale", 0))


for _kind in ("bytes-decimal", "fixed-decimal"):
    fastavro.read.LOGICAL_READERS[_kind] = _decimal
