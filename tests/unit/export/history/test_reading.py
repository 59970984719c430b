import json
from pathlib import Path

from export.history.reading import Reading, read_history

HOUR = 3_600_000


def lines(file: Path, rows: list[dict[str, object]]) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_history_is_read_into_one_value(tmp_path: Path):
    items = [{"item_id": name, "title": f"title {name}"} for name in "ba"] + [{"item_id": "c", "title": " "}]
    events = [
        ("u", 0, "view", "a", None),
        ("u", 1000, "search", None, "mug"),
        ("u", 2000, "view", "b", None),
        ("u", 3000, "view", "gone", None),
        ("v", 0, "search", None, "cup"),
        ("w", 0, "impression", "a", None),
    ]
    names = ("user_id", "event_time", "event_type", "item_id", "query")
    rows = [dict(zip(names, row, strict=True)) | {"event_id": str(number)} for number, row in enumerate(events)]
    history = read_history(
        lines(tmp_path / "catalog.jsonl", items),
        lines(tmp_path / "sessions.jsonl", rows),
        mapping={},
        gap_ms=HOUR,
        bundles=tmp_path,
    )
    assert (history.titles, history.untitled) == (["title a", "title b"], 1)
    assert (history.interactions.items, history.interactions.item.tolist()) == (["a", "b"], [0, 1])
    assert (history.sessions, history.queries) == (2, ["cup", "mug"])


def test_history_without_past_has_no_sessions(tmp_path: Path):
    catalog = lines(tmp_path / "catalog.jsonl", [{"item_id": "a", "title": "mug"}])
    history = read_history(catalog, None, mapping={}, gap_ms=HOUR, bundles=tmp_path)
    assert (len(history.interactions), history.sessions, history.queries) == (0, 0, [])


def test_history_takes_presets_folders_and_bad_rows(tmp_path: Path):
    folder = tmp_path / "sessions"
    folder.mkdir()
    header = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
    for day, kind in ((1, "view"), (2, "cart"), (3, "gone")):
        row = f"2019-10-0{day} 00:00:00 UTC,{kind},a,1,,acme,35.79,5,s-{day}\n"
        (folder / f"part-{day}.csv").write_text(header + row)
    feed = tmp_path / "feed.tsv"
    feed.write_text("id\ttitle\tavailability\na\tMug\tin stock\nb\tPot\tperhaps\n")
    reading = Reading()
    history = read_history(feed, folder, mapping={}, gap_ms=HOUR, bundles=tmp_path, reading=reading)
    assert (history.titles, len(history.interactions)) == (["Mug"], 2)
    assert reading.items.rejected == {"in_stock: no stock": 1}
    assert reading.sessions.rejected == {"event_type: none of the contract's": 1}
    named = Reading(preset="rees46")
    assert len(read_history(feed, folder, mapping={}, gap_ms=HOUR, bundles=tmp_path, reading=named).interactions) == 2
