"""`python -m bench input`: rows per second and peak memory of our file reader, of pandas and of DuckDB.

All read the same simulated events from the same file, in batches, into the columns of the contract: ids and queries as
texts, times as epoch ms, prices as doubles, quantities as whole numbers. Each runs in a process of its own, and the
fastest of its runs counts. What they read must agree. Ours also splits the file into rows so that a row that is none
costs itself, tells the units of times, and checks the contract.
"""

import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from bench.output import figure, print_json, progress_console, require_known, table_console
from udfs.core.errors import ShopstreamError

ROWS = 1_000_000
RUNS = 3
#: Kinds of files: how times are written, and the share of searches whose query is quoted.
FILES = {"epoch ms": ("ms", 0.3), "ISO times": ("iso", 0.3), "quoted fields": ("ms", 1.0)}
BATCH = 65_536

START_MS = 1_767_225_600_000
HEADER = "event_id,event_type,user_id,event_time,item_id,query,price,quantity"


def write_events(file: Path, rows: int, times: str, quoted: float) -> None:
    """Write simulated events as CSV. times: ms or iso; quoted: the share of queries in quotes."""
    chance = random.Random(7)  # noqa: S311 - simulated
    with file.open("w") as out:
        out.write(HEADER + "\n")
        for row in range(rows):
            kind = chance.choice(("view", "click", "search", "add_to_cart", "purchase"))
            ms = START_MS + row * 137
            when = ms if times == "ms" else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms // 1000))
            query = ""
            if kind == "search":
                query = '"blue mug, 2 pieces"' if chance.random() < quoted else "blue mug"
            item = "" if kind == "search" else f"i{chance.randrange(5000)}"
            price, pieces = (
                ("", "") if kind != "purchase" else (chance.randrange(1, 9999) / 100, chance.randrange(1, 5))
            )
            out.write(f"e{row},{kind},u{chance.randrange(20_000)},{when},{item},{query},{price},{pieces}\n")


def read_ours(file: Path) -> Iterator[pa.RecordBatch]:
    """Read as `replay` does."""
    from udfs.events.files import read_events
    from udfs.events.rejected import Rejected

    return read_events(file, rejected=Rejected())


def read_pandas(file: Path) -> Iterator[pa.RecordBatch]:
    """Read with pandas' C parser, chunk by chunk."""
    import pandas as pd

    texts = dict.fromkeys(("event_id", "event_type", "user_id", "item_id", "query", "event_time"), "string[pyarrow]")
    for chunk in pd.read_csv(file, chunksize=BATCH, dtype=texts | {"price": "float64", "quantity": "Int64"}):
        numbers = pd.to_numeric(chunk["event_time"], errors="coerce")
        if numbers.isna().any():
            times = pd.to_datetime(chunk["event_time"], utc=True, format="ISO8601")
            numbers = times.astype("int64") // 1_000_000
        chunk["event_time"] = numbers.astype("int64")
        yield pa.RecordBatch.from_pandas(chunk, preserve_index=False)


def read_duckdb(file: Path) -> Iterator[pa.RecordBatch]:
    """Read with DuckDB's CSV reader, as Arrow batches."""
    import duckdb

    columns = ", ".join(
        f"'{name}': '{kind}'"
        for name, kind in zip(HEADER.split(","), ["VARCHAR"] * 3 + ["VARCHAR"] * 3 + ["DOUBLE", "BIGINT"], strict=True)
    )
    when = "coalesce(TRY_CAST(event_time AS BIGINT), epoch_ms(TRY_CAST(event_time AS TIMESTAMPTZ)))"
    query = f"SELECT * REPLACE ({when} AS event_time) FROM read_csv(?, header = true, columns = {{{columns}}})"  # noqa: S608
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")  # it would be in the output
    yield from connection.sql(query, params=[str(file)]).to_arrow_reader(BATCH)


READERS: dict[str, Callable[[Path], Iterator[pa.RecordBatch]]] = {
    "shopstream": read_ours,
    "pandas": read_pandas,
    "duckdb": read_duckdb,
}


def measure(name: str, file: Path) -> dict[str, Any]:
    """Read a file RUNS times with one reader, in this process: the best time, the peak memory, and what was read."""
    best, rows, checksum = float("inf"), 0, 0
    for _ in range(RUNS):
        rows = checksum = 0
        started = time.perf_counter()
        for batch in READERS[name](file):
            rows += batch.num_rows
            checksum += pc.sum(batch.column(batch.schema.names.index("event_time"))).as_py()
        best = min(best, time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": best, "rows": rows, "checksum": checksum, "peak_bytes": peak}


def run(rows: int, only: tuple[str, ...], as_json: bool) -> None:
    """Measure every reader on every kind of file, and print a table or a JSON list."""
    require_known(only, tuple(READERS), "readers")
    console, results = progress_console(), []
    with TemporaryDirectory() as folder:
        for kind, (times, quoted) in FILES.items():
            file = Path(folder) / "events.csv"
            console.print(f"{kind}: {rows:,} rows")
            write_events(file, rows, times, quoted)
            found = {name: _measured(name, file) for name in only or READERS}
            if len({(each["rows"], each["checksum"]) for each in found.values()}) != 1:
                raise ShopstreamError(f"{kind}: the readers do not agree: {found}")
            results += [
                {"file": kind, "reader": name, "rows_per_second": each["rows"] / each["seconds"]}
                | {"peak_mb": each["peak_bytes"] / 1e6, "file_mb": file.stat().st_size / 1e6}
                for name, each in found.items()
            ]
    if as_json:
        print_json(results)
        return
    table = Table("file", "reader", title=f"Reading {rows:,} events from CSV")
    for heading in ("rows/s", "peak MB", "file MB"):
        table.add_column(heading, justify="right")
    for each in results:
        figures = (figure(each["rows_per_second"]), figure(each["peak_mb"]), figure(each["file_mb"]))
        table.add_row(each["file"], each["reader"], *figures)
    table_console().print(table)


def _measured(name: str, file: Path) -> dict[str, Any]:
    """Measure in a process of its own, so that the peak memory is the reader's."""
    code = "import json, pathlib, sys, bench.input; _, name, file = sys.argv; "
    code += "print(json.dumps(bench.input.measure(name, pathlib.Path(file))))"
    # Linux counts the most memory that the process before had as a child's: a shell stands between.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", code, name, str(file)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise ShopstreamError(f"{name} failed: {ran.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found
