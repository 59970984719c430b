import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from bench.encode.text_sets import joined, make_text_sets, read_titles
from udfs.bundles.bundle import open_bundle
from udfs.core.errors import ShopstreamError


@pytest.fixture(scope="module")
def tokenizer(bundles: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(open_bundle(bundles).tokenizer))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@pytest.fixture(scope="module")
def titles(shop: Path) -> list[str]:
    return read_titles(shop / "catalog.jsonl").measured


def test_calibration_titles_are_not_measured(shop: Path):
    titles = read_titles(shop / "catalog.jsonl")
    assert len(titles.calibration) == 180
    assert len({*titles.calibration, *titles.measured}) == 600


def test_too_few_titles_are_refused(tmp_path: Path):
    items = [{"item_id": f"i{n}", "title": f"mug {n}"} for n in range(9)]
    (tmp_path / "few.jsonl").write_text("\n".join(map(json.dumps, items)))
    with pytest.raises(ShopstreamError, match=r"few\.jsonl has 9 distinct titles"):
        read_titles(tmp_path / "few.jsonl")


@pytest.mark.parametrize("prefix", ["", "query: "])
@pytest.mark.parametrize("tokens", [64, 256])
def test_joined_texts_have_exact_length(titles: list[str], tokenizer: Tokenizer, tokens: int, prefix: str):
    texts = joined(titles, tokens, 20, tokenizer, prefix)
    assert len(set(texts)) == 20
    assert {len(tokenizer.encode(prefix + text)) for text in texts} == {tokens}
    assert not texts[0].startswith("query")


def test_text_sets_are_reproducible(titles: list[str], tokenizer: Tokenizer):
    sets = {text_set.name: text_set for text_set in make_text_sets(titles, tokenizer, "", quick=True)}
    again = {text_set.name: text_set for text_set in make_text_sets(titles, tokenizer, "", quick=True)}
    assert sets == again
    assert set(sets["short"].texts) <= set(titles)
    assert [text_set.chunk for text_set in sets.values()] == [0, 0, 0, 256]


def test_stream_follows_zipf(titles: list[str], tokenizer: Tokenizer):
    stream = make_text_sets(titles, tokenizer, "", quick=False)[3].texts
    counts = np.array([stream.count(title) for title in titles])
    expected = len(stream) / np.arange(1, len(titles) + 1) ** 1.05
    expected /= (1 / np.arange(1, len(titles) + 1) ** 1.05).sum()
    assert np.allclose(counts[:20], expected[:20], rtol=0.25)
