"""Reads CSV, TSV, JSON lines and Parquet files as batches of raw columns."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from udfs.contracts.clickstream import PROPERTIES
from udfs.core.arrays import Ints
from udfs.core.errors import ShopstreamError
from udfs.events.dialect import Records, Splitter, text_at
from udfs.events.mapping import Plan
from udfs.events.nested import Each, getter
from udfs.events.options import ReadOptions
from udfs.events.rejected import Rejected
from udfs.events.sources import Part, Stream, one_line, parts_of, reading
from udfs.events.values import MISSING

BATCH_ROWS = 65_536

BLOCK_BYTES = 4 << 20

TEXT = pa.string()


@dataclass(frozen=True)
class Rows:
    """Rows of a file as raw columns: texts, or a Parquet file's own types."""

    part: Part
    columns: pa.RecordBatch  #: one column per path of the plan
    number: Ints  #: int64 [n], the row among all of the file, from 0
    line: Ints  #: int64 [n], the line of the file, from 1; of Parquet, the row
    raw: Callable[[int], str]  #: the text of the row at an index of this batch
    nth: Ints | None = None  #: int64 [n], the item's number in its row, from 1; 0 if it is the row's only one

    def take(self, kept: Ints) -> "Rows":
        """Return the rows at these indices."""
        index = pa.array(kept)
        raw, nth = self.raw, None if self.nth is None else self.nth[kept]
        return Rows(
            self.part,
            self.columns.take(index),
            self.number[kept],
            self.line[kept],
            lambda row: raw(int(kept[row])),
            nth,
        )


@dataclass(frozen=True)
class Source:
    """What a user named, opened: its files, and how the first one begins."""

    path: Path
    parts: list[Part]
    names: list[str]  #: columns, by the header, the schema, or the keys in the first block of JSON lines
    first_line: str = ""
    delimiter: str = ","
    begins: int = 0  #: lines before the header
    nested: bool = False  #: values may be objects and lists

    @property
    def kind(self) -> str:
        """csv, json or parquet."""
        return self.parts[0].kind


def open_source(path: Path, how: ReadOptions) -> Source:
    """Look into a file; ShopstreamError if it is missing, unreadable, empty or of an unknown kind."""
    parts = parts_of(path)
    part = parts[0]
    with reading(part.label):
        if part.kind == "parquet":
            if part.file is None:
                raise ShopstreamError(f"{part.label} cannot be read inside an archive")
            schema = pq.ParquetFile(part.file).schema_arrow
            nested = any(pa.types.is_nested(field.type) for field in schema)
            return Source(path, parts, list(schema.names), nested=nested)
        with part.opened(how.encoding) as stream:
            if part.kind == "csv":
                return _csv_source(path, parts, next(_blocks(stream), b""), how)
            block = next(_blocks(stream), b"")
        _refuse_no_lines(part, block)
        names = dict.fromkeys(name for row in _objects(block) for name in row)  # of the first block alone
        if not names:
            raise ShopstreamError(f"{part.label} is empty or holds no JSON object; there should be one per line")
        return Source(path, parts, list(names), nested=True)


def raw_rows(source: Source, plan: Plan, rejected: Rejected) -> Iterator[Rows]:
    """Yield the rows of each part in turn, at most BATCH_ROWS at a time; rows that are none are rejected."""
    read = {"csv": _csv, "json": _json, "parquet": _parquet}[source.kind]
    for part in source.parts:
        with reading(part.label):
            for rows in read(source, part, plan, rejected):
                for start in range(0, len(rows.number), BATCH_ROWS):
                    yield rows if len(rows.number) <= BATCH_ROWS else _slice(rows, start)


def _slice(rows: Rows, start: int) -> Rows:
    part = slice(start, start + BATCH_ROWS)
    nth = None if rows.nth is None else rows.nth[part]
    columns = rows.columns.slice(start, BATCH_ROWS)
    return Rows(rows.part, columns, rows.number[part], rows.line[part], lambda row: rows.raw(start + row), nth)


# --- CSV --------------------------------------------------------------------------------------------------------------


def _csv_source(path: Path, parts: list[Part], block: bytes, how: ReadOptions) -> Source:
    lines = block.split(b"\n", 3)
    begins = 1 if lines[0].startswith(b"sep=") else 0  # Excel's line about the delimiter
    line = lines[begins].decode(errors="replace").strip("\r") if len(lines) > begins else ""
    if not line.strip():
        raise ShopstreamError(f"{parts[0].label} is empty; its first line should name the columns")
    delimiter = how.delimiter or (lines[0].decode()[4:5] if begins else max(",\t;|", key=line.count))
    try:
        names = next(csv.reader(io.StringIO(line), delimiter=delimiter))
    except csv.Error as error:
        raise ShopstreamError(f"{parts[0].label} cannot be read: {one_line(error)}") from error
    return Source(path, parts, names, line, delimiter, begins)


@dataclass(frozen=True)
class _Refused:
    """A line that is no row."""

    line: int  #: from 0, in its block
    reason: str
    said: str
    text: str


@dataclass(frozen=True)
class _Block:
    """A block of a CSV file, split into records, which a thread turns into columns."""

    text: bytes
    records: Records
    refused: list[_Refused]
    parsed: "Future[tuple[pa.RecordBatch, list[pacsv.InvalidRow]]]"


def _csv(source: Source, part: Part, plan: Plan, rejected: Rejected) -> Iterator[Rows]:
    names = list(plan.header) or source.names
    if twice := [name for name in plan.paths if names.count(name) > 1]:
        raise ShopstreamError(f"{part.label}: the header names column '{twice[0]}' more than once")
    number, line = 0, 1 if plan.header else source.begins + 2
    for block in _csv_blocks(source, part, plan, names):
        records, refused = block.records, block.refused
        columns, wrong = block.parsed.result()
        lost = np.array([each.line for each in refused], np.int64)
        index = np.delete(np.arange(len(records.line)), [row.number - 1 for row in wrong])
        for row in wrong:
            nth = int(row.number) - 1
            said = f"Expected {row.expected_columns} columns, got {row.actual_columns}"
            text = text_at(block.text, records, int(records.start[nth]))
            refused.append(_Refused(int(records.line[nth]), "more or fewer values than columns", said, text))
        if len(columns) != len(index):
            raise ShopstreamError(f"{part.label}: lines {line:,} and on cannot be told apart as rows")
        for each in sorted(refused, key=attrgetter("line")):
            rejected.reject(part.label, line + each.line, each.reason, each.said, lambda each=each: each.text)  # type: ignore[misc]
        if len(index):
            # Rejected rows have numbers too, so that ids stay when they are mended.
            at = number + index + np.searchsorted(np.sort(lost), records.line[index])
            raw = partial(_text_of_row, block, index)
            yield Rows(part, columns, at, line + records.line[index], raw)
        number += len(records.line) + len(lost)
        line += records.lines


def _text_of_row(block: _Block, index: Ints, row: int) -> str:
    return text_at(block.text, block.records, int(block.records.start[index[row]]))


def _csv_blocks(source: Source, part: Part, plan: Plan, names: Sequence[str]) -> Iterator[_Block]:
    """Yield the blocks of a CSV file. While one is read, the next is already being parsed."""
    splitter = Splitter(source.delimiter.encode(), len(names), plan.how.quotes)
    rest, is_first, before = b"", True, None
    with part.opened(plan.how.encoding) as stream, ThreadPoolExecutor(1) as thread:
        for block, last in _with_last(_blocks(stream)):
            if is_first and not plan.header:
                _check_header(part, block, source)
                block = block.split(b"\n", source.begins + 1)[-1] if block.count(b"\n") > source.begins else b""
            is_first = False
            text, refused = _without_bad_text(rest + block)
            records = splitter.split(text, last=last)
            rest = text[records.used :]
            for quotes in records.refused:
                refused += _bad_quotes(text, records, *quotes)
            parsed = thread.submit(_parsed, records, names, source.delimiter, plan)
            if before is not None:
                yield before
            before = _Block(text, records, refused, parsed)
        if before is not None:
            yield before


def _check_header(part: Part, block: bytes, source: Source) -> None:
    """Refuse a part whose header is not that of the first part."""
    header = [line.rstrip(b"\r") for line in block.split(b"\n", source.begins + 1)[source.begins :][:1]]
    if part is not source.parts[0] and header != [source.first_line.encode()]:
        raise ShopstreamError(f"{part.label}: its first line is not that of {source.parts[0].label}")


def _bad_quotes(text: bytes, records: Records, first: int, end: int, start: int, reason: str) -> Iterator[_Refused]:
    said = f"{reason}: {end - first + 1:,} lines from here; settle it with --read quotes=none or --read quotes=always"
    rows = text_at(text, records, start).split("\n")
    return (_Refused(first + nth, "a quote over several lines", said, row) for nth, row in enumerate(rows))


def _without_bad_text(block: bytes) -> tuple[bytes, list[_Refused]]:
    """Return a block with the lines that are not UTF-8 left blank, and these lines."""
    try:
        str(block, "utf-8")
    except UnicodeDecodeError:
        lines, bad = block.split(b"\n"), []
        for index, text in enumerate(lines):
            try:
                str(text, "utf-8")
            except UnicodeDecodeError as error:
                said = f"cannot be read as UTF-8: {error.reason}; name the encoding, as in --read encoding=latin-1"
                bad.append(_Refused(index, "not UTF-8", said, text.decode(errors="backslashreplace").rstrip("\r")))
                lines[index] = b""
        return b"\n".join(lines), bad
    return block, []


def _parsed(
    records: Records, names: Sequence[str], delimiter: str, plan: Plan
) -> tuple[pa.RecordBatch, list[pacsv.InvalidRow]]:
    """Return the records of a block as columns, and those with more or fewer values than columns."""
    wrong: list[pacsv.InvalidRow] = []

    def skip(row: pacsv.InvalidRow) -> str:
        wrong.append(row)
        return "skip"

    convert = pacsv.ConvertOptions(
        column_types=dict.fromkeys(names, TEXT),
        include_columns=plan.paths,
        null_values=[*MISSING, *plan.how.missing],
        strings_can_be_null=True,
        check_utf8=False,  # the block has been
    )
    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=bool(records.end_of), invalid_row_handler=skip)
    size = len(records.csv) + 1
    batches: list[pa.RecordBatch] = []
    for threads in (True, False) if len(records.line) else ():  # only without threads are wrong rows numbered
        wrong.clear()
        read = pacsv.ReadOptions(use_threads=threads, block_size=size, column_names=names)
        batches = pacsv.read_csv(pa.BufferReader(records.csv), read, parse, convert).combine_chunks().to_batches()
        if not wrong:
            break
    columns = list(plan.paths)
    return batches[0] if batches else pa.record_batch([pa.array([], TEXT)] * len(columns), columns), wrong


# --- JSON lines -------------------------------------------------------------------------------------------------------

_decoder = msgspec.json.Decoder(float_hook=str)  # texts keep the digits


def _refuse_no_lines(part: Part, block: bytes) -> None:
    """Refuse an array and indented JSON, with the way to make them JSON lines."""
    start = block.lstrip()
    if start.startswith(b"["):
        hint = f"jq -c '.[]' {part.label} > items.jsonl"
        raise ShopstreamError(
            f"{part.label} cannot be read: it is a JSON array, not JSON lines; make them with: {hint}"
        )
    if start.split(b"\n", 1)[0].strip() == b"{":
        hint = f"jq -c . {part.label} > rows.jsonl"
        raise ShopstreamError(
            f"{part.label} cannot be read: it is indented JSON, not JSON lines; make them with: {hint}"
        )


def _objects(block: bytes) -> Iterator[dict[str, Any]]:
    try:
        yield from msgspec.json.Decoder(dict[str, msgspec.Raw]).decode_lines(block)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        yield from (row for row in map(_object, block.split(b"\n")) if isinstance(row, dict))


def _object(line: bytes) -> Any:
    """Return the value of a line of JSON, a message if it is none."""
    try:
        try:
            return _decoder.decode(line.decode())
        except msgspec.MsgspecError:
            if b"NaN" not in line and b"Infinity" not in line:
                raise
            # As Python writes them, though JSON has no such numbers.
            return json.loads(line, parse_float=str, parse_constant=lambda name: None if name == "NaN" else name)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        return f"no JSON: {one_line(error)}"


def _json(source: Source, part: Part, plan: Plan, rejected: Rejected) -> Iterator[Rows]:
    columns = [name for name in plan.paths if not name.startswith("properties.")]
    inside = [name for name in plan.paths if name.startswith("properties.")]
    flat = all(name in source.names or not re.search(r"[.\[]", name) for name in columns)
    flat = flat and all(name.removeprefix("properties.") in PROPERTIES for name in inside)
    number, line = 0, 1
    with part.opened(plan.how.encoding) as stream:
        for block in _blocks(stream):
            of_line, start = _text_lines(block)
            batch = _flat_json(block, columns, inside) if flat else None
            if batch is not None and len(batch) == len(of_line):
                raw = _line_text(block, start)
                rows = Rows(part, batch, number + np.arange(len(of_line)), line + of_line, raw)
            else:
                rows = _any_json(source, part, plan, block, of_line, start, (number, line), rejected)
            number += len(of_line)
            line += block.count(b"\n")
            if len(rows.number):
                yield rows


def _flat_json(block: bytes, columns: Sequence[str], inside: Sequence[str]) -> pa.RecordBatch | None:
    """Return the columns of a block by Arrow's reader, None if it cannot."""
    # In the contract, a field may be a number on one line and a string on the next; for Arrow's reader it may not. So
    # bare values of our columns are put in quotes first. Inside a string the key's quotes are escaped and do not match.
    keys = b"|".join(re.escape(msgspec.json.encode(name)) for name in columns)
    bare = re.compile(rb"((?:" + keys + rb")\s*:\s*)(-?\d[\d.eE+-]*|true|false)(?=\s*[,}])")
    nested = [name.removeprefix("properties.") for name in inside]
    schema = pa.schema([(name, TEXT) for name in columns])
    if nested:
        schema = schema.append(pa.field("properties", pa.struct([(name, TEXT) for name in nested])))
    parse = pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    quoted = bare.sub(lambda match: match[1] + b'"' + match[2] + b'"', block)  # a template takes twice as long
    try:
        str(quoted, "utf-8")  # Arrow's JSON reader lets invalid UTF-8 through
        table = pajson.read_json(pa.BufferReader(quoted), pajson.ReadOptions(block_size=len(quoted) + 1), parse)
        for name in nested:
            values = pc.struct_field(table["properties"], name)
            table = table.append_column(f"properties.{name}", values)
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    batches = table.select([*columns, *inside]).combine_chunks().to_batches()
    return batches[0] if batches else None


def _any_json(
    source: Source,
    part: Part,
    plan: Plan,
    block: bytes,
    of_line: Ints,
    start: Ints,
    at: tuple[int, int],
    rejected: Rejected,
) -> Rows:
    """Return the rows of a block line by line. JSON with objects and lists inside comes as Python objects anyway."""
    raw = _line_text(block, start)
    rows, number = [], []
    for nth, begin in enumerate(start.tolist()):
        end = block.find(b"\n", begin)
        row = _object(block[begin : end if end >= 0 else None])
        if isinstance(row, dict):
            rows.append(row)
            number.append(nth)
            continue
        said = row if isinstance(row, str) and row.startswith("no JSON") else "no JSON object"
        rejected.reject(part.label, at[1] + int(of_line[nth]), "no JSON object", said, lambda nth=nth: raw(nth))  # type: ignore[misc]
    kept = np.array(number, dtype=np.int64)
    found = Rows(part, pa.record_batch([], []), at[0] + kept, at[1] + of_line[kept], lambda row: raw(int(kept[row])))
    return _exploded(found, rows, source.names, plan, rejected)


def _exploded(
    found: Rows, rows: Sequence[dict[str, Any]], names: Sequence[str], plan: Plan, rejected: Rejected
) -> Rows:
    """Return one row per event of rows that are objects: a row with a list at `[]` is an event for each of it."""
    paths = plan.paths
    getters = [getter(path, names) for path in paths]
    columns: list[list[str | None]] = [[] for _ in paths]
    source: list[int] = []
    nth: list[int] = []
    for index, row in enumerate(rows):
        values = [get(row) for get in getters]
        try:
            texts = [_texts(path, value, plan) for path, value in zip(paths, values, strict=True)]
        except _NoTextError as error:
            rejected.reject(
                found.part.label, int(found.line[index]), "an object or a list", str(error),
                lambda index=index: found.raw(index),  # type: ignore[misc]
            )  # fmt: skip
            continue
        lengths = {len(text) for text in texts if isinstance(text, list) and text}
        if len(lengths - {1}) > 1:
            said = f"lists of {', '.join(map(str, sorted(lengths)))} values; they should have one length"
            rejected.reject(
                found.part.label, int(found.line[index]), "lists of different lengths", said,
                lambda index=index: found.raw(index),  # type: ignore[misc]
            )  # fmt: skip
            continue
        events = max(lengths, default=1)
        for column, text in zip(columns, texts, strict=True):
            if isinstance(text, list):
                column.extend(text if len(text) == events else (text or [None]) * events)
            else:
                column.extend([text] * events)
        source.extend([index] * events)
        nth.extend(range(1, events + 1) if events > 1 else [0])
    index_of = np.array(source, dtype=np.int64)
    batch = pa.record_batch([pa.array(column, TEXT) for column in columns], list(paths))
    raw = found.raw
    return Rows(
        found.part, batch, found.number[index_of], found.line[index_of], lambda row: raw(int(index_of[row])),
        np.array(nth, dtype=np.int64),
    )  # fmt: skip


class _NoTextError(ValueError):
    """A value that is an object or a list where one value is expected."""


def _texts(path: str, value: Any, plan: Plan) -> str | list[str | None] | None:
    """Return a value as text, or the values of a list for one event each."""
    if isinstance(value, Each) or (isinstance(value, list) and path in plan.columns.get("item_id", ())):
        texts = [_texts(path, each, plan) for each in _flattened(value)]
        return [None if isinstance(text, list) else text for text in texts]
    if isinstance(value, dict) and len(value) == 1 and path in plan.columns.get("title", ()):
        (value,) = value.values()  # one language
    if isinstance(value, list) and path in plan.columns.get("category", ()):
        return " > ".join(str(each) for each in value)
    if isinstance(value, dict):
        keys = ", ".join(map(str, value))
        raise _NoTextError(
            f"column '{path}' holds an object with {keys}; name one of them, as in --map FIELD={path}.KEY"
        )
    if isinstance(value, list):
        raise _NoTextError(f"column '{path}' holds a list; name what is in it, as in --map FIELD={path}[].KEY")
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _flattened(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, Each):
            yield from _flattened(value)
        else:
            yield value


def split_items(rows: Rows, plan: Plan) -> Rows:
    """Return one row per item, where cells hold several: a JSON list, or ids with the separator of --read items."""
    paths = [path for path in plan.columns.get("item_id", ()) if path in rows.columns.schema.names]
    if not paths or rows.columns[paths[0]].type != TEXT:
        return rows
    cells = rows.columns[paths[0]]
    separator = plan.how.items
    listed = pc.starts_with(cells, "[") if separator is None else pc.match_substring(cells, separator)
    if not pc.any(listed).as_py():
        return rows
    split = [
        (_list_in(cell) if separator is None else [each.strip() for each in cell.split(separator)]) if is_list else None
        for cell, is_list in zip(cells.to_pylist(), listed.to_pylist(), strict=True)
    ]
    sizes = np.array([1 if items is None else len(items) for items in split])
    index = np.repeat(np.arange(len(split)), sizes)
    items = [
        each
        for cell, items in zip(cells.to_pylist(), split, strict=True)
        for each in ([cell] if items is None else items)
    ]
    nth = np.concatenate([np.arange(1, size + 1) if size > 1 else np.zeros(size, np.int64) for size in sizes])
    taken = rows.take(index)
    columns = [
        pa.array(items, TEXT) if name == paths[0] else taken.columns[name] for name in taken.columns.schema.names
    ]
    batch = pa.record_batch(columns, taken.columns.schema.names)
    return Rows(rows.part, batch, taken.number, taken.line, taken.raw, nth)


def _list_in(cell: str) -> list[str | None] | None:
    """Return the ids of a cell that is a JSON list of texts and numbers, None for any other cell."""
    values = _object(cell.encode())
    if not isinstance(values, list) or not values or any(isinstance(value, list | dict) for value in values):
        return None
    return [None if value is None else str(value) for value in values]


def _text_lines(block: bytes) -> tuple[Ints, Ints]:
    """Return the line of each line that is not blank, from 0, and its start in the block."""
    lines = np.flatnonzero(np.frombuffer(block, np.uint8) == 10)
    start = np.concatenate(([0], lines + 1))
    end = np.append(lines, len(block))
    begins = np.frombuffer(block, np.uint8)[np.minimum(start, len(block) - 1)]  # of each line, its first byte
    spaces = np.flatnonzero(np.isin(begins, np.frombuffer(b" \t\r\n", np.uint8)) | (start == end)).tolist()
    number = np.delete(np.arange(len(start)), [nth for nth in spaces if not block[start[nth] : end[nth]].strip()])
    return number, start[number]


def _line_text(block: bytes, start: Ints) -> Callable[[int], str]:
    def text(row: int) -> str:
        begin = int(start[row])
        end = block.find(b"\n", begin)
        return block[begin : end if end >= 0 else None].decode(errors="backslashreplace").rstrip("\r")

    return text


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _parquet(source: Source, part: Part, plan: Plan, rejected: Rejected) -> Iterator[Rows]:
    if part.file is None:
        raise ShopstreamError(f"{part.label} cannot be read inside an archive")
    names = source.names
    roots = list(dict.fromkeys(path if path in names else re.split(r"[.\[]", path)[0] for path in plan.paths))
    roots = [name for name in roots if name in names]
    file = pq.ParquetFile(part.file)
    if missing := [name for name in roots if name not in file.schema_arrow.names]:
        raise ShopstreamError(f"{part.label} has no column '{missing[0]}', unlike {source.parts[0].label}")
    nested = any(pa.types.is_nested(file.schema_arrow.field(name).type) for name in roots)
    number = 0
    for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=roots):
        batch.validate(full=True)  # Arrow's Parquet reader lets invalid UTF-8 through
        rows = _parquet_rows(part, batch, number)
        if nested:
            rows = _exploded(rows, batch.to_pylist(), names, plan, rejected)
        number += len(batch)
        yield rows


def _parquet_rows(part: Part, batch: pa.RecordBatch, first: int) -> Rows:
    index = first + np.arange(len(batch))

    def raw(row: int) -> str:
        return json.dumps(batch.slice(row, 1).to_pylist()[0], default=str)

    return Rows(part, batch, index, index + 1, raw)


# --- blocks -----------------------------------------------------------------------------------------------------------


def _blocks(stream: Stream) -> Iterator[bytes]:
    """Yield a text in blocks of about BLOCK_BYTES: whole lines, not all blank but for the last. CR alone ends lines
    where a text has no other."""
    rest, old = b"", None
    while block := stream.read(BLOCK_BYTES):
        if old is None:
            old = b"\n" not in block and b"\r" in block.rstrip(b"\r")
        block = block.replace(b"\r", b"\n") if old else block
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
        rest = block[end:] if end else rest + block
    if rest:
        yield rest


def _with_last(blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each block, and whether it is the last."""
    before = next(blocks, None)
    for block in blocks:
        assert before is not None  # noqa: S101 - for mypy
        yield before, False
        before = block
    if before is not None:
        yield before, True
