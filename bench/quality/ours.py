"""Our contenders of `python -m bench quality`: the ranker of a job, trained by `export.ranker`, and its sources."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from export.bundle.build import export_bundle
from export.bundle.options import ExportOptions
from export.history.interactions import Interactions
from export.ranker.positions import Encode, candidates, request_of
from export.ranker.prior import FILE, open_prior
from export.ranker.train import LARGE_PARTS, Recipe, Shop, TrainedRanker, train_ranker
from udfs.bundles.bundle import Bundle, open_bundle
from udfs.candidates.content import ContentSimilarity
from udfs.candidates.source import sources_except
from udfs.catalog.items import LiveItems
from udfs.core.arrays import Ints, position_in_group
from udfs.encoder.cache import CachedEncoder
from udfs.encoder.encoder import Encoder, open_encoder
from udfs.encoder.options import EncoderOptions
from udfs.ranking.model import open_ranker
from udfs.ranking.options import RankOptions
from udfs.ranking.ranker import Ranker

Vectors = npt.NDArray[np.float32]

#: Texts whose vectors are kept: all titles of a catalog.
CACHE = 2_000_000
#: Single sources, by the name of their row: the ranking feature that orders their candidates.
SOURCES = {
    "ours-text-only": "content",
    "ours-similar-sessions": "similar",
    "ours-co-visits": "beside",
    "ours-follows": "follows",
    "ours-history": "history",
    "ours-category": "category_share",
    "ours-listing": "listed_near",
    "ours-popularity": "popularity_recent",
}
#: Rankers of a shop without past sessions: the prior, and the blend.
WITHOUT_SESSIONS = ("ours-prior", "ours-blend")
#: The ranker without one source, or without one trick of its training, by the name of their row. Without titles it is
#: ours-no-text.
ABLATIONS: Mapping[str, Recipe] = {
    **{
        f"ours-without-{source.replace('_', '-')}": Recipe(without=frozenset({source}))
        for source in sorted(sources_except({ContentSimilarity.name}))
    },
    "ours-without-hidden-items": Recipe(hidden_share=0.0),
    "ours-without-more-origins": Recipe(origins=LARGE_PARTS),
}
OURS = ("ours", "ours-no-text", *SOURCES, *WITHOUT_SESSIONS, *ABLATIONS)
WITHOUT_TEXT = ("ours-no-text", *(name for name in SOURCES if name != "ours-text-only"))
#: Ranking features that are shown with the ranker, the most important ones.
SHOWN_FEATURES = 8


class Texts:
    """The vectors of titles, each encoded once for all contenders and draws."""

    def __init__(self, bundles: Path | None) -> None:
        self._bundles = bundles
        self._vectors: dict[str, Vectors] = {}
        self._encode: Encode = _no_text
        self._reference: Encoder | None = None

    def of(self, items: pa.Table, catalog: pa.Table) -> tuple[Vectors, Encode]:
        """float32 [items, dimensions], zero for items without a title, and a function that encodes as a job does."""
        if self._reference is None:
            with TemporaryDirectory(prefix="shopstream-texts-") as folder:
                bundle = open_bundle(self._bundles) if self._bundles else _exported(catalog, Path(folder))
                self._encode = CachedEncoder(open_encoder(bundle), CACHE).encode
                self._reference = open_encoder(bundle, EncoderOptions(variant="fp32"))
        titles = dict(zip(catalog["item_id"].to_pylist(), catalog["title"].to_pylist(), strict=True))
        new = [title for title in dict.fromkeys(titles.values()) if title not in self._vectors]
        if new:
            self._vectors |= zip(new, self._reference.encode(new), strict=True)
        zero = np.zeros_like(next(iter(self._vectors.values())))
        of_item = {item: self._vectors[title] for item, title in titles.items()}
        return np.stack([of_item.get(item, zero) for item in items["item_id"].to_pylist()]), self._encode


def _exported(catalog: pa.Table, folder: Path) -> Bundle:
    pq.write_table(catalog, folder / "catalog.parquet")
    options = ExportOptions(catalog=folder / "catalog.parquet", out=folder / "bundles", variants=("fp32", "int8"))
    return export_bundle(options, Console(quiet=True)).bundle


class Ours:
    """The learned ranker, or one of its sources. texts: the vectors of titles, None if titles are not to be read.

    prior: the file of the ranker of a shop without sessions.
    """

    def __init__(self, name: str, texts: Texts | None, *, repeats: bool, prior: Path = FILE) -> None:
        self.name = name
        self._prior = prior
        self.parameters: dict[str, Any] = {}
        self._texts = texts
        self._repeats = repeats
        self._encode: Encode
        self.ranker: Ranker

    def fit(self, train: Interactions, catalog: pa.Table | None) -> None:
        """Train a ranker, and load what its sources read."""
        shop = shop_of(train, catalog, self._texts)
        self._row_of = {item: row for row, item in enumerate(train.items)}
        self._encode = shop.encode
        with TemporaryDirectory(prefix="shopstream-quality-") as folder:
            self._learn(shop, Path(folder))

    def _learn(self, shop: Shop, folder: Path) -> None:
        past = shop.log.part(0, 0) if self.name in WITHOUT_SESSIONS else shop.log
        if self.name in SOURCES:
            self.generator = shop.generator(past, folder, recommend_seen=self._repeats)
            return
        (folder / "learning").mkdir()
        learned = self._learned(shop, folder / "learning")
        bundle = shop.bundle(past, folder, learned)
        self.ranker = open_ranker(bundle, LiveItems(bundle), RankOptions(k=20, exclude_seen=not self._repeats))
        if learned is None:
            return
        by_importance = sorted(learned.importance.items(), key=lambda feature: -feature[1])
        self.parameters = {name: round(share, 3) for name, share in by_importance[:SHOWN_FEATURES]}

    def _learned(self, shop: Shop, folder: Path) -> TrainedRanker | None:
        """Return the trees of this row; None for the blend, which has none."""
        if self.name == "ours-blend":
            return None
        if self.name == "ours-prior":
            return open_prior(shop, folder, self._prior)
        return train_ranker(shop, folder, replace(ABLATIONS.get(self.name, Recipe()), recommend_seen=self._repeats))

    def predict(self, prefixes: Interactions, k: int, *, repeats: bool) -> Ints:
        """Return int64 [S, k], see bench.quality.contenders.Contender."""
        if repeats != self._repeats:
            raise ValueError("a ranker is trained with repeats or without")
        return self._by_source(prefixes, k) if self.name in SOURCES else self._by_ranker(prefixes, k)

    def _by_source(self, prefixes: Interactions, k: int) -> Ints:
        lists = np.full((len(prefixes), k), -1)
        for first in range(0, len(prefixes), self.generator.max_sessions):
            part = prefixes.part(first, min(first + self.generator.max_sessions, len(prefixes)))
            found = candidates(self.generator, part, self._encode)
            score = found.features[:, self.generator.feature_names.index(SOURCES[self.name])]
            session, item = best(found.session, found.item, score, k)
            lists[first + session, position_in_group(session)] = item
        return lists

    def _by_ranker(self, prefixes: Interactions, k: int) -> Ints:
        lists = np.full((len(prefixes), k), -1)
        for number, ranked in enumerate(self.ranker.rank(request_of(prefixes), self._encode)):
            rows = [self._row_of[item.item_id] for item in ranked[:k]]
            lists[number, : len(rows)] = rows
        return lists


def our_contenders(texts: Texts, *, repeats: bool, prior: Path = FILE) -> Mapping[str, Callable[[], Ours]]:
    """A function per row of ours that makes its contender. texts: the vectors of titles, which they share."""
    return {
        name: partial(Ours, name, None if name in WITHOUT_TEXT else texts, repeats=repeats, prior=prior)
        for name in OURS
    }


def best(session: Ints, item: Ints, score: Vectors, k: int) -> tuple[Ints, Ints]:
    """Session and item of the k highest positive scores per session, best first; ties go to the lower item number."""
    order = np.lexsort((item, -score, session))
    order = order[score[order] > 0]
    order = order[position_in_group(session[order]) < k]
    return session[order], item[order]


def shop_of(train: Interactions, catalog: pa.Table | None, texts: Texts | None) -> Shop:
    """Return what a ranker learns from. texts: None if titles are not to be read."""
    items = _table(train.items, catalog)
    vectors: Vectors = np.zeros((len(items), 1), np.float32)
    encode: Encode = _no_text
    if catalog is not None and texts is not None:
        vectors, encode = texts.of(items, catalog)
    return Shop(train, items, vectors, encode)


def _no_text(texts: Sequence[str], _queries: Any) -> Vectors:
    return np.zeros((len(texts), 1), np.float32)


def _table(ids: Sequence[str], catalog: pa.Table | None) -> pa.Table:
    """One row per item, in the order of their numbers; the id stands in for a missing title."""
    known = {} if catalog is None else {row["item_id"]: row for row in catalog.to_pylist()}
    rows = [known.get(item, {}) for item in ids]
    columns = {name: [row.get(name) for row in rows] for name in ("category", "brand", "price")}
    return pa.table(
        {
            "item_id": pa.array(ids, pa.string()),
            "title": pa.array([row.get("title", item) for item, row in zip(ids, rows, strict=True)], pa.string()),
            "category": pa.array(columns["category"], pa.string()),
            "brand": pa.array(columns["brand"], pa.string()),
            "price": pa.array(columns["price"], pa.float64()),
            "in_stock": pa.array([True] * len(ids)),
        }
    )
