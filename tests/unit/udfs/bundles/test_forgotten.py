from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.bundles.forgotten import FILE, NEVER, ErasureFile, ErasureList, shopper_hashes
from udfs.core.errors import ShopstreamError
from udfs.core.hashing import shopper_hash

NOBODY = ErasureList.read(Path("no-such-folder"))


def columns(erased: ErasureList | None) -> list[list[int]] | None:
    return erased and [column.tolist() for column in (erased.shopper, erased.at, erased.swept_at)]


def read(file: ErasureFile) -> list[list[int]] | None:
    with file.unread() as erased:
        return columns(erased)


@given(st.lists(st.tuples(st.lists(st.integers(-3, 3), max_size=4), st.integers(0, 9)), max_size=5))
def test_latest_erasure_of_a_user_holds(rounds: list[tuple[list[int], int]]):
    erased, expected = NOBODY, dict[int, int]()
    for shoppers, at in rounds:
        erased = erased.with_more(shoppers, at)
        expected |= dict.fromkeys(shoppers, at)
    asked = np.arange(-5, 6)
    assert erased.at_of(asked).tolist() == [expected.get(number, NEVER) for number in asked.tolist()]
    assert columns(erased) == [sorted(expected), [expected[key] for key in sorted(expected)], [0] * len(expected)]


def test_selected_ids_keep_their_columns():
    erased = ErasureList(*(np.array(column) for column in ([1, 2, 3], [4, 5, 6], [7, 8, 9])))
    assert columns(erased.select(erased.shopper != 2)) == [[1, 3], [4, 6], [7, 9]]


def test_file_is_read_when_replaced(tmp_path: Path):
    file = ErasureFile(tmp_path)
    assert read(file) is None
    erased = NOBODY.with_more([shopper_hash(user) for user in "uv"], 5)
    erased.write(tmp_path)
    assert read(file) == [sorted(map(shopper_hash, "uv")), [5, 5], [0, 0]]
    assert read(file) is None
    erased.with_more([1], 6).write(tmp_path)
    assert read(file) is not None
    assert [file.name for file in tmp_path.iterdir()] == [FILE]
    (tmp_path / FILE).write_bytes(b"broken")
    with pytest.raises(ShopstreamError, match=r"forgotten\.parquet cannot be read"):
        read(file)


def test_file_is_read_until_used(tmp_path: Path):
    file = ErasureFile(tmp_path)
    NOBODY.with_more([1], 6).write(tmp_path)

    def fail() -> None:
        with file.unread() as erased:
            assert columns(erased) == [[1], [6], [0]]
            raise RuntimeError

    for _ in range(2):
        with pytest.raises(RuntimeError):
            fail()
    assert read(file) == [[1], [6], [0]]
    assert read(file) is None


def test_ids_have_the_bundles_hashes():
    assert shopper_hashes(pa.array(["u", "v", "u"])).tolist() == [shopper_hash(user) for user in "uvu"]
    assert shopper_hashes(pa.array([], pa.string())).tolist() == []
