"""CSV, TSV, JSON lines and Parquet files as batches of raw columns."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from udfs.contracts.clickstream import PROPERTIES
from udfs.core.errors import ShopstreamError

BATCH_ROWS = 65_536

BLOCK_BYTES = 4 << 20
TEXT = pa.string()


def column_names(path: Path) -> list[str]:
    """The columns of a file: its header, its Parquet schema, or the keys in the first `BLOCK_BYTES` of its JSON lines.

    Raises ShopstreamError for a file that is not there, cannot be read, is empty or is of an unknown kind.
    """
    found = file_kind(path)
    with _reading(path):
        if found == "parquet":
            return list(pq.ParquetFile(path).schema_arrow.names)
        if found == "csv":
            return _header(path)[0]
        rows = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode_lines(next(_blocks(path), b""))
        if not rows:
            raise ShopstreamError(f"{path} is empty; it should hold JSON objects, one a line")
        return list(dict.fromkeys(name for row in rows for name in row))  # rows of the first block only


# --- files ------------------------------------------------------------------------------------------------------------


def raw_batches(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(index of the first row, batch of the columns): strings from text files, their own types from Parquet."""
    read = {"csv": _csv, "json": _json, "parquet": _parquet}[file_kind(path)]
    first = 0
    with _reading(path):
        for batch in read(path, columns):
            for start in range(0, batch.num_rows, BATCH_ROWS):
                yield first + start, batch.slice(start, BATCH_ROWS)
            first += batch.num_rows


def _csv(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    names, delimiter = _header(path)
    text = pacsv.ConvertOptions(
        column_types=dict.fromkeys(names, TEXT), include_columns=columns, null_values=[""], strings_can_be_null=True
    )
    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with _open(path) as stream:
        yield from pacsv.open_csv(
            stream, pacsv.ReadOptions(block_size=BLOCK_BYTES), parse_options=parse, convert_options=text
        )


def _json(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    # The contract lets a field be a number on one line and a string on the next, Arrow's reader does not, so bare
    # values of our columns are put in quotes first. Inside a string the key's quotes are escaped and do not match.
    keys = b"|".join(re.escape(msgspec.json.encode(name)) for name in columns)
    bare = re.compile(rb"((?:" + keys + rb")\s*:\s*)(-?\d[\d.eE+-]*|true|false)(?=\s*[,}])")
    nested = [name for name in PROPERTIES if name in columns]
    schema = pa.schema([(name, TEXT) for name in columns])
    if nested:
        schema = schema.append(pa.field("properties", pa.struct([(name, TEXT) for name in nested])))
    parse = pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    for block in _blocks(path):
        quoted = bare.sub(rb'\1"\2"', block)
        str(quoted, "utf-8")  # Arrow's JSON reader lets invalid UTF-8 through
        table = pajson.read_json(pa.BufferReader(quoted), pajson.ReadOptions(block_size=len(quoted) + 1), parse)
        for name in nested:
            inside = pc.struct_field(table["properties"], name)
            table = table.set_column(table.schema.get_field_index(name), name, pc.coalesce(table[name], inside))
        yield from table.select(columns).to_batches()


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for batch in pq.ParquetFile(path).iter_batches(batch_size=BATCH_ROWS, columns=columns):
        batch.validate(full=True)  # Arrow's Parquet reader lets invalid UTF-8 through
        yield batch


def _blocks(path: Path) -> Iterator[bytes]:
    """The file in blocks of whole, non-blank lines of about `BLOCK_BYTES`."""
    with _open(path) as stream:
        rest = b""
        while block := stream.read(BLOCK_BYTES):
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if whole.strip():
                yield whole + newline
        if rest.strip():
            yield rest


def _header(path: Path) -> tuple[list[str], str]:
    """(column names, delimiter) of a CSV file: of comma, tab and semicolon the one that its first line has most of."""
    with _open(path) as stream:
        line = stream.read(BLOCK_BYTES).partition(b"\n")[0].decode("utf-8-sig").strip("\r")
    if not line:
        raise ShopstreamError(f"{path} is empty; its first line should name the columns")
    delimiter = max(",\t;", key=line.count)
    return next(csv.reader(io.StringIO(line), delimiter=delimiter)), delimiter


def _open(path: Path) -> pa.NativeFile:
    return pa.input_stream(path, compression="gzip" if path.suffix.lower() == ".gz" else None)


def file_kind(path: Path) -> str:
    """The kind of a file by its name: csv, json or parquet; ShopstreamError for another."""
    kinds = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
    name = path.name.lower()
    found = "parquet" if name.endswith(".parquet") else kinds.get(Path(name.removesuffix(".gz")).suffix)
    if found is None:
        raise ShopstreamError(f"{path}: unknown kind of file; use .csv, .tsv, .txt, .jsonl (each also .gz) or .parquet")
    return found


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever a reader says of a damaged or missing file, in one line that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise ShopstreamError(f"{path}: no such file") from error
    except (OSError, pa.ArrowException, UnicodeDecodeError, RecursionError, msgspec.MsgspecError, csv.Error) as error:
        raise ShopstreamError(f"{path} cannot be read: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """The first line of an error's message, or its type."""
    return next(iter(str(error).splitlines()), type(error).__name__)
