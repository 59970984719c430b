"""Data that the tests of `bench.quality` share."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from support import data_file

from bench.quality.data import prepare
from export.history.interactions import COLUMNS
from flink_jobs.simulation.simulate import write_shop
from udfs.catalog.files import read_catalog
from udfs.events.files import read_events


@pytest.fixture(scope="module")
def shop_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command reads, of a small simulated shop."""
    folder = tmp_path_factory.mktemp("quality")
    write_shop(folder, events=1, sessions=1500, items=120, shoppers=80)
    events = pa.Table.from_batches([batch.select(COLUMNS) for batch in read_events(folder / "sessions.jsonl")])
    pacsv.write_csv(events, folder / "sessions.csv")
    catalog = read_catalog(folder / "catalog.jsonl")[0].select(["item_id", "title", "category", "brand", "price"])
    pacsv.write_csv(catalog, folder / "items.csv")
    return folder


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder made of yoochoose_100k."""
    file = data_file("yoochoose_100k", "yoochoose-clicks-100k_train_tr.txt.gz")
    folder = tmp_path_factory.mktemp("clicks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOPSTREAM_DATA", str(file.parents[1]))
        prepare("yoochoose_100k", folder)
    return folder
