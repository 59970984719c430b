from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from udfs.bundles.bundle import Bundle
from udfs.bundles.changes import SCHEMA
from udfs.bundles.manifest import EncoderInfo, FileEntry, Manifest, Parity, Variant
from udfs.catalog.items import LiveItems
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


def test_missing_category_and_brand_codes(bundle: Bundle):
    items = LiveItems(bundle)
    assert items.category[:3].tolist() == [0, -1, 0]
    assert items.brand[:3].tolist() == [-1, -1, -1]
    assert items.catalog.row_of == {"a": 0, "b": 1, "c": 2}
    assert items.in_stock.tolist() == [True, True] + [False] * (items.capacity - 2)


def test_items_change_in_place(bundle: Bundle):
    items = LiveItems(bundle)
    squares = items.catalog.squares
    new = change("d", "dates", category="y", price=7.0)
    changes = (change("a", "apples", category="z"), change("b", None), change("c", "cup"), new, change("e", None))
    assert not items.apply(table(*changes), no_texts)
    assert (items.ids, items.titles) == (["a", "b", "c", "d"], ["apples", "bread", "cup", "dates"])
    assert items.in_stock[:5].tolist() == [True, False, True, True, False]
    assert items.category[:4].tolist() == [1, -1, -1, 2]
    assert np.isnan(items.price[:3]).all()
    assert items.price[3] == 7.0
    assert items.vectors[0].tolist() == to_grid(VECTORS[:1])[0].tolist()  # 6 letters of 6
    assert items.catalog.vectors is items.vectors
    assert squares[3] == to_grid(VECTORS[5:6]).astype(np.float64)[0] @ to_grid(VECTORS[5:6])[0]
    assert items.catalog.row_of["d"] == 3
    items.apply(table(change("d", None, 2)), no_texts)
    assert not items.in_stock[3]
    items.apply(table(change("d", "dates", 3, in_stock=False)), no_texts)
    assert not items.in_stock[3]
    items.apply(table(change("d", "dates", 4)), no_texts)
    assert items.in_stock[3]


def test_arrays_grow_for_new_items(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("udfs.catalog.items.HEADROOM", 2)
    items = LiveItems(bundle)
    assert items.capacity == 5
    many = [change(f"n{number}", "x" * number, number) for number in range(9)]
    assert items.apply(table(*many), no_texts)
    assert items.capacity == 15
    assert items.titles[3:] == ["x" * number for number in range(9)]
    assert items.in_stock[:12].tolist() == [True, True, False] + [True] * 9
    assert items.vectors[3:12].tolist() == to_grid(VECTORS[np.arange(9) % DIMENSIONS]).tolist()
    assert items.catalog.vectors is items.vectors


def test_foreign_vectors_are_encoded_again(bundle: Bundle):
    items = LiveItems(bundle)
    asked = []

    def encode(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return VECTORS[[5] * len(texts)]

    items.apply(table(change("a", "axe", encoder="another"), change("b", "box"), change("c", None)), encode)
    assert asked == ["axe"]
    assert items.vectors[0].tolist() == to_grid(VECTORS[5:6])[0].tolist()
    assert items.vectors[1].tolist() == to_grid(VECTORS[3:4])[0].tolist()


def state_of(items: LiveItems) -> list[object]:
    """Everything that changes, as plain values."""
    arrays = (items.in_stock, items.price, items.popularity, items.kinds, items.vectors, items.catalog.squares)
    plain = [[repr(value) for value in array.ravel().tolist()] for array in arrays]
    return [list(items.ids), list(items.titles), dict(items.row_of), items.capacity, *plain]


@pytest.mark.parametrize("headroom", [0, 1024])
def test_failed_encoding_changes_nothing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, headroom: int):
    monkeypatch.setattr("udfs.catalog.items.HEADROOM", headroom)
    items = LiveItems(bundle)
    before = state_of(items)
    changes = table(
        change("a", None), change("b", "bun", category="y"), change("c", "cup", price=2.0),
        change("d", "dates", category="z", encoder="another"),
    )  # fmt: skip

    def failing(texts: list[str]) -> np.ndarray:
        raise RuntimeError(f"no memory for {texts}")

    with pytest.raises(RuntimeError):
        items.apply(changes, failing)
    assert state_of(items) == before
    items.apply(changes, lambda texts: VECTORS[[5] * len(texts)])
    assert items.titles == ["apple", "bun", "cup", "dates"]
    assert items.in_stock[:4].tolist() == [False, True, True, True]


@pytest.mark.parametrize("vector", [None, b"\0" * 8])
def test_unusable_vectors_are_encoded_again(bundle: Bundle, vector: bytes | None):
    items = LiveItems(bundle)
    items.apply(table(change("d", "dates", vector=vector)), lambda texts: VECTORS[[5] * len(texts)])
    assert items.vectors[3].tolist() == to_grid(VECTORS[5:6])[0].tolist()


def test_missing_vectors_are_refused(bundle: Bundle):
    np.save(bundle.path / "item_vectors.npy", VECTORS[:2])
    with pytest.raises(ShopstreamError, match="2 vectors for 3 items"):
        LiveItems(bundle)
