"""Files into columns: click events and catalogues from CSV, TSV, JSON lines and Parquet, in batches of bounded size."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from udfs.errors import ShopstreamError
from udfs.events import PROPERTIES

BATCH_ROWS = 65_536
BLOCK_BYTES = 4 << 20

_TEXT = pa.string()
EVENTS = pa.schema(
    [
        ("event_id", _TEXT),
        ("event_type", _TEXT),
        ("user_id", _TEXT),
        ("event_time", pa.int64()),  # epoch ms
        ("item_id", _TEXT),
        ("query", _TEXT),
        ("price", pa.float64()),
        ("quantity", pa.int64()),
        ("rating", pa.float64()),
        ("dwell_ms", pa.int64()),
        ("session_id", _TEXT),
        *((name, _TEXT) for name in PROPERTIES),  # in JSON lines in an object `properties`
    ]
)
CATALOG = pa.schema(
    [(name, _TEXT) for name in ("item_id", "title", "description", "category", "brand")]
    + [("price", pa.float64()), ("in_stock", pa.bool_()), ("locale", _TEXT)]
)


class Preset(NamedTuple):
    """How a known public file maps to events: {contract field: column}; event_id gets the line's number added."""

    mapping: Mapping[str, str]
    event_type: str


PRESETS: Mapping[str, Preset] = {
    "online_retail": Preset(
        {
            "event_id": "InvoiceNo",
            "session_id": "InvoiceNo",
            "user_id": "CustomerID",
            "item_id": "StockCode",
            "event_time": "InvoiceDate",
            "price": "UnitPrice",
            "quantity": "Quantity",
        },
        "purchase",
    ),
    "yoochoose": Preset(
        {
            "event_id": "SessionId",
            "session_id": "SessionId",
            "user_id": "SessionId",
            "item_id": "ItemId",
            "event_time": "Time",
        },
        "click",
    ),
}


_RETAIL_ITEMS = {"item_id": "StockCode", "title": "Description", "price": "UnitPrice"}
_RETAIL_CLEAN = ("InvoiceNo", "Quantity", "CustomerID")


def parse_mapping(pairs: Iterable[str]) -> dict[str, str]:
    """{contract field: column} from the FIELD=COLUMN pairs of a command's --map; ShopstreamError names a bad one."""
    mapping = {}
    for pair in pairs:
        field, _, column = pair.partition("=")
        if not field or not column:
            raise ShopstreamError(
                f"--map FIELD=COLUMN was given {pair!r}, which is no field=column pair as user_id=CustomerID is"
            )
        mapping[field] = column
    return mapping


def read_events(
    path: Path | str, *, mapping: Mapping[str, str] | None = None, preset: str = "auto"
) -> Iterator[pa.RecordBatch]:
    """Click events of a file as batches of at most `BATCH_ROWS` rows of the schema `EVENTS`, in the file's order.

    `mapping` is {contract field: column in the file}; fields it leaves out are looked for under their own names.
    `preset` is `events` (contract names), `online_retail` (clean purchase lines only), `yoochoose` (clicks) or `auto`,
    which goes by the file's columns. event_time is integer epoch ms or RFC 3339 with a zone; in a column that `mapping`
    names, times without a zone are UTC. A file without event ids gets `<file stem>-<line>`, a preset's
    `<invoice or session>-<line>`, where line 1 is the header or, in JSON lines and Parquet, the first record.

    Raises ShopstreamError: at once for a file that cannot be opened, a wrong mapping or a required column that is not
    there; while iterating for values that do not fit and for damaged files.
    """
    path, mapping = Path(path), mapping or {}
    names = column_names(path)
    preset = _recognise(path, names, mapping, preset)
    known = PRESETS.get(preset)
    required = ["event_type", "user_id", "event_time", "item_id"] if known is None else []
    columns = _columns_of(path, names, EVENTS, known.mapping if known else mapping, required)
    return _event_batches(path, columns, preset, naive_is_utc=known is not None or "event_time" in mapping)


def read_catalog(
    path: Path | str, *, mapping: Mapping[str, str] | None = None, preset: str = "auto"
) -> tuple[pa.Table, int]:
    """The items of a file, schema `CATALOG`, one row per item_id, and the number of rows dropped for want of a title.

    `mapping` and `preset` as in `read_events`. The last record of an item_id wins; items stand in the order in which
    they first appear; in_stock is true unless said otherwise. `online_retail` makes one item per StockCode of the
    clean lines: its most frequent Description (ties: the first seen) and its median UnitPrice.

    Raises ShopstreamError for what cannot be read, does not fit, or has no titles at all (`yoochoose`).
    """
    path, mapping = Path(path), mapping or {}
    names = column_names(path)
    preset = _recognise(path, names, mapping, preset)
    if preset == "yoochoose":
        raise ShopstreamError(f"{path}: a yoochoose file has ids only; a catalogue needs a column with titles")
    retail = preset == "online_retail"
    columns = _RETAIL_ITEMS if retail else _columns_of(path, names, CATALOG, mapping, ["item_id", "title"])
    needed = dict.fromkeys([*columns.values(), *(_RETAIL_CLEAN if retail else ())])
    parts = []
    for first, raw in _raw_batches(path, list(needed)):
        kept = raw.filter(_clean_retail(path, raw, first)) if retail else raw
        parts.append(pa.record_batch([_cast(path, kept, columns, field, first) for field in CATALOG], schema=CATALOG))
    table = pa.Table.from_batches(parts, CATALOG)
    if retail:
        return _retail_items(table), 0
    titled = table.filter(pc.greater(pc.utf8_length(pc.fill_null(pc.utf8_trim_whitespace(table["title"]), "")), 0))
    _refuse_nulls(path, titled, ["item_id"], columns, 0)
    in_stock = pc.fill_null(titled["in_stock"], True)
    titled = titled.set_column(CATALOG.get_field_index("in_stock"), "in_stock", in_stock)
    codes = titled["item_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    last = np.zeros(codes.max(initial=-1) + 1, np.int64)
    np.maximum.at(last, codes, np.arange(len(codes)))
    return titled.take(last), table.num_rows - titled.num_rows


def column_names(path: Path) -> list[str]:
    """The columns of a file: its header, its Parquet schema, or the keys in the first `BLOCK_BYTES` of its JSON lines.

    Raises ShopstreamError for a file that is not there, cannot be read, is empty or is of an unknown kind.
    """
    kind = _kind(path)
    with _reading(path):
        if kind == "parquet":
            return list(pq.ParquetFile(path).schema_arrow.names)
        if kind == "csv":
            return _header(path)[0]
        rows = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode_lines(next(_blocks(path), b""))
        if not rows:
            raise ShopstreamError(f"{path} is empty; it should hold JSON objects, one a line")
        return list(dict.fromkeys(name for row in rows for name in row))  # rows of the first block only


def _event_batches(
    path: Path, columns: Mapping[str, str], preset: str, *, naive_is_utc: bool
) -> Iterator[pa.RecordBatch]:
    known = PRESETS.get(preset)
    needed = list(dict.fromkeys(columns.values()))
    header_lines = int(_kind(path) == "csv")
    for first, raw in _raw_batches(path, needed):
        lines = pa.array(np.arange(first, first + raw.num_rows) + 1 + header_lines).cast(_TEXT)
        if preset == "online_retail":
            clean = _clean_retail(path, raw, first)
            raw, lines = raw.filter(clean), lines.filter(clean)
        if preset == "yoochoose":
            raw = _with_column(raw, "Time", _milliseconds(path, raw, first))
        arrays = {f.name: _cast(path, raw, columns, f, first, naive_is_utc=naive_is_utc) for f in EVENTS}
        if known is not None:
            arrays["event_type"] = pa.repeat(known.event_type, raw.num_rows)
            arrays["event_id"] = pc.binary_join_element_wise(arrays["event_id"], lines, "-")
        elif "event_id" not in columns:
            arrays["event_id"] = pc.binary_join_element_wise(path.name.split(".")[0], lines, "-")
        batch = pa.record_batch(list(arrays.values()), schema=EVENTS)
        _refuse_nulls(path, batch, ["event_id", "event_type", "user_id", "event_time"], columns, first)
        if batch.num_rows:
            yield batch


def _retail_items(lines: pa.Table) -> pa.Table:
    """One row per item_id in the order first seen: its most frequent title (ties: the first seen), its median price."""
    seen = lines.select(["item_id", "title", "price"]).to_pandas()
    seen["title"] = seen["title"].str.strip()
    counts = seen.groupby(["item_id", "title"], sort=False).size().sort_values(ascending=False, kind="stable")
    titles = counts.reset_index().drop_duplicates("item_id").set_index("item_id")["title"]
    items = seen.groupby("item_id", sort=False)["price"].median().to_frame().join(titles).reset_index()
    items = items.assign(in_stock=True).reindex(columns=CATALOG.names)
    return pa.Table.from_pandas(items, CATALOG, preserve_index=False)


def _clean_retail(path: Path, raw: pa.RecordBatch, first: int) -> pa.Array:
    """Which lines are purchases by a known customer: no cancellation (InvoiceNo C…), a quantity above nought."""
    quantity = _cast(path, raw, {"quantity": "Quantity"}, EVENTS.field("quantity"), first)
    cancelled = pc.starts_with(raw["InvoiceNo"].cast(_TEXT), "C")
    clean = pc.and_(pc.and_not(pc.greater(quantity, 0), cancelled), pc.is_valid(raw["CustomerID"]))
    return pc.fill_null(clean, False)


def _milliseconds(path: Path, raw: pa.RecordBatch, first: int) -> pa.Array:
    seconds = _cast(path, raw, {"price": "Time"}, EVENTS.field("price"), first)
    return pc.round(pc.multiply(seconds, 1000.0)).cast(pa.int64())


def _with_column(batch: pa.RecordBatch, name: str, array: pa.Array) -> pa.RecordBatch:
    names = batch.schema.names
    return pa.record_batch([array if n == name else batch[n] for n in names], names)


# --- values -----------------------------------------------------------------------------------------------------------


_TIME = "epoch ms or RFC 3339; times without a zone are taken as UTC under --map event_time=COLUMN"


def _cast(
    path: Path,
    raw: pa.RecordBatch,
    columns: Mapping[str, str],
    field: pa.Field,
    first: int,
    *,
    naive_is_utc: bool = False,
) -> pa.Array:
    """The column for a contract field, in the field's type; all null where the file has no such column."""
    if field.name not in columns:
        return pa.nulls(raw.num_rows, field.type)
    array = raw[columns[field.name]]
    try:
        if field.name == "event_time":
            return _epoch_ms(array, naive_is_utc)
        if field.name == "user_id":  # 17850.0 is how many tools write an integer id with gaps
            return pc.replace_substring_regex(array.cast(_TEXT), r"^(\d+)\.0+$", r"\1")
        if field.type == pa.int64():
            return array.cast(pa.float64()).cast(pa.int64())  # "6.0" is how many tools write an integer with gaps
        return array.cast(field.type)
    except pa.ArrowException as error:
        where = f"{path}: column '{columns[field.name]}' in rows {first + 1} to {first + raw.num_rows}"
        want = _TIME if field.name == "event_time" else field.type
        raise ShopstreamError(f"{where} should be {field.name} ({want}): {_one_line(error)}") from error


def _epoch_ms(array: pa.Array, naive_is_utc: bool) -> pa.Array:
    """Epoch ms, int64, from integers, timestamps, and strings of either; nulls stay."""
    if pa.types.is_timestamp(array.type):
        if array.type.tz is None and not naive_is_utc:
            raise pa.ArrowInvalid("timestamps have no zone")
        return array.cast(pa.timestamp("ms", array.type.tz), safe=False).cast(pa.int64())
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        return array.cast(pa.int64())
    array = array.cast(_TEXT)
    number = pc.match_substring_regex(array, r"^-?\d+(\.0*)?$")
    # Not if_else: with a null scalar it misreads string arrays that are slices (Arrow 16).
    null = pa.scalar(None, _TEXT)
    numbers = pc.replace_with_mask(array, pc.invert(number), null).cast(pa.float64()).cast(pa.int64())
    times = pc.utf8_upper(pc.replace_with_mask(array, number, null))
    zoned = pc.match_substring_regex(times, r"(Z|[+-]\d\d:?\d\d)$")
    if naive_is_utc:
        times = pc.binary_join_element_wise(times, pc.if_else(zoned, "", "Z"), "")
    times = times.cast(pa.timestamp("ns", "UTC")).cast(pa.timestamp("ms", "UTC"), safe=False)
    return pc.coalesce(numbers, times.cast(pa.int64()))


def _refuse_nulls(
    path: Path, batch: pa.RecordBatch | pa.Table, fields: Sequence[str], columns: Mapping[str, str], first: int
) -> None:
    for field in fields:
        if missing := batch[field].null_count:
            rows = f"{missing} of rows {first + 1} to {first + batch.num_rows}"
            raise ShopstreamError(f"{path}: {rows} have no '{columns.get(field, field)}'; {field} is required")


# --- columns ----------------------------------------------------------------------------------------------------------


def _recognise(path: Path, names: Sequence[str], mapping: Mapping[str, str], preset: str) -> str:
    if preset not in ("auto", "events", *PRESETS):
        raise ShopstreamError(f"preset '{preset}' is unknown; choose auto, events, {' or '.join(PRESETS)}")
    if preset in PRESETS and mapping:
        raise ShopstreamError(f"preset '{preset}' brings its own mapping; use --map without it, or the preset alone")
    fits = [name for name, known in PRESETS.items() if set(known.mapping.values()) <= set(names)]
    if preset in PRESETS and preset not in fits:
        columns = ", ".join(dict.fromkeys(PRESETS[preset].mapping.values()))
        raise ShopstreamError(f"{path} is no {preset} file: it has {', '.join(names)}; the preset needs {columns}")
    if preset != "auto":
        return preset
    return fits[0] if fits and not mapping else "events"


def _columns_of(
    path: Path, names: Sequence[str], schema: pa.Schema, mapping: Mapping[str, str], required: Sequence[str]
) -> dict[str, str]:
    """{contract field: column} for the fields that the file may have; JSON lines may bring a field at any line."""
    found = f"the file has {', '.join(names)}"
    for field, column in mapping.items():
        if field not in schema.names:
            raise ShopstreamError(f"--map {field}={column}: no field '{field}'; choose from {', '.join(schema.names)}")
        if column not in names:
            raise ShopstreamError(f"{path}: --map {field}={column}: no column '{column}'; {found}")
    for field in required:
        if mapping.get(field, field) not in names:
            raise ShopstreamError(f"{path}: no column '{field}'; {found}; name the right one with --map {field}=COLUMN")
    anywhere = _kind(path) == "json" and schema.names
    present = {field: field for field in anywhere or names if field in schema.names and field not in mapping}
    if "event_id" in present and "event_id" not in names:
        del present["event_id"]
    return {**present, **mapping}


# --- files ------------------------------------------------------------------------------------------------------------


def _raw_batches(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(index of the first row, batch of the columns): strings from text files, their own types from Parquet."""
    read = {"csv": _csv, "json": _json, "parquet": _parquet}[_kind(path)]
    first = 0
    with _reading(path):
        for batch in read(path, columns):
            for start in range(0, batch.num_rows, BATCH_ROWS):
                yield first + start, batch.slice(start, BATCH_ROWS)
            first += batch.num_rows


def _csv(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    names, delimiter = _header(path)
    text = pacsv.ConvertOptions(
        column_types=dict.fromkeys(names, _TEXT), include_columns=columns, null_values=[""], strings_can_be_null=True
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
    schema = pa.schema([(name, _TEXT) for name in columns])
    if nested:
        schema = schema.append(pa.field("properties", pa.struct([(name, _TEXT) for name in nested])))
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
    yield from pq.ParquetFile(path).iter_batches(batch_size=BATCH_ROWS, columns=columns)


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


def _kind(path: Path) -> str:
    kinds = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
    name = path.name.lower()
    kind = "parquet" if name.endswith(".parquet") else kinds.get(Path(name.removesuffix(".gz")).suffix)
    if kind is None:
        raise ShopstreamError(f"{path}: unknown kind of file; use .csv, .tsv, .txt, .jsonl (each also .gz) or .parquet")
    return kind


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever a reader says of a damaged or missing file, in one line that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise ShopstreamError(f"{path}: no such file") from error
    except (OSError, pa.ArrowException, UnicodeDecodeError, RecursionError, msgspec.MsgspecError, csv.Error) as error:
        raise ShopstreamError(f"{path} cannot be read: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
