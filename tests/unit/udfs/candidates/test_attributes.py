from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from histories import bundle_of, of_letters, tiny

from export.ranker.positions import candidates, context_of
from udfs.candidates.attributes import CategoryAffinity


def test_prices_are_compared_with_the_sessions(tmp_path: Path):
    generator = bundle_of(tmp_path, tiny(("u", "abc"), ("v", "adb"), ("w", "ef")))
    found = candidates(generator, tiny(("v", "abc")), of_letters)
    against = found.features[:, generator.feature_names.index("price_against_session")]
    assert found.item.tolist() == [3, 4, 5]
    assert against.tolist() == pytest.approx([np.log(8 / np.sqrt(2 * 4))] * 3)


def test_categories_and_brands_by_hand(tmp_path: Path):
    log = tiny(("v", "aabd"), ("w", "ceec"))
    kinds = {"category": ["x", "x", "y", "y", "x", None], "brand": ["s", None, "t", None, "t", "t"]}
    generator = bundle_of(tmp_path, log, **kinds)
    found = candidates(generator, tiny(("v", "acb")), of_letters)
    assert found.item.tolist() == [3, 4, 5]
    d, e, f = (dict(zip(generator.feature_names, values, strict=True)) for values in found.features)
    assert [row["category_age"] for row in (d, e, f)] == [1, 0, 999]
    assert [row["brand_age"] for row in (d, e, f)] == [999, 1, 1]
    weights = np.array([0.8**2, 0.8, 1])  # of a, c and b
    in_x, of_t = 1 - 0.8 / weights.sum(), 0.8 / weights[:2].sum()
    assert [row["category_share"] for row in (d, e, f)] == pytest.approx([1 - in_x, in_x, 0])
    assert [row["brand_share"] for row in (d, e, f)] == pytest.approx([0, of_t, of_t])
    # Of v's four events before, three were in x and one in y; of brands, both were of s.
    assert [row["category_own"] for row in (d, e, f)] == [0.25, 0.75, 0]
    assert [row["brand_own"] for row in (d, e, f)] == [0, 0, 0]
    newest = generator.evidence(found, found.session, found.item)["category"]
    assert found.context.item[newest].tolist() == [2, 1, 2]  # f is of c's brand


def test_best_of_newest_and_main_category_are_generated(tmp_path: Path):
    ids = [f"i{number}" for number in range(60)]
    log = replace(tiny(*[("u", "a")] * 60), items=ids, item=np.arange(60))  # the later, the more popular of late
    category: list[str | None] = [*["x", "y", "z"] * 10, *[None] * 30]
    generator = bundle_of(tmp_path, log, category=category)
    (source,) = (source for source in generator._sources if isinstance(source, CategoryAffinity))

    def generated(*items: int) -> list[int]:
        sofar = replace(tiny(("new", "a" * len(items))), items=ids, item=np.array(items))
        context = context_of(generator, sofar, lambda texts, _: np.zeros((len(texts), 60), np.float32))
        return sorted(set(source.generate(source.prepare(context)).tolist()))

    of_x, of_y = list(range(0, 30, 3)), list(range(1, 30, 3))
    assert generated(0) == of_x
    assert generated(3, 0, 6, 1) == sorted(of_x + of_y)
    assert generated(59) == []
    new = {"item_id": ["n1", "n2"], "title": ["new", "newer"], "in_stock": [True, True], "price": [1.0, 1.0]}
    rest = {"category": ["x", "w"], "brand": [None] * 2, "encoder": ["other"] * 2, "vector": [None] * 2}
    generator.items.apply(pa.table(new | rest), lambda titles: np.zeros((len(titles), 60), np.float32))
    ids += ["n1", "n2"]
    generator.items.in_stock[27] = False
    generator.refresh()
    assert generated(0) == sorted({*of_x, 60} - {27})
    assert generated(61) == [61]
