"""The texts that encoders are measured on: titles of a catalog as they are, joined, and as a stream with repeats."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from bench.environment import ROOT
from flink_jobs.simulation.catalog import make_catalog
from udfs.catalog.files import read_catalog
from udfs.core.errors import ShopstreamError

#: Texts per call of the stream, about as many as a job would pass.
CHUNK = 256
#: Exponent of the stream's Zipf distribution over the titles.
ZIPF = 1.05
#: At most this many titles, and at most this share of all, are for calibration only.
CALIBRATION = 1000
CALIBRATION_SHARE = 0.3


@dataclass(frozen=True)
class Titles:
    """Distinct titles in random order, part of them for calibration only, and their origin for people."""

    origin: str
    calibration: list[str]
    measured: list[str]


@dataclass(frozen=True)
class TextSet:
    """Texts to encode in calls of `chunk` (0: all in one call), and a short description."""

    name: str
    about: str
    texts: list[str]
    chunk: int = 0


def read_titles(catalog: Path | None) -> Titles:
    """Titles of a catalog; without one, of Online Retail if SHOPSTREAM_DATA has it, else of a simulated shop."""
    data = Path(os.environ.get("SHOPSTREAM_DATA", ROOT.parent / "shared" / "data"))
    retail = data / "online_retail" / "online_retail.csv.gz"
    if catalog is None and not retail.is_file():
        origin = "a simulated shop"
        found = [str(item["title"]) for item in make_catalog(3000)]
    else:
        origin = catalog.name if catalog else "Online Retail"
        found = read_catalog(catalog or retail)[0]["title"].to_pylist()
    titles = [str(title) for title in np.random.default_rng(0).permutation(sorted(set(found)))]
    count = min(CALIBRATION, int(len(titles) * CALIBRATION_SHARE))
    if count < 20:
        raise ShopstreamError(f"{origin} has {len(titles)} distinct titles; the benchmark needs 70 or more")
    return Titles(f"{len(titles):,} titles of {origin}", titles[:count], titles[count:])


def make_text_sets(titles: Sequence[str], tokenizer: Tokenizer, prefix: str, *, quick: bool) -> list[TextSet]:
    """Make short, tokens64, tokens256 and zipf, the same every time; token counts include the prefix."""
    count, count64, count256, stream = (200, 24, 12, 1024) if quick else (3000, 160, 48, 4096)
    short = list(titles[:count])
    lengths = [len(encoding) for encoding in tokenizer.encode_batch_fast([prefix + text for text in short])]
    shares = 1 / np.arange(1, len(titles) + 1) ** ZIPF
    drawn = np.random.default_rng(1).choice(len(titles), stream, p=shares / shares.sum())
    return [
        TextSet("short", f"{len(short):,} titles, {np.mean(lengths):.0f} tokens on average", short),
        TextSet("tokens64", f"{count64} texts of 64 tokens", joined(titles, 64, count64, tokenizer, prefix)),
        TextSet("tokens256", f"{count256} texts of 256 tokens", joined(titles, 256, count256, tokenizer, prefix)),
        TextSet(
            "zipf",
            f"{stream:,} titles, {len(set(drawn)):,} of them distinct, Zipf {ZIPF}, {CHUNK} at a time",
            [titles[index] for index in drawn],
            CHUNK,
        ),
    ]


def calibration_texts(titles: Sequence[str]) -> list[str]:
    """Make 300 texts (NNCF's default number): single titles, 8 joined and 32 joined.

    With single titles only, NNCF's int8 has a mean cosine of .952 instead of .985 on 256 tokens (all-MiniLM-L6-v2).
    """
    rng = np.random.default_rng(2)
    sizes = [1] * 200 + [8] * 60 + [32] * 40
    return [", ".join(titles[index] for index in rng.integers(len(titles), size=size)) for size in sizes]


def joined(titles: Sequence[str], tokens: int, count: int, tokenizer: Tokenizer, prefix: str = "") -> list[str]:
    """Make `count` distinct texts of exactly `tokens` tokens from titles joined by commas.

    Special tokens and the prefix count. The tokenizer must neither pad nor truncate.
    """
    rng = np.random.default_rng(tokens)
    texts: dict[str, None] = {}
    for _ in range(10 * count):
        text = prefix + ", ".join(titles[index] for index in rng.integers(len(titles), size=tokens))
        encoding = tokenizer.encode(text)
        ends = [
            end for (_, end), special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True) if not special
        ]
        cut = text[: ends[tokens - (len(encoding) - len(ends)) - 1]]
        if len(tokenizer.encode(cut)) == tokens:  # a word cut in two may have other tokens
            texts[cut.removeprefix(prefix)] = None
        if len(texts) == count:
            return list(texts)
    raise ShopstreamError(f"no {count} texts of {tokens} tokens could be made from the catalog's titles")
