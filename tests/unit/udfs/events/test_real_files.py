"""Files as shops and tools write them: read as they are meant or refused by name, and no row is lost in silence."""

import bz2
import gzip
import json
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from udfs.catalog.files import read_catalog
from udfs.core.errors import ShopstreamError
from udfs.events.columns import EVENTS
from udfs.events.files import read_events
from udfs.events.mapping import parse_mapping
from udfs.events.rejected import Rejected

HEADER = "event_type,user_id,event_time,item_id"
T = 1767225600000


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def taken(
    path: Path, *maps: str, rejected: Rejected | None = None, **how: Any
) -> tuple[list[dict[str, Any]], Rejected]:
    """The events of a file without nulls, and what was not read."""
    rejected = rejected or Rejected()
    table = pa.Table.from_batches(read_events(path, mapping=parse_mapping(maps), rejected=rejected, **how), EVENTS)
    return [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()], rejected


def column(path: Path, name: str, *maps: str, **how: Any) -> list[Any]:
    """One column of the events of a file of which every row is read."""
    rows, rejected = taken(path, *maps, **how)
    assert not rejected.rejected
    return [row.get(name) for row in rows]


def refusal(path: Path, *maps: str, **how: Any) -> str:
    """What is said of a file of which no row is read."""
    with pytest.raises(ShopstreamError) as caught:
        list(read_events(path, mapping=parse_mapping(maps), **how))
    return str(caught.value)


# --- quotes -----------------------------------------------------------------------------------------------------------

TAB_HEADER = "event_type\tuser_id\tevent_time\titem_id\tquery\n"


def test_lone_quotes_swallow_no_rows(tmp_path: Path):
    lines = [
        'search\tu1\t1767225600000\t\t"17 inch monitor',
        "view\tu1\t1767225601000\ti1\t",
        'search\tu2\t1767225602000\t\t24" monitor',
        "view\tu2\t1767225603000\ti2\t",
        'search\tu3\t1767225604000\t\t"standing desk"',
        'search\tu3\t1767225605000\t\t"17"" desk"',
        'search\tu3\t1767225605000\t\t"17" desk, black',
    ]
    queries = column(write(tmp_path / "q.tsv", TAB_HEADER + "\n".join(lines)), "query")
    assert queries == ['"17 inch monitor', None, '24" monitor', None, "standing desk", '17" desk', '"17" desk, black']


def test_lone_quote_without_another_is_read(tmp_path: Path):
    rows = "".join(f"view\tu\t{T + n}\ti\t\n" for n in range(200_000))  # two blocks
    lone = f'search\tu\t{T}\t\t"17 inch\n'
    assert len(column(write(tmp_path / "q.tsv", TAB_HEADER + lone + rows), "query")) == 200_001


def test_ambiguous_quote_is_refused_or_settled(tmp_path: Path):
    lines = [f'search\tu1\t{T}\t\t"17 inch', f"view\tu1\t{T}\ti1\t", f'search\tu2\t{T}\t\t24"', f"view\tu2\t{T}\ti2\t"]
    path = write(tmp_path / "q.tsv", TAB_HEADER + "\n".join(lines))
    rows, rejected = taken(path)
    assert ([row["event_id"] for row in rows], rejected.rejected) == (["q-5"], {"a quote over several lines": 3})
    assert "q.tsv: line 2: " in refusal(path)
    assert "--read quotes=none" in refusal(path)
    assert column(path, "query", options={"quotes": "none"}) == ['"17 inch', None, '24"', None]
    assert len(column(path, "query", options={"quotes": "always"})) == 2


def test_closed_quotes_may_hold_lines(tmp_path: Path):
    text = 'search,u,1767225600000,,"many\nlines, ""quoted""\r\n"\nview,u,1767225600000,i,\n'
    path = write(tmp_path / "q.csv", f"{HEADER},query\n{text}")
    assert column(path, "query") == ['many\nlines, "quoted"\r\n', None]
    rows, _ = taken(write(tmp_path / "q.csv", f"{HEADER},query\n{text}view,u\n"))
    assert (len(rows), [row["event_id"] for row in rows]) == (2, ["q-2", "q-3"])
    with pytest.raises(ShopstreamError, match="line 6: Expected 5 columns, got 2"):
        taken(tmp_path / "q.csv", rejected=Rejected(strict=True))


def test_backslashes_may_escape_quotes(tmp_path: Path):
    escaped = f'search,u,{T},,"17\\" monitor, black"\nsearch,u,{T},,"C:\\\\x"\n'
    assert column(write(tmp_path / "q.csv", f"{HEADER},query\n{escaped}"), "query") == ['17" monitor, black', "C:\\x"]
    plain = f'search,u,{T},,"C:\\"\nsearch,u,{T},,"a\\\\b"\n'
    assert column(write(tmp_path / "q.csv", f"{HEADER},query\n{plain}"), "query") == ["C:\\", "a\\\\b"]


# --- dialects and encodings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_dialects_and_encodings_give_equal_events(tmp_path: Path, delimiter: str, end: str, encoding: str):
    lines = [HEADER, f"view,ü1,{T},i1", "", f'view,"u,2",{T},"é ""x"""']
    text = end.join(lines).replace('"u,2"', "u2").replace(",", delimiter)
    path = write(tmp_path / "e.csv", text.encode(encoding))
    options = {"encoding": "latin-1"} if encoding == "latin-1" else {}
    assert [(row["user_id"], row["item_id"]) for row in taken(path, options=options)[0]] == [
        ("ü1", "i1"),
        ("u2", 'é "x"'),
    ]


def test_excels_sep_line_names_the_delimiter(tmp_path: Path):
    path = write(tmp_path / "e.csv", f"sep=;\n{HEADER.replace(',', ';')}\nview;u;{T};i\nbad\n")
    rows, rejected = taken(path)
    assert (len(rows), rejected.rejected.total()) == (1, 1)
    assert "line 4" in refusal(path)


def test_bad_utf8_costs_its_row(tmp_path: Path):
    content = f"{HEADER}\nview,u1,{T},i\nview,caf".encode() + b"\xe9" + f",{T},i\nview,u3,{T},i\n".encode()
    rows, rejected = taken(write(tmp_path / "e.csv", content))
    assert [row["event_id"] for row in rows] == ["e-2", "e-4"]
    assert rejected.rejected == {"not UTF-8": 1}
    assert "--read encoding=latin-1" in refusal(tmp_path / "e.csv")


def test_missing_values_have_several_spellings(tmp_path: Path):
    words = ["", r"\N", "NULL", "NaN"]
    lines = "".join(f"view,u,{T},i,{word},{word},{word}\n" for word in words)
    path = write(tmp_path / "e.csv", f"{HEADER},price,quantity,query\n{lines}")
    assert [set(row) & {"price", "quantity", "query"} for row in taken(path)[0]] == [set()] * 4
    assert column(
        write(tmp_path / "f.csv", f"{HEADER},price\nview,u,{T},i,?\n"), "price", options={"missing": "?,-"}
    ) == [None]


def test_decimal_commas_are_told_by_the_file(tmp_path: Path):
    def prices(*values: str, **how: Any) -> list[Any]:
        lines = "".join(f"view;u;{T};i;{value}\n" for value in values)
        return column(write(tmp_path / "e.csv", f"{HEADER.replace(',', ';')};price\n{lines}"), "price", **how)

    assert prices("6,95", "1.234,50", "1,234", "7") == [6.95, 1234.5, 1.234, 7]
    assert prices("1,234.50", "15.00 USD", "$3") == [1234.5, 15, 3]
    assert prices("1,234", options={"decimal": "point"}) == [1234]
    with pytest.raises(ShopstreamError, match="--read decimal=comma"):
        prices("1,234")


# --- times ------------------------------------------------------------------------------------------------------------


def times(tmp_path: Path, *values: str, name: str = "event_time", **how: Any) -> list[Any]:
    header = HEADER.replace("event_time", name)
    path = write(tmp_path / "t.csv", f"{header}\n" + "".join(f'view,u,"{value}",i\n' for value in values))
    return column(path, "event_time", *([] if name == "event_time" else [f"event_time={name}"]), **how)


@pytest.mark.parametrize("name", ["event_time", "ts"])
def test_zones_are_offsets_or_names(tmp_path: Path, name: str):
    spelled = [
        "2026-01-01 00:00:00+00", "2026-01-01 05:30:00.25+05:30", "2026-01-01T05:30:00+0530", "2026-01-01 00:00:00 UTC",
        "2026-01-01 00:00:00 GMT", "2026-01-01T00:00:00Z", "2026-01-01t00:00:00.000z",
        "2026-01-01 01:00:00 Europe/Berlin",
        "2026-01-01 00:00 UTC", "2026-01-01 01:00:00 +01:00",
    ]  # fmt: skip
    assert times(tmp_path, *spelled, name=name) == [T, T + 250, *[T] * 8]
    for each in spelled:
        assert times(tmp_path, each, name=name) == [T + 250 * ("25" in each)]


def test_units_of_numbers_are_told_by_size(tmp_path: Path):
    spelled = [
        "1541037460",
        "1541037460.25",
        "1541037460000",
        "1611817838123456",
        "1541037460000000000",
        "1.7672256E+12",
    ]
    expected = [1541037460000, 1541037460250, 1541037460000, 1611817838123, 1541037460000, T]
    assert times(tmp_path, *spelled) == expected
    for each, ms in zip(spelled, expected, strict=True):
        assert times(tmp_path, each) == [ms]
    assert times(tmp_path, "1", "946684800000") == [1, 946684800000]  # epoch ms, as in the contract
    assert times(tmp_path, "100000000", options={"times": "s"}) == [100000000000]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("20260131", "a day or epoch ms: write 20260131 as YYYY-MM-DD"),
        ("161181783812345678", "--read times=UNIT"),
        ("2026-01-01 00:00:00", "without a zone: name the zone with --read zone=UTC"),
        ("2026-01-01", "without a zone"),
        ("2026-13-01T00:00:00Z", "no time"),
        ("2026-01-01T00:00:00+25:00", "no time"),
        ("2026-10-25 02:30:00 Europe/Berlin", "twice or never"),
        ("2026-01-01 00:00:00 Mars/Base", "unknown zone"),
        ("12/1/2010 8:26", "day and month cannot be told apart: settle it with --read dates=day-first"),
        ("yesterday", "'yesterday' is no time"),
    ],
)
def test_times_that_would_be_a_guess_are_refused(tmp_path: Path, value: str, says: str):
    said = refusal(write(tmp_path / "t.csv", f'{HEADER}\nview,u,"{value}",i\n'))
    assert "t.csv: line 2: column 'event_time'" in said
    assert value in said
    assert says in said


def test_days_and_local_times_need_a_zone(tmp_path: Path):
    spelled = ["2026-01-01", "2026-01-01 00:00:00", "2026-01-01T00:00:00.9999", "2026-01-01 00:00", "2026/01/01"]
    assert times(tmp_path, *spelled, options={"zone": "UTC"}) == [T, T, T + 999, T, T]
    assert times(tmp_path, *spelled, name="ts") == [T, T, T + 999, T, T]
    hour = 3_600_000
    assert times(tmp_path, *spelled[:2], options={"zone": "Europe/Berlin"}) == [T - hour] * 2


def test_order_of_day_and_month(tmp_path: Path):
    utc = {"zone": "UTC"}
    assert times(tmp_path, "1/2/2026 0:00", options=utc | {"dates": "day-first"}) == [T + 31 * 86_400_000]
    assert times(tmp_path, "1/2/2026 12:00 AM", options=utc | {"dates": "month-first"}) == [T + 86_400_000]
    assert times(tmp_path, "01.01.2026 00:00", options=utc) == [T]
    # One date that has one reading alone settles those before it, too.
    assert times(tmp_path, "1/2/2026", "1/13/2026", options=utc) == [T + 86_400_000, T + 12 * 86_400_000]


def test_parquet_times_have_their_own_types(tmp_path: Path):
    moments = {
        "date": pa.array([date(2026, 1, 1)]),
        "s": pa.array([T // 1000]),
        "us": pa.array([T * 1000 + 999]),
        "double": pa.array([T / 1000 + 0.25]),
        "naive": pa.array([T * 1_000_000 + 1], pa.timestamp("ns")),
        "zoned": pa.array([T], pa.timestamp("ms", "Europe/Berlin")),
        "text": pa.array(["2026-01-01 00:00:00 UTC"]).dictionary_encode(),
    }
    for name, array in moments.items():
        pq.write_table(
            pa.table({"ts": array, "event_type": ["view"], "user_id": ["u"], "item_id": ["i"]}), tmp_path / "t.parquet"
        )
        assert column(tmp_path / "t.parquet", "event_time", "event_time=ts") == [T + 250 * (name == "double")], name


# --- ids --------------------------------------------------------------------------------------------------------------


def test_ids_that_became_floats_are_whole_numbers(tmp_path: Path):
    rows = {"event_time": [T] * 2, "event_type": ["view"] * 2, "user_id": [7982301102254.0, 500000001.0]}
    pq.write_table(pa.table(rows | {"item_id": [85123.0, None]}), tmp_path / "e.parquet")
    read, rejected = taken(tmp_path / "e.parquet")
    assert [(row["user_id"], row["item_id"]) for row in read] == [("7982301102254", "85123")]
    assert rejected.rejected == {"no item_id": 1}
    ids = ["17850.0", "7.982301102254e+12", "007", "1.5", "5E3", "v1.0", "1.000"]
    lines = "".join(f"view,{each},{T},{each}\n" for each in ids)
    path = write(tmp_path / "e.csv", f"{HEADER}\n{lines}")
    expected = ["17850", "7982301102254", "007", "1.5", "5E3", "v1.0", "1"]
    assert column(path, "user_id") == column(path, "item_id") == expected
    lines = "".join(json.dumps({"event_type": "view", "event_time": T, "item_id": "i"})[:-1] + f',"user_id":{each}}}\n'
                    for each in ("17850.0", "7982301102254.0", '"17850.0"', "7.982301102254e+12"))  # fmt: skip
    assert column(write(tmp_path / "e.jsonl", lines), "user_id") == ["17850", "7982301102254", "17850", "7982301102254"]
    items, _ = read_catalog(write(tmp_path / "c.csv", "item_id,title\n85123.0,Mug\n"))
    assert items["item_id"].to_pylist() == ["85123"]


@pytest.mark.parametrize("value", ["7.98E+12", "1.2345678901234567890e+19"])
def test_ids_that_lost_digits_are_refused(tmp_path: Path, value: str):
    assert "has lost digits" in refusal(write(tmp_path / "e.csv", f"{HEADER}\nview,{value},{T},i\n"))
    table = pa.table({"event_time": [T], "event_type": ["view"], "user_id": [2.0**60], "item_id": ["i"]})
    pq.write_table(table, tmp_path / "e.parquet")
    assert "has lost digits" in refusal(tmp_path / "e.parquet")


# --- rows and orders --------------------------------------------------------------------------------------------------


def test_bad_rows_cost_themselves(tmp_path: Path):
    lines = [
        f"view,u1,{T},i1,2", f"view,,{T},i1,2", "view,u1,yesterday,i1,2", f"view,u1,{T},i1,cheap", f"view,u1,{T}",
        f"stare,u1,{T},i1,2", f"view,u1,{T},i1,-1", f"view,u1,{T},,2", f"view,u2,{T},i2,3",
    ]  # fmt: skip
    path = write(tmp_path / "e.csv", f"{HEADER},price\n" + "\n".join(lines))
    kept, told = tmp_path / "out.jsonl", []
    with Rejected(kept, tell=told.append) as rejected:
        rows, _ = taken(path, rejected=rejected)
    assert [row["event_id"] for row in rows] == ["e-2", "e-10"]
    assert rejected.rejected == {
        "no user_id": 1, "event_time: no time": 1, "price: no number": 1, "more or fewer values than columns": 1,
        "event_type: none of the contract's": 1, "price: outside its bounds": 1, "no item_id": 1,
    }  # fmt: skip
    written = [json.loads(line) for line in kept.read_text().splitlines()]
    assert sorted(row["line"] for row in written) == [3, 4, 5, 6, 7, 8, 9]
    assert {row["row"] for row in written} == set(lines[1:-1])
    assert all(row["said"] and row["file"].endswith("e.csv") for row in written)
    (line,) = told
    assert "1 of 7 events have types that are none of view, click" in line
    assert "--map event_type:stare=TYPE" in line
    assert "rejected 7 rows: " in rejected.lines()[0]
    with pytest.raises(ShopstreamError, match="line 6: Expected 5 columns, got 3"):
        taken(path, rejected=Rejected(strict=True))


def test_unwritable_rejects_stop_with_one_line(tmp_path: Path):
    path = write(tmp_path / "e.csv", f"{HEADER}\nview,,{T},i\n")
    with pytest.raises(ShopstreamError, match="--rejected FILE"):
        taken(path, rejected=Rejected(tmp_path / "none" / "out.jsonl"))


def test_file_without_a_good_row_is_an_error(tmp_path: Path):
    path = write(tmp_path / "e.csv", f"{HEADER}\nview,u,soon,i\n")
    with pytest.raises(
        ShopstreamError, match=r"no row can be read: line 2: .*'soon'.*rejected 1 rows: event_time: no time \(1\)"
    ):
        taken(path)


def test_returns_are_counted(tmp_path: Path):
    path = write(tmp_path / "e.csv", f"{HEADER},quantity\npurchase,u,{T},i,-1\npurchase,u,{T},i,2.0\n")
    rows, rejected = taken(path)
    assert ([row["quantity"] for row in rows], rejected.rejected) == ([2], {"a return (quantity below 0)": 1})


def test_orders_are_an_event_per_item(tmp_path: Path):
    order = {"event_id": "o1", "event_type": "purchase", "user_id": "u1", "event_time": T}
    items = [{"item_id": "a", "price": 5, "quantity": 1}, {"item_id": "b", "price": 2.5, "quantity": 2}]
    rows, _ = taken(write(tmp_path / "e.jsonl", json.dumps(order | {"items": items})))
    assert [(row["event_id"], row["item_id"], row["price"], row["quantity"]) for row in rows] == [
        ("o1-1", "a", 5, 1),
        ("o1-2", "b", 2.5, 2),
    ]
    for file in (
        write(tmp_path / "l.jsonl", json.dumps(order | {"item_id": ["a", "b"]})),
        write(tmp_path / "l.csv", f'event_id,{HEADER}\no1,purchase,u1,{T},"[""a"", ""b""]"\n'),
    ):
        assert [(row["event_id"], row["item_id"]) for row in taken(file)[0]] == [("o1-1", "a"), ("o1-2", "b")]
    path = write(tmp_path / "s.csv", f"{HEADER}\npurchase,u1,{T},a|b\nview,u1,{T},c\n")
    assert column(path, "item_id", options={"items": "|", "delimiter": ","}) == ["a", "b", "c"]
    pq.write_table(pa.Table.from_pylist([order | {"items": items}]), tmp_path / "e.parquet")
    assert column(tmp_path / "e.parquet", "item_id") == ["a", "b"]


def test_half_an_order_is_no_order(tmp_path: Path):
    order = {"event_id": "o1", "event_type": "purchase", "user_id": "u1", "event_time": T}
    items = [{"item_id": "a"}, {"item_id": "b", "price": "dear"}]
    good = json.dumps(order | {"items": items[:1]})
    rows, rejected = taken(write(tmp_path / "e.jsonl", good + "\n" + json.dumps(order | {"items": items})))
    assert ([row["event_id"] for row in rows], rejected.rejected.total()) == (["o1"], 1)


# --- folders, archives, JSON ------------------------------------------------------------------------------------------


def test_folders_and_archives_are_read(tmp_path: Path):
    parts = {f"day={n}/part-0.csv": f"{HEADER}\nview,u{n},{T},i\n" for n in range(3)}
    folder = tmp_path / "export"
    for name, content in parts.items():
        (folder / name).parent.mkdir(parents=True)
        write(folder / name, content)
    write(folder / "_SUCCESS", "")
    write(folder / "day=0" / ".part-0.csv.crc", b"x")
    assert [row["event_id"] for row in taken(folder)[0]] == [f"day={n}/part-0-2" for n in range(3)]
    write(folder / "day=2" / "part-0.csv", "other,columns\n1,2\n")
    assert "day=2/part-0.csv: its first line is not that of" in refusal(folder)
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert column(tmp_path / "e.zip", "user_id") == ["u0", "u1", "u2"]
    (tmp_path / "none").mkdir()
    assert "folder without files" in refusal(tmp_path / "none")


@pytest.mark.parametrize("suffix", ["gz", "zst", "bz2"])
def test_compressed_files_are_read(tmp_path: Path, suffix: str):
    content = f"{HEADER}\nview,u,{T},i\n".encode()
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "zst": lambda each: pa.Codec("zstd").compress(each, asbytes=True)}
    path = write(tmp_path / f"e.csv.{suffix}", pack[suffix](content))
    assert column(path, "user_id") == ["u"]
    if suffix == "gz":
        assert column(write(tmp_path / "part-00000", content), "user_id") == ["u"]


def test_json_may_have_a_mark_and_bad_lines(tmp_path: Path):
    good = json.dumps({"event_type": "view", "user_id": "u", "event_time": T, "item_id": "i", "price": "2,50"})
    nan = '{"event_type":"search","user_id":"u","event_time":1767225600000,"item_id":"","query":"mug","price":NaN}'
    path = write(tmp_path / "e.jsonl", b"\xef\xbb\xbf" + "\n".join([good, "", "{broken", "[1]", nan]).encode())
    rows, rejected = taken(path)
    assert [row["event_id"] for row in rows] == ["e-1", "e-4"]
    assert (rows[0]["price"], rows[1]) == (
        2.5,
        {"event_id": "e-4", "event_type": "search", "user_id": "u", "event_time": T, "query": "mug"},
    )
    assert rejected.rejected == {"no JSON object": 2}
    assert "line 3: no JSON" in refusal(path)


@pytest.mark.parametrize(("content", "hint"), [('[{"a": 1}]', "jq -c '.[]'"), ('{\n  "a": 1\n}\n', "jq -c .")])
def test_other_json_is_refused_with_the_way_out(tmp_path: Path, content: str, hint: str):
    assert "JSON lines" in refusal(write(tmp_path / "e.json", content))
    assert hint in refusal(tmp_path / "e.json")


# --- mapping ----------------------------------------------------------------------------------------------------------


def test_mapping_takes_constants_and_values(tmp_path: Path):
    path = write(tmp_path / "e.csv", f"who,when,what,did\nu,{T},i,cart\nu,{T},i,look\nu,{T},i,login\n")
    maps = ("user_id=who", "event_time=when", "item_id=what")
    assert column(path, "event_type", *maps, "event_type=const:purchase") == ["purchase"] * 3
    values = ("event_type=did", "event_type:cart=add_to_cart", "event_type:look=view", "event_type:login=leave-out:")
    rows, rejected = taken(path, *maps, *values)
    assert [row["event_type"] for row in rows] == ["add_to_cart", "view"]
    assert rejected.left_out == {"event_type login": 1}


def test_preset_is_kept_under_mapping(tmp_path: Path):
    header = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session,q\n"
    path = write(tmp_path / "r.csv", header + "2019-10-01 00:00:00 UTC,cart,1,2,,acme,35.79,5,s-1,mug\n")
    assert taken(path, "query=q")[0] == taken(path, "query=q", preset="rees46")[0]
    (row,) = taken(path, "query=q")[0]
    assert (row["event_type"], row["query"], row["session_id"]) == ("add_to_cart", "mug", "s-1")


def test_own_preset_is_a_file(tmp_path: Path):
    own = write(
        tmp_path / "own.toml",
        'description = "ours"\n[[form]]\nheader = ["u", "t", "i"]\n[form.map]\nevent_type = "const:view"\n'
        'user_id = "u"\nevent_time = "t"\nitem_id = "i"\n',
    )
    path = write(tmp_path / "e.csv", f"u1;{T};i1\nu2;{T};i2\n")
    assert column(path, "user_id", preset=str(own)) == ["u1", "u2"]
    assert "own.toml: " in refusal(path, preset=str(write(own, "[[form]]\nmapp = 3\n")))


# --- catalogs ---------------------------------------------------------------------------------------------------------


def items_of(path: Path, *maps: str, rejected: Rejected | None = None) -> list[dict[str, Any]]:
    table, _ = read_catalog(path, mapping=parse_mapping(maps), rejected=rejected)
    return [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]


@pytest.mark.parametrize("maps", [(), ("item_id=id", "in_stock=availability")])
def test_google_merchant_feed_is_a_catalog(tmp_path: Path, maps: tuple[str, ...]):
    lines = ["id\ttitle\tavailability\tprice\tbrand", "A1\tMug &amp; spoon\tin stock\t15.00 USD\tAcme"]
    lines += ["A2\tPot\tout of stock\t\tAcme", "A3\tR&D &copy kit\tpreorder\t7 EUR\t"]
    assert items_of(write(tmp_path / "feed.tsv", "\n".join(lines)), *maps) == [
        {"item_id": "A1", "title": "Mug & spoon", "price": 15.0, "in_stock": True, "brand": "Acme"},
        {"item_id": "A2", "title": "Pot", "in_stock": False, "brand": "Acme"},
        {"item_id": "A3", "title": "R&D &copy kit", "price": 7.0, "in_stock": True},
    ]


def test_stock_is_words_or_counts(tmp_path: Path):
    words = {"yes": True, "Y": True, "t": True, "12": True, " true": True, "in_stock": True, "InStock": True, "": True}
    words |= {"no": False, "N": False, "f": False, "0": False, "-3": False, "Out Of Stock": False, "sold out": False}
    lines = [f"{n},x,{word}" for n, word in enumerate(words)]
    path = write(tmp_path / "c.csv", "item_id,title,in_stock\n" + "\n".join(lines))
    assert [row["in_stock"] for row in items_of(path)] == list(words.values())
    rejected = Rejected()
    assert len(items_of(write(path, f"{path.read_text()}\n99,x,perhaps\n"), rejected=rejected)) == len(words)
    assert rejected.rejected == {"in_stock: no stock": 1}
    with pytest.raises(
        ShopstreamError, match="line 17: column 'in_stock' should be in_stock, and 'perhaps' is no stock"
    ):
        items_of(path)


def test_nested_catalog_values_are_read_or_refused_by_name(tmp_path: Path):
    rows: list[dict[str, Any]] = [
        {"item_id": 1, "title": {"en": "Mug"}, "price": "", "category": ["Home", "Kitchen"]},
        {"item_id": 2, "title": {"en": "Pot", "de": "Topf"}},
        {"item_id": 3, "title": "Pan", "price": -1},
        {"item_id": 4, "title": "Cup", "price": "2,50", "in_stock": 0},
    ]
    path = write(tmp_path / "c.jsonl", "\n".join(map(json.dumps, rows)))
    rejected = Rejected()
    read = items_of(path, rejected=rejected)
    assert read == [
        {"item_id": "1", "title": "Mug", "category": "Home > Kitchen", "in_stock": True},
        {"item_id": "4", "title": "Cup", "price": 2.5, "in_stock": False},
    ]
    assert rejected.rejected == {"an object or a list": 1, "price: below 0": 1}
    with pytest.raises(ShopstreamError, match=r"line 2: column 'title' holds an object with en, de; .*title.KEY"):
        items_of(path)
    assert [row["title"] for row in items_of(write(path, json.dumps(rows[1])), "title=title.de")] == ["Topf"]
