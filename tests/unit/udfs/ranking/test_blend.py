from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.bundles.bundle import Bundle
from udfs.bundles.manifest import EncoderInfo, Manifest
from udfs.catalog.items import LiveItems
from udfs.contracts.rankings import RankedItem
from udfs.core.exact import SCORE_SCALE
from udfs.ranking.blend import BlendRanker
from udfs.ranking.options import RankOptions
from udfs.ranking.ranker import RankRequest
from udfs.sessions.columns import Sessions

DIMENSIONS = 384


def make_bundle(
    folder: Path, vectors: np.ndarray, co_visits: dict[tuple[int, int], float], popularity: list[float], sold_out: int
) -> Bundle:
    count = len(vectors)
    table = pa.table(
        {
            "item_id": [f"i{row}" for row in range(count)],
            "title": [f"title {row}" for row in range(count)],
            "category": pa.nulls(count, pa.string()),
            "brand": pa.nulls(count, pa.string()),
            "price": pa.nulls(count, pa.float64()),
            "in_stock": [row != sold_out for row in range(count)],
            "popularity": pa.array(popularity, pa.float64()),
        }
    )
    pq.write_table(table, folder / "items.parquet")
    np.save(folder / "item_vectors.npy", vectors.astype(np.float32))
    rows, columns = (np.array([key[side] for key in sorted(co_visits)], dtype=np.int32) for side in (0, 1))
    np.savez(
        folder / "co_visits.npz",
        indptr=np.searchsorted(rows, np.arange(count + 1)),
        indices=columns,
        data=np.array([co_visits[key] for key in sorted(co_visits)], dtype=np.float32),
    )
    encoder = EncoderInfo(256, "mean", True, "", DIMENSIONS, {})
    return Bundle(folder, Manifest(1, "test", "none", {}, encoder, count, 0, {}))


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.normal(size=(count, DIMENSIONS))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, np.ndarray]:
    rng = np.random.default_rng(1)
    vectors = unit(rng, 60)
    pairs = {
        (int(a), int(b)): float(w) for a, b, w in zip(*rng.integers(0, 60, (2, 200)), rng.random(200), strict=True)
    }
    popularity = rng.integers(0, 50, 60).astype(float).tolist()
    folder = tmp_path_factory.mktemp("shop")
    return make_bundle(folder, vectors, pairs, popularity, sold_out=7), vectors


def request_of(*sessions: list[int]) -> RankRequest:
    """One request per session of views; a session without items is one impression."""
    items = [[f"i{item}" for item in session] or ["i0"] for session in sessions]
    types = [["view"] * len(session) or ["impression"] for session in sessions]
    times = [np.arange(len(session)) for session in items]
    starts = [0] * len(sessions)
    counts = [len(session) for session in items]
    columns = {"event_time": times, "event_type": types, "item_id": items}
    return RankRequest(["nobody"] * len(sessions), Sessions.from_arrays(starts, starts, counts, **columns))


def ranked(shop: tuple[Bundle, np.ndarray], options: RankOptions, *sessions: list[int]) -> list[list[RankedItem]]:
    bundle, vectors = shop

    def encode(texts: Sequence[str], _queries: object) -> np.ndarray:
        rows = [int(text.removeprefix("title ")) for text in texts]
        return vectors[rows].astype(np.float32).reshape(-1, DIMENSIONS)

    return BlendRanker(bundle, LiveItems(bundle), options).rank(request_of(*sessions), encode)


def test_scores_follow_the_formula(shop: tuple[Bundle, np.ndarray]):
    bundle, vectors = shop
    options = RankOptions(k=60)
    items = [3, 11, 40]
    weight = np.rint(1024 * 0.8 ** np.array([2, 1, 0]))
    centre = weight @ vectors[items]
    cosine = vectors @ (centre / np.linalg.norm(centre))
    co_visits = bundle.co_visits()
    dense = np.zeros((60, 60))
    for row in range(60):
        part = slice(co_visits.offsets[row], co_visits.offsets[row + 1])
        dense[row, co_visits.columns[part]] = co_visits.weights[part]
    popular = np.log1p(bundle.items().popularity)
    expected = 0.6 * cosine + weight @ dense[items] / weight.sum() + 0.1 * popular / popular.max()
    for item in ranked(shop, options, items)[0]:
        assert item.score == pytest.approx(expected[int(item.item_id[1:])], abs=5e-4)


def test_reasons_add_up_and_quote_the_session(shop: tuple[Bundle, np.ndarray]):
    for item in ranked(shop, RankOptions(), [3, 11, 40])[0]:
        assert round(sum(reason.weight for reason in item.reasons) * SCORE_SCALE) == round(item.score * SCORE_SCALE)
        assert [reason.weight for reason in item.reasons] == sorted((r.weight for r in item.reasons), reverse=True)
        for reason in item.reasons:
            assert reason.because in ("title 3", "title 11", "title 40") or reason.source == "popularity"


def test_co_visits_name_their_item(tmp_path: Path):
    vectors = unit(np.random.default_rng(2), 4)
    bundle = make_bundle(tmp_path, vectors, {(0, 3): 0.2, (1, 3): 0.9}, [0.0] * 4, sold_out=2)
    (row,) = ranked((bundle, vectors), RankOptions(content=0.0), [0, 1])
    assert row[0].item_id == "i3"
    assert [(reason.source, reason.because) for reason in row[0].reasons] == [("co_visit", "title 1")]


def test_sold_out_and_seen_items_are_left_out(shop: tuple[Bundle, np.ndarray]):
    ids = {item.item_id for item in ranked(shop, RankOptions(k=60), [3, 11])[0]}
    assert ids == {f"i{row}" for row in range(60)} - {"i3", "i11", "i7"}
    again = {item.item_id for item in ranked(shop, RankOptions(k=60, exclude_seen=False), [3, 11])[0]}
    assert again == {f"i{row}" for row in range(60)} - {"i7"}


@pytest.mark.parametrize(("kind", "seen"), [("view", True), ("rate", True), ("search", False), ("impression", False)])
def test_only_interactions_make_an_item_seen(shop: tuple[Bundle, np.ndarray], kind: str, seen: bool):
    bundle, vectors = shop
    sessions = Sessions.from_arrays(
        [0], [0], [1], event_time=[[0]], event_type=[[kind]], item_id=[["i3"]], query=[["q"]]
    )
    request = RankRequest(["u"], sessions)
    ranker = BlendRanker(bundle, LiveItems(bundle), RankOptions(k=60))
    (answer,) = ranker.rank(request, lambda texts, _: vectors[[3] * len(texts)].astype(np.float32))
    assert ("i3" in {item.item_id for item in answer}) != seen


def test_sessions_without_signals_get_popular_items(shop: tuple[Bundle, np.ndarray]):
    (row,) = ranked(shop, RankOptions(), [])
    popularity = shop[0].items().popularity
    assert [item.rank for item in row] == list(range(1, 11))
    assert popularity[int(row[0].item_id[1:])] == popularity.max()
    assert {reason.source for item in row for reason in item.reasons} == {"popularity"}


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(0, 59), min_size=0, max_size=12), min_size=1, max_size=8), st.integers(1, 20))
def test_answers_do_not_depend_on_the_batch(shop: tuple[Bundle, np.ndarray], sessions: list[list[int]], k: int):
    options = RankOptions(k=k)
    together = ranked(shop, options, *sessions)
    assert ranked(shop, options, *sessions) == together
    for items, answer in zip(sessions, together, strict=True):
        assert ranked(shop, options, items) == [answer]
        assert [item.rank for item in answer] == list(range(1, len(answer) + 1))
        ids = {item.item_id for item in answer}
        assert len(ids) == len(answer) == k
        assert not ids & {f"i{item}" for item in (*items, 7)}  # seen, or sold out
        scores = [item.score for item in answer]
        assert scores == sorted(scores, reverse=True)
