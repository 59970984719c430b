from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from udfs.bundles.bundle import Bundle
from udfs.bundles.changes import FOLDER, SCHEMA, Segments, compact, files
from udfs.bundles.manifest import EncoderInfo, FileEntry, Manifest, Parity, Variant
from udfs.catalog.items import LiveItems
from udfs.catalog.parsing import parse_item
from udfs.core.errors import ShopstreamError
from udfs.core.exact import to_grid

DIMENSIONS = 6
VECTORS = np.eye(DIMENSIONS, dtype=np.float32)
PARITY = Parity(1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    table = pa.table(
        {
            "item_id": ["a", "b", "c"],
            "title": ["apple", "bread", "cup"],
            "category": ["x", None, "x"],
            "brand": pa.nulls(3, pa.string()),
            "price": [1.0, None, 3.0],
            "in_stock": [True, True, False],
            "popularity": [3.0, 2.0, 1.0],
        }
    )
    pq.write_table(table, tmp_path / "items.parquet")
    np.save(tmp_path / "item_vectors.npy", VECTORS[:3])
    variants = {"fp32": Variant("fp32.onnx", "fp32", ("cpu",), "cpu", PARITY)}
    encoder = EncoderInfo(9, "mean", True, "", DIMENSIONS, variants)
    return Bundle(tmp_path, Manifest(3, "it", "none", {}, encoder, 3, 0, {"fp32.onnx": FileEntry("ab" * 32, 0)}))


def change(item: str, title: str | None, written: int = 1, offset: int = 0, **more: object) -> dict[str, object]:
    vector = None if title is None else VECTORS[len(title) % DIMENSIONS].astype("<f4").tobytes()
    row = {"item_id": item, "title": title, "in_stock": None if title is None else True, "encoder": "ab" * 8}
    return row | {"vector": vector, "written": written, "offset": offset} | more


def table(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), SCHEMA)


def no_texts(texts: list[str]) -> np.ndarray:
    raise AssertionError(texts)


def test_items_without_category_or_brand_have_none(bundle: Bundle):
    items = LiveItems(bundle)
    assert items.category[:3].tolist() == [0, -1, 0]
    assert items.brand[:3].tolist() == [-1, -1, -1]
    assert items.catalogue.row_of == {"a": 0, "b": 1, "c": 2}
    assert items.in_stock.tolist() == [True, True] + [False] * (items.room - 2)


def test_items_change_in_place(bundle: Bundle):
    items = LiveItems(bundle)
    squares = items.catalogue.squares
    new = change("d", "dates", category="y", price=7.0)
    changes = (change("a", "apples", category="z"), change("b", None), change("c", "cup"), new, change("e", None))
    assert not items.apply(table(*changes), no_texts)
    assert (items.ids, items.titles) == (["a", "b", "c", "d"], ["apples", "bread", "cup", "dates"])
    assert items.in_stock[:5].tolist() == [True, False, True, True, False]
    assert items.category[:4].tolist() == [1, -1, -1, 2]
    assert np.isnan(items.price[:3]).all()
    assert items.price[3] == 7.0
    assert items.vectors[0].tolist() == to_grid(VECTORS[:1])[0].tolist()  # 6 letters of 6
    assert items.catalogue.vectors is items.vectors
    assert squares[3] == to_grid(VECTORS[5:6]).astype(np.float64)[0] @ to_grid(VECTORS[5:6])[0]
    assert items.catalogue.row_of["d"] == 3
    items.apply(table(change("d", None, 2)), no_texts)
    assert not items.in_stock[3]
    items.apply(table(change("d", "dates", 3, in_stock=False)), no_texts)
    assert not items.in_stock[3]
    items.apply(table(change("d", "dates", 4)), no_texts)
    assert items.in_stock[3]


def test_more_items_than_there_is_room_for(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("udfs.catalog.items.HEADROOM", 2)
    items = LiveItems(bundle)
    assert items.room == 5
    many = [change(f"n{number}", "x" * number, number) for number in range(9)]
    assert items.apply(table(*many), no_texts)
    assert items.room == 15
    assert items.titles[3:] == ["x" * number for number in range(9)]
    assert items.in_stock[:12].tolist() == [True, True, False] + [True] * 9
    assert items.vectors[3:12].tolist() == to_grid(VECTORS[np.arange(9) % DIMENSIONS]).tolist()
    assert items.catalogue.vectors is items.vectors


def test_vectors_of_another_encoder_are_made_anew(bundle: Bundle):
    items = LiveItems(bundle)
    asked = []

    def encode(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return VECTORS[[5] * len(texts)]

    items.apply(table(change("a", "axe", encoder="another"), change("b", "box"), change("c", None)), encode)
    assert asked == ["axe"]
    assert items.vectors[0].tolist() == to_grid(VECTORS[5:6])[0].tolist()
    assert items.vectors[1].tolist() == to_grid(VECTORS[3:4])[0].tolist()


def test_a_bundle_with_vectors_missing_is_refused(bundle: Bundle):
    np.save(bundle.path / "item_vectors.npy", VECTORS[:2])
    with pytest.raises(ShopstreamError, match="2 vectors for 3 items"):
        LiveItems(bundle)


def write(bundles: Path, name: str, *rows: dict[str, object]) -> None:
    (bundles / FOLDER).mkdir(exist_ok=True)
    pq.write_table(table(*rows), bundles / FOLDER / name)


def test_each_change_is_read_once_and_the_latest_holds(tmp_path: Path):
    reader = Segments(tmp_path)
    assert len(reader.new()) == 0
    write(tmp_path, "part-2", change("a", "newer", 5, 9), change("b", "first", 3, 1), change("b", "second", 3, 2))
    write(tmp_path, ".part-9", change("c", "not yet"))
    found = reader.new()
    assert dict(zip(found["item_id"].to_pylist(), found["title"].to_pylist(), strict=True)) == {
        "a": "newer",
        "b": "second",
    }
    assert len(reader.new()) == 0
    write(tmp_path, "part-1", change("a", "older", 4, 10), change("d", "new", 1))
    assert reader.new()["item_id"].to_pylist() == ["d"]
    (tmp_path / FOLDER / "part-3").write_bytes(b"broken")
    write(tmp_path, "part-4", change("a", None, 6))
    assert reader.new()["item_id"].to_pylist() == ["a"]


def test_many_small_segments_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("udfs.bundles.changes.MANY", 5)
    early, late = Segments(tmp_path), Segments(tmp_path)
    for number in range(4):
        write(tmp_path, f"part-{number}", change(f"i{number % 3}", f"version {number}", number))
    assert compact(tmp_path) == 0
    assert len(early.new()) == 3
    write(tmp_path, "part-4", change("i1", None, 9))
    assert compact(tmp_path) == 5
    (merged,) = files(tmp_path / FOLDER)
    assert merged.name.startswith("merged-")
    assert early.new()["item_id"].to_pylist() == ["i1"]
    found = late.new().select(["item_id", "title", "written"]).sort_by("item_id").to_pylist()
    assert [tuple(row.values()) for row in found] == [("i0", "version 3", 3), ("i1", None, 9), ("i2", "version 2", 2)]
    assert len(Segments(tmp_path).new()) == 3


def test_a_file_that_goes_while_it_is_read_is_found_in_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, "part-1", change("a", "apple"))
    reader = Segments(tmp_path)
    gone = [tmp_path / FOLDER / "gone"]
    monkeypatch.setattr("udfs.bundles.changes.files", lambda _: gone)
    assert len(reader.new()) == 0
    monkeypatch.undo()
    assert reader.new()["title"].to_pylist() == ["apple"]


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        (None, b'{"item_id": "a", "title": "t"}', "no key"),
        (b"b", b'{"item_id": "a", "title": "t"}', "not its `item_id`"),
        (b"a", b'{"item_id": "a"}', "title"),
        (b"a", b'{"item_id": "a", "title": "t", "price": -1}', "price"),
        (b"a", b'{"item_id": "a", "title": "t", "price": 1e999}', "price"),
        (b"a", b'{"item_id": "a", "title": ""}', "title"),
        (b"a", b"\xff", "utf-8"),
        (b"\xff", None, "utf-8"),
        (b"a", b'{"x": ' + b"[" * 100_000, "recursion"),
    ],
)
def test_catalogue_records_that_cannot_be_read(key: bytes | None, value: bytes | None, error: str):
    with pytest.raises((ValueError, RecursionError), match=f"(?i){error}"):
        parse_item(key, value)


def test_catalogue_records():
    assert parse_item(b"a", None) == ("a", None)
    _, item = parse_item(b"a", b'{"item_id": "a", "title": "Apple", "unheard": 1}')
    assert item is not None
    assert (item.title, item.in_stock, item.price) == ("Apple", True, None)
