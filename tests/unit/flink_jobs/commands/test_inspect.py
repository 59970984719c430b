"""What `inspect` tells of a file before it is sent, and that its --map line reads the file."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from flink_jobs.cli import main
from flink_jobs.commands.inspect import inspect_file
from udfs.core.errors import ShopstreamError
from udfs.events.files import read_events
from udfs.events.mapping import parse_mapping
from udfs.events.rejected import Rejected


def inspected(path: Path, *maps: str, **options: str):
    return inspect_file(path, mapping=parse_mapping(maps), preset="auto", options=options)


def test_strange_columns_get_a_map_line(tmp_path: Path):
    path = tmp_path / "log.csv"
    path.write_text("visitor;when;SKU;did\nu;2026-01-01 10:00;i;cart\nu;2026-01-01 10:01;i;view\nu;soon;i;view\n")
    found = inspected(path)
    assert found.columns == {"visitor": "user_id", "when": "event_time", "SKU": "item_id", "did": "event_type"}
    assert found.suggested["event_type:cart"] == "add_to_cart"
    assert found.counts["rejected"] == {"event_type: none of the contract's": 1, "event_time: no time": 1}
    assert "line 4: column 'when' should be event_time" in found.examples["event_time: no time"]
    assert [row["event_id"] for row in found.shown] == ["log-3"]
    pairs = [word for word in shlex.split(found.map_line) if word != "--map"]
    rejected = Rejected()
    (batch,) = read_events(path, mapping=parse_mapping(pairs), rejected=rejected)
    assert batch["event_type"].to_pylist() == ["add_to_cart", "view"]


def test_catalogs_are_inspected_as_items(tmp_path: Path):
    path = tmp_path / "feed.tsv"
    path.write_text("id\ttitle\tavailability\tprice\nA1\tMug &amp; spoon\tin stock\t15.00 USD\nA2\tPot\tperhaps\t\n")
    found = inspected(path)
    assert (found.kind, found.preset, found.rows) == ("items", "google_merchant", 1)
    assert found.shown == [{"item_id": "A1", "title": "Mug & spoon", "price": 15.0, "in_stock": True}]
    path = tmp_path / "c.csv"
    path.write_text("sku,name\n1,Mug\n")
    assert inspected(path).map_line == "--map item_id=sku --map title=name"


def test_orders_without_a_type_are_taken_for_purchases(tmp_path: Path):
    path = tmp_path / "orders.csv"
    path.write_text("invoice,customer,product,date\n1,u,i,12/1/2010\n")
    found = inspected(path)
    assert found.suggested["event_type"] == "const:purchase"
    assert (found.shown, list(found.counts["rejected"])) == ([], ["event_time: day and month cannot be told apart"])
    assert inspected(path, dates="month-first").rows == 1


def test_what_no_command_can_read_is_an_error(tmp_path: Path):
    path = tmp_path / "e.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ShopstreamError, match="no column"):
        inspected(path)


def test_command_prints_text_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def said(*more: str) -> str:
        monkeypatch.setattr(sys, "argv", ["shopstream", "inspect", "rr.csv", *more])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    monkeypatch.chdir(tmp_path)
    Path("rr.csv").write_text("timestamp,visitorid,event,itemid,transactionid\n1433221332117,1,addtocart,3,\n")
    assert "preset: retailrocket (Retailrocket (Kaggle), events.csv)" in said()
    assert "read 1 events from 1 rows" in said()
    assert json.loads(said("--json"))["shown"][0]["event_type"] == "add_to_cart"
    assert [file.name for file in tmp_path.iterdir()] == ["rr.csv"]
