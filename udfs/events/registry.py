"""Reads records that name their schema in a schema registry: Avro, or JSON, behind five bytes.

The registry answers Confluent's REST API, `GET <url>/schemas/ids/<id>`, as Apicurio Registry and Karapace do, too.
"""

import base64
import json
import logging
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime
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


@dataclass(frozen=True)
class RegistryOptions:
    """Where the registry is; plain data, so that it travels to the workers. The password stays in its file."""

    url: str
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None  #: PEM of the trusted CAs; None: the machine's own


@dataclass(frozen=True)
class _Schema:
    """avro: fastavro's schema, None for records in JSON. error: why none of its records can be read."""

    avro: Any = None
    error: str | None = None


class Registry:
    """Takes the header off records, by schemas that are asked for once."""

    def __init__(self, options: RegistryOptions) -> None:
        """Raise ShopstreamError for a file of the options that cannot be read."""
        self._url = options.url.rstrip("/")
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        try:
            if options.username is not None:
                password = options.password_file.read_text().rstrip("\r\n") if options.password_file else ""
                login = base64.b64encode(f"{options.username}:{password}".encode()).decode()
                self._headers["Authorization"] = f"Basic {login}"
            self._tls = ssl.create_default_context(cafile=options.ca_file)
        except OSError as error:
            raise ShopstreamError(f"registry.password_file or registry.ca_file cannot be read: {error}") from None
        self._schema = lru_cache(SCHEMAS)(self._fetch)

    def check(self) -> None:
        """Raise ShopstreamError if the registry does not answer, or refuses the user."""
        self._get("/schemas/types")

    def json_of(self, value: bytes) -> bytes:
        """Return a record as JSON; of a change event of Debezium, its `after`.

        Raises ValueError for what has no header, a schema that the registry does not have, or a value that is not of
        its schema. Raises ShopstreamError if the registry cannot be asked: the record may be a good one.
        """
        if value[:1] == b"{":  # JSON from before there was a registry
            return value
        if value[:1] != b"\0" or len(value) <= HEADER:
            raise ValueError("begins with neither a schema registry's header nor `{`")
        number = int.from_bytes(value[1:HEADER], "big")
        schema = self._schema(number)
        if schema.error:
            raise ValueError(f"schema {number} {schema.error}")
        if schema.avro is None:
            return value[HEADER:]
        stream = BytesIO(value)
        stream.seek(HEADER)
        try:
            record = fastavro.schemaless_reader(stream, schema.avro, None)
        except Exception as error:  # fastavro raises whatever a wrong byte leads to
            raise ValueError(f"is not of schema {number}: {type(error).__qualname__}: {error}") from None
        if stream.read(1):
            raise ValueError(f"is not of schema {number}: there is more behind the record")
        if isinstance(record, dict) and {"op", "after"} <= record.keys():
            record = record["after"]
        return msgspec.json.encode(_plain(record))

    def _fetch(self, number: int) -> _Schema:
        found = self._get(f"/schemas/ids/{number}")
        if found is None:
            return _Schema(error="is not in the registry")
        kind = found.get("schemaType", "AVRO")
        if kind == "JSON":
            return _Schema()
        if kind != "AVRO":
            return _Schema(error=f"is of type {kind}; only AVRO and JSON are read")
        named: dict[str, Any] = {}
        try:
            self._name_references(found, named)
            return _Schema(avro=fastavro.parse_schema(json.loads(found["schema"]), named_schemas=named))
        except (ValueError, KeyError, fastavro.schema.SchemaParseException, fastavro.schema.UnknownType) as error:
            return _Schema(error=f"cannot be read: {type(error).__qualname__}: {error}")

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
        request = urllib.request.Request(self._url + path, headers=self._headers)  # noqa: S310 - the settings take http and https alone
        for pause in (*PAUSES_S, None):
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=self._tls) as answer:  # noqa: S310
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 404:
                    return None
                if error.code in (401, 403):
                    raise ShopstreamError(
                        f"the schema registry {self._url} refuses registry.username or its password ({error.code})"
                    ) from None
                why = f"answers {error.code}"
            except (OSError, ValueError) as error:
                why = f"does not answer: {getattr(error, 'reason', error)}"
            if pause is None:
                raise ShopstreamError(f"the schema registry {self._url} {why}")
            log.warning("the schema registry %s %s; next attempt in %s s", self._url, why, pause)
            time.sleep(pause)
        raise AssertionError


def _plain(value: Any) -> Any:
    """Return an Avro value as JSON has it: times as epoch ms; bytes as an object, which no field takes for a text."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime) and value.tzinfo is not None:
        return epoch_ms(value)
    return {"bytes": len(value)} if isinstance(value, bytes) else value
