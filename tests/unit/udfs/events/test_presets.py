"""A small sample of each known kind of file, in its published form, as events or items."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from udfs.catalog.files import read_catalog
from udfs.core.errors import ShopstreamError
from udfs.events.columns import EVENTS
from udfs.events.files import plan_events, read_events
from udfs.events.presets import presets
from udfs.events.rejected import Rejected

RETAIL = """489434,85048,15CM GLASS BALL,12,2009-12-01 07:45:00,6.95,10001.0,United Kingdom
489434,85048,15CM GLASS BALL,12,2009-12-01 07:45:00,6.95,10001.0,United Kingdom
C489449,22087,PAPER BUNTING,-12,2009-12-01 10:33:00,2.95,10002.0,Australia
489464,21733,85123a mixed,-96,2009-12-01 10:52:00,0.0,,United Kingdom
A506401,B,Adjust bad debt,1,2010-04-29 13:36:00,-53594.36,10002.0,United Kingdom
"""
#: The file's name and content, and of its events (type, user, item, epoch ms); what is left out.
SAMPLES: dict[str, list[tuple[str, str, list[tuple[str, str, str | None, int]], int]]] = {
    "online_retail": [
        (
            "retail.csv",
            "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n" + RETAIL,
            [("purchase", "10001", "85048", 1259653500000)] * 2,
            3,
        ),
    ],
    "online_retail_ii": [
        (
            "retail2.csv",
            "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n" + RETAIL,
            [("purchase", "10001", "85048", 1259653500000)] * 2,
            3,
        ),
    ],
    "yoochoose": [
        ("y.txt", "SessionId\tItemId\tTime\n3\t2147\t1396437466.94\n", [("click", "3", "2147", 1396437466940)], 0),
        (
            "yoochoose-clicks.dat",
            "1,2014-04-07T10:51:09.277Z,214536502,0\n1,2014-04-07T10:54:09.868Z,214536500,S\n",
            [("click", "1", "214536502", 1396867869277), ("click", "1", "214536500", 1396868049868)],
            0,
        ),
        (
            "yoochoose-buys.dat",
            "420374,2014-04-06T18:44:58.314Z,214537888,12462,1\n420374,2014-04-06T18:44:58.325Z,214537850,0,0\n",
            [("purchase", "420374", "214537888", 1396809898314), ("purchase", "420374", "214537850", 1396809898325)],
            0,
        ),
    ],
    "rees46": [
        (
            "rees46.csv",
            """event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session
2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,acme,35.79,500000001,s-1
2019-10-01 00:00:09 UTC,cart,44600062,2103807459595387724,,acme,0.00,500000001,s-1
""",
            [
                ("view", "500000001", "44600062", 1569888000000),
                ("add_to_cart", "500000001", "44600062", 1569888009000),
            ],
            0,
        ),
    ],
    "retailrocket": [
        (
            "events.csv",
            """timestamp,visitorid,event,itemid,transactionid
1433221332117,100001,view,355908,
1433221999827,100001,addtocart,355908,
1433222276276,100001,transaction,355908,4000
""",
            [
                ("view", "100001", "355908", 1433221332117),
                ("add_to_cart", "100001", "355908", 1433221999827),
                ("purchase", "100001", "355908", 1433222276276),
            ],
            0,
        ),
    ],
    "diginetica": [
        (
            "train-item-views.csv",
            "sessionId;userId;itemId;timeframe;eventdate\n1;NA;81766;526309;2016-05-09\n",
            [("view", "1", "81766", 1462752526309)],
            0,
        ),
        (
            "train-purchases.csv",
            "sessionId;userId;timeframe;eventdate;ordernumber;itemId\n150;18278;17100868;2016-05-06;16421;25911\n",
            [("purchase", "150", "25911", 1462509900868)],
            0,
        ),
    ],
    "otto": [
        (
            "train.jsonl",
            json.dumps(
                {
                    "session": 12899779,
                    "events": [
                        {"aid": 59625, "ts": 1661724000278, "type": "clicks"},
                        {"aid": 59625, "ts": 1661724058352, "type": "carts"},
                        {"aid": 59625, "ts": 1661724109199, "type": "orders"},
                    ],
                }
            ),
            [
                ("click", "12899779", "59625", 1661724000278),
                ("add_to_cart", "12899779", "59625", 1661724058352),
                ("purchase", "12899779", "59625", 1661724109199),
            ],
            0,
        ),
    ],
    "taobao": [
        (
            "UserBehavior.csv",
            "1,2268318,2520377,pv,1511544070\n1,2333346,2520771,buy,1511561733\n1,2576651,149192,fav,1511572885\n",
            [("view", "1", "2268318", 1511544070000), ("purchase", "1", "2333346", 1511561733000)],
            1,
        ),
    ],
    "ga4": [
        (
            "ga4.json",
            "\n".join(
                json.dumps({"event_timestamp": "1611817838123456", "user_pseudo_id": "7.1"} | row)
                for row in (
                    {"event_name": "session_start", "items": []},
                    {
                        "event_name": "purchase",
                        "items": [
                            {"item_id": "SKU1", "price": 5.5, "quantity": 1},
                            {"item_id": "SKU2", "price": 2, "quantity": 3},
                        ],
                    },
                    {
                        "event_name": "view_search_results",
                        "items": [],
                        "event_params": [{"key": "search_term", "value": {"string_value": "mug"}}],
                    },
                )
            ),
            [
                ("purchase", "7.1", "SKU1", 1611817838123),
                ("purchase", "7.1", "SKU2", 1611817838123),
                ("search", "7.1", None, 1611817838123),
            ],
            1,
        ),
    ],
    "segment": [
        (
            "track.jsonl",
            "\n".join(
                json.dumps({"type": "track", "timestamp": "2026-01-01T00:00:00.250Z"} | row)
                for row in (
                    {
                        "messageId": "m1",
                        "userId": None,
                        "anonymousId": "c-77",
                        "event": "Product Viewed",
                        "properties": {"product_id": "a", "price": 5},
                    },
                    {
                        "messageId": "m2",
                        "userId": "u1",
                        "anonymousId": "c-77",
                        "event": "Order Completed",
                        "properties": {"products": [{"product_id": "a", "quantity": 2}, {"product_id": "b"}]},
                    },
                    {
                        "messageId": "m3",
                        "userId": "u1",
                        "anonymousId": "c-77",
                        "event": "Signed In",
                        "properties": {},
                    },
                )
            ),
            [
                ("view", "c-77", "a", 1767225600250),
                ("purchase", "u1", "a", 1767225600250),
                ("purchase", "u1", "b", 1767225600250),
            ],
            1,
        ),
    ],
}

ITEMS: dict[str, tuple[str, str, list[dict[str, Any]]]] = {
    "google_merchant": (
        "feed.tsv",
        "id\ttitle\tavailability\tprice\tproduct type\nA1\tMug\tin stock\t15.00 USD\tHome > Kitchen\n",
        [{"item_id": "A1", "title": "Mug", "category": "Home > Kitchen", "price": 15.0, "in_stock": True}],
    ),
    "shopify": (
        "products_export.csv",
        """Handle,Title,Body (HTML),Vendor,Type,Variant SKU,Variant Inventory Qty,Variant Price
mug,Blue mug,"<p>A mug,
blue</p>",Acme,Kitchen,M-S,0,5.00
mug,,,,,M-L,3,7.00
pot,Pot,,Acme,,P,0,9.00
""",
        [
            {"item_id": "mug", "title": "Blue mug", "description": "<p>A mug,\nblue</p>", "category": "Kitchen"}
            | {"brand": "Acme", "price": 5.0, "in_stock": True},
            {"item_id": "pot", "title": "Pot", "brand": "Acme", "price": 9.0, "in_stock": False},
        ],
    ),
}


def test_every_preset_has_a_sample():
    assert {*SAMPLES, *ITEMS} == {*presets()}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("how", ["auto", "named"])
def test_preset_reads_the_published_form(tmp_path: Path, name: str, how: str):
    for file, content, expected, left_out in SAMPLES[name]:
        path = tmp_path / file
        path.write_text(content)
        taken = Rejected()
        batches = read_events(path, preset="auto" if how == "auto" else name, rejected=taken)
        rows = pa.Table.from_batches(batches, EVENTS).to_pylist()
        assert [(row["event_type"], row["user_id"], row["item_id"], row["event_time"]) for row in rows] == expected
        assert len({row["event_id"] for row in rows}) == len(rows)
        assert (taken.rejected, taken.left_out.total()) == ({}, left_out)
        assert plan_events(path)[1].preset == name


@pytest.mark.parametrize("name", ITEMS)
def test_catalog_preset_reads_the_published_form(tmp_path: Path, name: str):
    file, content, expected = ITEMS[name]
    path = tmp_path / file
    path.write_text(content)
    for preset in ("auto", name):
        rows = read_catalog(path, preset=preset)[0].to_pylist()
        assert [{key: value for key, value in row.items() if value is not None} for row in rows] == expected
    with pytest.raises(ShopstreamError, match="has no events"):
        read_events(path, preset=name)


def test_retail_tells_what_it_leaves_out_and_repeats(tmp_path: Path):
    file, content, _, _ = SAMPLES["online_retail_ii"][0]
    (tmp_path / file).write_text(content)
    taken = Rejected()
    list(read_events(tmp_path / file, rejected=taken))
    assert taken.left_out == {
        "a cancelled invoice": 1,
        "a return or write-off (quantity below 1)": 1,
        "a write-off (price below 0)": 1,
    }
    assert taken.noted == {"rows say the same as the row before; both are read": 1}


def test_dates_of_the_other_copy_of_retail_are_settled_by_an_option(tmp_path: Path):
    """The copy that people have writes 12/1/2010 8:26, month first."""
    path = tmp_path / "kaggle.csv"
    head = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
    path.write_text(head + "536365,85123A,WHITE HANGING HEART,6,12/1/2010 8:26,2.55,17850,United Kingdom\n")
    with pytest.raises(ShopstreamError, match=r"day and month cannot be told apart: .*--read dates=month-first"):
        list(read_events(path))
    (batch,) = read_events(path, options={"dates": "month-first"})
    assert batch["event_time"].to_pylist() == [1291191960000]


def test_missing_words_of_a_preset_are_its_own(tmp_path: Path):
    path = tmp_path / "e.csv"
    path.write_text("event_type,user_id,event_time,item_id\nview,NA,1767225600000,NA\n")
    (batch,) = read_events(path)
    assert batch["item_id"].to_pylist() == ["NA"]
