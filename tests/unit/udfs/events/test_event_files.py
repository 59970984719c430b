"""Files into columns: kinds of file, mappings, presets, and what is said of files that do not fit."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support import data_file

from udfs.catalog.files import CATALOG, read_catalog
from udfs.core.errors import ShopstreamError
from udfs.events.columns import EVENTS
from udfs.events.files import read_events
from udfs.events.formats import BATCH_ROWS

HEADER = "event_id,event_type,user_id,event_time,item_id,query,price,quantity"
ROWS = [
    'e1,view,u1,1767225600000,NA,,2.50,\ne2,search,u1,2026-01-01T01:00:00.5+01:00,,"mug, blue",,',
    "e3,purchase,007,2026-01-01T00:00:01Z,i2,,3,2.0",
]
READ = [
    {
        "event_id": "e1",
        "event_type": "view",
        "user_id": "u1",
        "event_time": 1767225600000,
        "item_id": "NA",
        "price": 2.5,
    },
    {"event_id": "e2", "event_type": "search", "user_id": "u1", "event_time": 1767225600500, "query": "mug, blue"},
    {"event_id": "e3", "event_type": "purchase", "user_id": "007", "event_time": 1767225601000, "item_id": "i2"}
    | {"price": 3.0, "quantity": 2},
]


def write(path: Path, text: str | bytes) -> Path:
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def events(path: Path, **how: object) -> list[dict[str, object]]:
    table = pa.Table.from_batches(read_events(path, **how), EVENTS)
    return [{k: v for k, v in row.items() if v is not None} for row in table.to_pylist()]


def complaint(path: Path, **how: object) -> str:
    with pytest.raises(ShopstreamError) as caught:
        events(path, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_properties_are_read_from_any_file(tmp_path: Path) -> None:
    row = {"event_id": "a", "event_type": "view", "user_id": "u", "event_time": 1, "item_id": "i"}
    said = {"device": "phone", "returning": "true", "locale": "de-DE"}
    lines = [row | {"properties": said | {"other": "x"}}, row | {"event_id": "b"}, row | {"properties": None}]
    read = events(write(tmp_path / "e.jsonl", "\n".join(map(json.dumps, lines))))
    assert read == [row | said, row | {"event_id": "b"}, row]
    path = tmp_path / "e.csv"
    write(
        path, "event_id,event_type,user_id,event_time,item_id,locale,device,returning\na,view,u,1,i,de-DE,phone,true\n"
    )
    assert events(path) == [row | said]


@pytest.mark.parametrize(
    "name", ["e.csv", "e.csv.gz", "e.txt", "e.tsv.gz", "e.jsonl", "e.ndjson.gz", "e.json", "e.parquet"]
)
def test_file_kinds_give_equal_events(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if ".t" in name:
        write(path, "\n".join([HEADER, *ROWS]).replace(",", "\t").replace('"mug\t blue"', '"mug, blue"'))
    elif name == "e.parquet":
        pq.write_table(pa.Table.from_pylist(READ, EVENTS), path)
    elif "csv" in name:
        write(path, "\n".join([HEADER, *ROWS]))
    else:
        write(path, "\n".join(json.dumps(row | {"properties": {"price": "x"}}) for row in READ))
    assert events(path) == READ


def test_json_lines_may_mix_types(tmp_path: Path) -> None:
    lines = [
        '{"event_id":"a","event_type":"view","user_id":1,"event_time":"2026-01-01T00:00:00Z","item_id":7}',
        '{"event_id":"b","event_type":"view","user_id":"1","event_time": 1767225600000,"item_id":"\\"price\\": 5,"}',
        "",
        '{"event_id":"c","event_type":"rate","user_id":"1","event_time":1767225600000,"item_id":"x","rating":4.5}',
    ]
    read = events(write(tmp_path / "e.jsonl", "\n".join(lines)))
    assert [row["event_time"] for row in read] == [1767225600000] * 3
    assert [row["item_id"] for row in read] == ["7", '"price": 5,', "x"]
    assert read[2]["rating"] == 4.5


def test_batches_are_bounded_and_ordered(tmp_path: Path) -> None:
    n, start = 200_000, 1767225600000
    times = np.arange(start, start + n).astype("M8[ms]").astype(str)  # every third a number, a naive and a zoned time
    lines = [f"view,u{i % 9},{(start + i, t, t + 'Z')[i % 3]},i{i % 5}\n" for i, t in enumerate(times)]
    path = write(tmp_path / "e.csv", "event_type,user_id,event_time,item_id\n" + "".join(lines))
    batches = list(read_events(path, mapping={"event_time": "event_time"}))
    assert max(batch.num_rows for batch in batches) == BATCH_ROWS
    assert np.concatenate([batch["event_time"] for batch in batches]).tolist() == list(range(start, start + n))
    assert [i for batch in batches for i in batch["event_id"].to_pylist()] == [f"e-{i + 2}" for i in range(n)]
    assert [u for batch in batches for u in batch["user_id"].to_pylist()] == [f"u{i % 9}" for i in range(n)]


def test_mapping_names_columns_and_times(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.csv", "who;what;when;thing\n5.0;view;2026-01-01 00:00:01;i1\n6;click;2026-01-01T00:00:02Z;i2\n"
    )
    mapping = {"user_id": "who", "event_type": "what", "event_time": "when", "item_id": "thing"}
    read = events(path, mapping=mapping)
    assert [(r["event_id"], r["user_id"], r["event_time"]) for r in read] == [
        ("log-2", "5", 1767225601000),
        ("log-3", "6", 1767225602000),
    ]


def test_quoted_fields_may_span_blocks(tmp_path: Path) -> None:
    n, text = 50_000, "many\nlines, " * 10  # 6 MB, so a block's end falls on a line end inside quotes
    rows = "".join(f'e{i},search,u,{i},,"{text}",,\n' for i in range(n))
    read = pa.Table.from_batches(read_events(write(tmp_path / "e.csv", f"{HEADER}\n{rows}")))
    assert read["query"].unique().to_pylist() == [text]
    assert read["event_time"].to_pylist() == list(range(n))


def test_parquet_values_are_cast(tmp_path: Path) -> None:
    table = pa.table(
        {
            "event_id": pa.array(["a"], pa.large_string()),
            "event_type": pa.array(["view"]).dictionary_encode(),
            "user_id": [17850.0],
            "event_time": pa.array([1767225600000123], pa.timestamp("us", "UTC")),
            "item_id": [9007199254740993],
        }
    )
    pq.write_table(table, tmp_path / "e.parquet")
    assert events(tmp_path / "e.parquet") == [
        {"event_id": "a", "event_type": "view", "user_id": "17850", "event_time": 1767225600000}
        | {"item_id": "9007199254740993"}
    ]


def test_missing_column_names_the_cure(tmp_path: Path) -> None:
    said = complaint(write(tmp_path / "e.csv", "who,event_type,event_time,item_id\n"))
    assert "'user_id'" in said
    assert "who, event_type, event_time, item_id" in said
    assert "--map user_id=COLUMN" in said


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ({"mapping": {"user": "event_id"}}, "no field 'user'"),
        ({"mapping": {"user_id": "who"}}, "no column 'who'"),
        ({"preset": "netflix"}, "yoochoose or a .toml file"),
        ({"preset": "yoochoose"}, "needs SessionId, ItemId, Time"),
        ({"preset": "none.toml"}, "none.toml cannot be read"),
        ({"mapping": {"event_type:cart": "wish", "cart:x": "y"}}, "no field 'cart'"),
        ({"options": {"dates": "middle"}}, "day-first or month-first"),
        ({"options": {"zone": "Mars/Base"}}, "'Mars/Base' is no time zone"),
    ],
)
def test_wrong_mapping_or_preset_is_refused(tmp_path: Path, how: dict[str, object], named: str) -> None:
    assert named in complaint(write(tmp_path / "e.csv", "\n".join([HEADER, *ROWS])), **how)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("e1,view,u1,yesterday,i1,,,", "'event_time'"),
        ("e1,view,u1,2026-01-01T00:00:00,i1,,,", "--map event_time=COLUMN"),
        ("e1,view,u1,1767225600000,i1,,cheap,", "'price'"),
        ("e1,view,u1,1767225600000,i1,,,2.5", "'quantity'"),
        ("e1,view,,1767225600000,i1,,,", "no 'user_id'"),
        ("e1,view,u1", "Expected 8 columns"),
    ],
)
def test_bad_values_name_file_and_column(tmp_path: Path, row: str, named: str) -> None:
    said = complaint(write(tmp_path / "e.csv", f"{HEADER}\n{row}\n"))
    assert "e.csv" in said
    assert named in said


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.csv", b""),
        ("empty.jsonl", b"\n"),
        ("other.xlsx", b"PK"),
        ("not.parquet", b"PAR0 and no more"),
        ("latin.csv", f"{HEADER}\ne1,view,u1,1767225600000,caf".encode() + b"\xe9,,,\n"),
        ("latin.jsonl", b'{"event_type":"view","user_id":"\xe9","event_time":1,"item_id":"i"}\n'),
        ("broken.jsonl", b'{"event_type":"view","user_id":"u","event_time":1,"item_id":"i"\n'),
        ("list.jsonl", b"[1, 2]\n"),
    ],
)
def test_damaged_file_is_one_line_error(tmp_path: Path, name: str, content: bytes) -> None:
    assert name in complaint(write(tmp_path / name, content))


def test_missing_or_truncated_file_is_named(tmp_path: Path) -> None:
    assert "none.csv: no such file" in complaint(tmp_path / "none.csv")
    assert "none.parquet: no such file" in complaint(tmp_path / "none.parquet")
    (tmp_path / "folder.csv").mkdir()
    assert "folder.csv" in complaint(tmp_path / "folder.csv")
    for name, text in {"cut.csv.gz": "\n".join([HEADER, *ROWS]), "cut.jsonl.gz": json.dumps(READ[0])}.items():
        whole = write(tmp_path / name, (text + "\n") * 1000).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) - 12])
        assert f"{name} cannot be read: Truncated" in complaint(tmp_path / name)


def test_catalog_keeps_last_record_per_item(tmp_path: Path) -> None:
    lines = ["item_id,title,price,in_stock", "a,Old mug,1,true", "b, ,2,", "c,Plate,3,0", "a,New mug,4,", "d,,5,"]
    table, dropped = read_catalog(write(tmp_path / "c.csv", "\n".join(lines)))
    assert table.schema == CATALOG
    assert dropped == 2
    assert table.select(["item_id", "title", "price", "in_stock"]).to_pylist() == [
        {"item_id": "a", "title": "New mug", "price": 4.0, "in_stock": True},
        {"item_id": "c", "title": "Plate", "price": 3.0, "in_stock": False},
    ]


def test_catalog_from_mapped_json_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.jsonl", '{"sku":1,"name":"Mug","in_stock":false}\n{"sku":2,"name":"Pot","category":"A > B"}\n'
    )
    table, dropped = read_catalog(path, mapping={"item_id": "sku", "title": "name"})
    assert dropped == 0
    assert table["item_id"].to_pylist() == ["1", "2"]
    assert table["in_stock"].to_pylist() == [False, True]
    assert table["category"].to_pylist() == [None, "A > B"]


def test_catalog_needs_titles(tmp_path: Path) -> None:
    with pytest.raises(ShopstreamError, match="--map title=COLUMN"):
        read_catalog(write(tmp_path / "c.csv", "item_id,name\na,Mug\n"))
    with pytest.raises(ShopstreamError, match="titles"):
        read_catalog(write(tmp_path / "y.txt", "SessionId\tItemId\tTime\n1\t2\t3.5\n"))


RETAIL = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
1,A,RED MUG ,2,2010-12-01 08:26:00,1.0,17850.0,Norway
1,A,MUG RED,1,2010-12-01 08:26:00,2.0,17850.0,Norway
C2,A,MUG RED,1,2010-12-01 08:27:00,9.0,17850.0,Norway
3,A,MUG RED,-1,2010-12-01 08:28:00,9.0,17850.0,Norway
3,B,POT,1,2010-12-01 08:28:00,5.0,,Norway
4,A,BLUE MUG,1,2010-12-01 08:29:00,6.0,2.0,Norway
5,A,MUG RED,1,2010-12-01 08:30:00,3.0,2.0,Norway
5,D,POT ,1,2010-12-01 08:30:00,3.0,2.0,Norway
5,D,PAN,1,2010-12-01 08:30:00,5.0,2.0,Norway
"""


def test_online_retail_gives_clean_purchases(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", RETAIL)
    read = events(path)
    assert [row["event_id"] for row in read] == ["1-2", "1-3", "4-7", "5-8", "5-9", "5-10"]
    assert read[2] == {"event_id": "4-7", "event_type": "purchase", "user_id": "2", "event_time": 1291192140000} | {
        "item_id": "A", "price": 6.0, "quantity": 1, "session_id": "4"
    }  # fmt: skip
    table, _ = read_catalog(path)
    assert [(r["item_id"], r["title"], r["price"], r["in_stock"]) for r in table.to_pylist()] == [
        ("A", "MUG RED", 2.5, True),  # the most frequent
        ("D", "POT", 4.0, True),  # as frequent as PAN, but first
    ]


def test_yoochoose_gives_clicks(tmp_path: Path) -> None:
    read = events(write(tmp_path / "y.txt", "SessionId\tItemId\tTime\n3\t214716935\t1396437466.94\n"))
    assert read == [
        {"event_id": "3-2", "event_type": "click", "user_id": "3", "event_time": 1396437466940}
        | {"item_id": "214716935", "session_id": "3"}
    ]


def test_online_retail_has_397924_clean_lines() -> None:
    path = data_file("online_retail", "online_retail.csv.gz")
    table = pa.Table.from_batches(read_events(path), EVENTS)
    assert table.num_rows == 397_924
    assert pc.count_distinct(table["event_id"]).as_py() == 397_924
    assert pc.count_distinct(table["session_id"]).as_py() == 18_536
    assert set(table["event_type"].unique().to_pylist()) == {"purchase"}
    assert pc.all(pc.match_substring_regex(table["user_id"], r"^\d+$")).as_py()
    items, _ = read_catalog(path)
    assert items.num_rows == pc.count_distinct(table["item_id"]).as_py()
    lantern = items.filter(pc.equal(items["item_id"], "71053")).to_pylist()[0]
    assert (lantern["title"], lantern["category"]) == ("WHITE METAL LANTERN", None)


def test_yoochoose_sample_has_70278_clicks() -> None:
    path = data_file("yoochoose_100k", "yoochoose-clicks-100k_train_full.txt.gz")
    table = pa.Table.from_batches(read_events(path), EVENTS)
    assert table.num_rows == 70_278
    assert pc.count_distinct(table["user_id"]).as_py() == 17_794
    assert pc.count_distinct(table["item_id"]).as_py() == 2_933


def test_invalid_utf8_in_parquet_is_refused(tmp_path: Path) -> None:
    names = pa.array([b"\xff"]).view(pa.string())
    table = pa.table({"event_id": names, "event_type": ["view"], "user_id": ["u"], "event_time": [1], "item_id": ["i"]})
    pq.write_table(table, tmp_path / "e.parquet")
    assert "e.parquet cannot be read: " in complaint(tmp_path / "e.parquet")
