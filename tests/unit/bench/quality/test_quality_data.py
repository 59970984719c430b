from pathlib import Path

import numpy as np
import pytest
from support import data_file
from tiny_sessions import HEADER, write_lines

from bench.__main__ import main
from bench.quality.data import prepare, read_split
from bench.quality.metrics import traits_of
from bench.quality.positions import Positions
from export.history.interactions import interactions
from udfs.core.errors import ShopstreamError
from udfs.events.files import read_events


def test_both_parts_share_numbers(tmp_path: Path):
    write_lines(
        tmp_path, "sessions.csv", HEADER, "s2,u,900,view,q", "s1,v,5,view,p", "s1,v,6,view,p", "s2,u,901,view,p"
    )
    write_lines(tmp_path, "test_sessions.csv", HEADER, "t,w,1000,view,new", "t,w,1001,view,p", "t2,u,2000,view,q")
    write_lines(tmp_path, "items.csv", "item_id,title,category", "q,a,", "never,b,c", "p,d,c")
    split = read_split(tmp_path, repeats=True)
    assert split.train.items == split.test.items == ["p", "q", "new", "never"]
    assert [split.test.items[item] for item in split.test.item] == ["new", "p", "q"]
    assert [split.train.users[user] for user in split.train.user] == ["v", "u"]
    assert [split.test.users[user] for user in split.test.user] == ["w", "u"]
    assert split.train.users == split.test.users
    assert split.counts.tolist() == [3, 1, 0, 0]
    assert split.known.tolist() == [True, True, False, True]
    assert len(read_split(tmp_path, repeats=False).train.item) == 3
    by, traits = traits_of(split)
    assert (by, traits.toarray().tolist()) == ("category", [[1], [0], [0], [1]])
    (tmp_path / "items.csv").unlink()
    assert traits_of(read_split(tmp_path, repeats=True))[1].toarray().tolist() == [[1, 1], [0, 1], [0, 0]]


def test_last_fifth_is_the_test(shop_folder: Path):
    split = read_split(shop_folder, repeats=True)
    whole = interactions(read_events(shop_folder / "sessions.csv"))
    assert 5 * len(split.test) == pytest.approx(len(whole), abs=3)
    assert len(split.train) + len(split.test) == len(whole) > 500
    assert split.train.start.max() <= split.test.start.min()
    known = np.unique(split.train.item)
    assert np.array_equal(known, np.arange(len(known)))
    assert set(split.train.items) >= set(split.catalog["item_id"].to_pylist())


def test_online_retail_has_known_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = data_file("online_retail", "online_retail.csv.gz")
    monkeypatch.setenv("SHOPSTREAM_DATA", str(file.parents[1]))
    prepare("online_retail", tmp_path / "retail")
    split = read_split(tmp_path / "retail", repeats=True)
    assert len(split.train) + len(split.test) == 18_536
    assert len(split.train.item) + len(split.test.item) == 397_924
    assert len(split.train.users) == 4339
    assert split.catalog is not None
    assert len(split.catalog) == len(split.train.items) == 3665
    first = split.train.item[: split.train.offsets[1]]
    assert [split.train.items[item] for item in first] == [
        "85123A",
        "71053",
        "84406B",
        "84029G",
        "84029E",
        "22752",
        "21730",
    ]
    title = dict(zip(*(split.catalog[name].to_pylist() for name in ("item_id", "title")), strict=True))
    assert title["85123A"] == "WHITE HANGING HEART T-LIGHT HOLDER"


def test_complete_journey_has_known_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = data_file("complete_journey", "transactions.parquet")
    monkeypatch.setenv("SHOPSTREAM_DATA", str(file.parents[1]))
    prepare("complete_journey", tmp_path / "first")
    prepare("complete_journey", tmp_path / "second")
    for name in ("sessions.csv.gz", "items.csv.gz"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    split = read_split(tmp_path / "first", repeats=True, sessions=5000, seed=1)
    assert 4900 < len(split.train) <= 5000
    drawn = {split.train.users[user] for user in split.train.user}
    assert 30 < len(drawn & {split.test.users[user] for user in split.test.user}) <= len(drawn) < 100
    assert split.catalog is not None
    ids = [int(item) for item in np.array(split.train.items)[split.train.item]]
    same = np.diff(split.train.session) == 0
    assert np.mean((np.diff(ids) > 0)[same]) == pytest.approx(0.5, abs=0.02)  # in no order in their baskets


def test_yoochoose_has_known_counts(clicks: Path):
    split = read_split(clicks, repeats=True)
    assert (len(split.train), len(split.train.item), len(split.train.items)) == (13_629, 53_254, 2873)
    assert (len(split.test), len(split.test.item)) == (4084, 16_539)
    assert len(Positions.every(split.test)) == 12_455
    assert split.catalog is None
    assert (split.counts > 0).all()


def test_unknown_data_is_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(
        ShopstreamError, match=r"^--prepare movies: choose online_retail, yoochoose_100k or complete_journey$"
    ):
        prepare("movies", tmp_path)
    monkeypatch.setenv("SHOPSTREAM_DATA", str(tmp_path))
    with pytest.raises(ShopstreamError, match="SHOPSTREAM_DATA names the folder that holds online_retail"):
        prepare("online_retail", tmp_path / "out")
    with pytest.raises(SystemExit) as ended:
        main(["quality", "--data", str(tmp_path / "out"), "--prepare", "movies"])
    assert ended.value.code == 1
    assert (
        capsys.readouterr().err == "error: --prepare movies: choose online_retail, yoochoose_100k or complete_journey\n"
    )
