"""Opens what a user names: a file, plain or compressed, a zip archive, or a folder of part files."""

import codecs
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, cast

import msgspec
import pyarrow as pa

from udfs.core.errors import ShopstreamError

KINDS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".tab": "csv",
    ".dat": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
KINDS |= {".json": "json", ".jsonl": "json", ".ndjson": "json"}

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Stream(Protocol):
    """Bytes that are read one after the other."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, and none at the end."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


@dataclass(frozen=True)
class Part:
    """One file to read. label: for messages; stem: begins the ids of its events; file: None inside an archive."""

    label: str
    stem: str
    kind: str  #: csv, json or parquet
    file: Path | None
    open_raw: Callable[[], Stream]

    @contextmanager
    def opened(self, encoding: str | None = None) -> Iterator[Stream]:
        """Give the content, decompressed, of a text file as UTF-8 without a byte order mark."""
        stream = self.open_raw()
        try:
            yield stream if self.kind == "parquet" else _Utf8(stream, encoding)
        finally:
            stream.close()


class _Utf8:
    """A text file's bytes as UTF-8. UTF-16 is known by its byte order mark, any other encoding has to be named."""

    def __init__(self, stream: Stream, encoding: str | None) -> None:
        self._stream = stream
        self._first = stream.read(4)
        bom, found = next((pair for pair in _BOMS if self._first.startswith(pair[0])), (b"", "utf-8"))
        encoding = codecs.lookup(encoding or found).name
        self._decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)()
        if encoding == "utf-8":
            self._first = self._first[len(bom) :]

    def read(self, size: int, /) -> bytes:
        while True:
            block, self._first = self._first + self._stream.read(size), b""
            if self._decoder is None:
                return block
            text = self._decoder.decode(block, final=not block)
            if text or not block:
                return text.encode()

    def close(self) -> None:
        self._stream.close()


def parts_of(path: Path) -> list[Part]:
    """Return the files to read, in the order of their names; ShopstreamError for one of an unknown kind, or none."""
    with reading(path):
        if path.is_dir():
            inside = [file for file in sorted(path.rglob("*")) if file.is_file() and _is_part(file.relative_to(path))]
            parts = [_of_file(file, str(file.relative_to(path)), file) for file in inside if file.stat().st_size]
            if not parts:
                raise ShopstreamError(f"{path} is a folder without files to read: .csv, .jsonl or .parquet")
        elif path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = sorted(each.filename for each in archive.infolist() if not each.is_dir() and each.file_size)
            parts = [_of_member(path, name) for name in names if _is_part(PurePosixPath(name))]
            if not parts:
                raise ShopstreamError(f"{path} is an archive without files to read: .csv or .jsonl")
        else:
            return [_of_file(path, path.name, path)]
    if len({part.kind for part in parts}) > 1:
        raise ShopstreamError(f"{path} has files of several kinds; read one kind at a time")
    return parts


def _is_part(name: Path | PurePosixPath) -> bool:
    """Return whether a file of a folder holds data: Spark, Hive and macOS leave others next to them."""
    return not any(part.startswith((".", "_")) for part in name.parts) and name.suffix != ".crc"


def _of_file(label: Path, name: str, file: Path) -> Part:
    def open_raw() -> Stream:
        return cast(Stream, pa.input_stream(file, compression=COMPRESSIONS.get(file.suffix.lower())))

    return Part(str(label), _stem(name), _kind(str(label), name, open_raw), file, open_raw)


def _of_member(path: Path, name: str) -> Part:
    def open_raw() -> Stream:
        return cast(Stream, zipfile.ZipFile(path).open(name))

    label = f"{path}/{name}"
    kind = _kind(label, name, open_raw)
    if kind == "parquet" or Path(name).suffix.lower() in COMPRESSIONS:
        raise ShopstreamError(f"{label}: Parquet and compressed files are not read inside an archive; unpack it first")
    return Part(label, _stem(name), kind, None, open_raw)


def _stem(name: str) -> str:
    folder, _, last = name.rpartition("/")
    return (f"{folder}/" if folder else "") + last.split(".")[0]


def _kind(label: str, name: str, open_raw: Callable[[], Stream]) -> str:
    """Return a file's kind by its name, or without a suffix by how it begins."""
    plain = Path(name.lower())
    plain = plain.with_suffix("") if plain.suffix in COMPRESSIONS else plain
    if plain.suffix in KINDS:
        return KINDS[plain.suffix]
    if plain.suffix == "":
        stream = open_raw()
        try:
            start = stream.read(64).lstrip(codecs.BOM_UTF8 + b" \r\n\t")
        finally:
            stream.close()
        return "parquet" if start.startswith(b"PAR1") else "json" if start.startswith((b"{", b"[")) else "csv"
    hint = "; save it as CSV" if plain.suffix in (".xlsx", ".xls", ".ods") else ""
    raise ShopstreamError(
        f"{label}: unknown kind of file; use .csv, .tsv, .txt, .dat, .jsonl (each also .gz, .zst, .bz2 or in a .zip), "
        f".parquet or a folder of them{hint}"
    )


#: What readers raise for a damaged file. zipfile raises RuntimeError for an encrypted member, and its subclass
#: NotImplementedError for an unknown compression; RecursionError, for JSON that is nested too deep, is one as well.
_UNREADABLE = (
    OSError,
    EOFError,
    pa.ArrowException,
    UnicodeError,
    msgspec.MsgspecError,
    zipfile.BadZipFile,
    RuntimeError,
)


@contextmanager
def reading(label: Path | str) -> Iterator[None]:
    """Turn any error of a reader into one line that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise ShopstreamError(f"{label}: no such file") from error
    except _UNREADABLE as error:
        raise ShopstreamError(f"{label} cannot be read: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type."""
    return next(iter(str(error).splitlines()), type(error).__name__)
