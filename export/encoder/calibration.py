"""Chooses the texts that int8 is calibrated on and those that variants are measured on."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from export.encoder.batches import exact_length_batches, vocabulary_texts
from export.encoder.quantize import Activation, calibrate
from export.encoder.source import SourceModel
from udfs.core.errors import ShopstreamError

#: Variants are measured on at most this many texts.
HELD_BACK = 500
#: Texts of words from the model's vocabulary that calibrate as well.
VOCABULARY_TEXTS = 256
#: Long texts that calibrate as well.
JOINED_TEXTS = 32
#: The shop's texts that are joined in each of these.
JOINED = 24


def split_texts(texts: list[str], wanted: int, file: Path | None, prefix: str = "") -> tuple[list[str], list[str]]:
    """Split texts into those to calibrate on and those to measure on, by a shuffle that is always the same.

    At most half of the distinct texts calibrate; a single text serves for both. With a calibration file, which has one
    text per line, `wanted` of its texts calibrate, and none of them measures. prefix: goes before these; texts have it.
    """
    distinct = _shuffled(texts)
    if file is not None:
        calibration = [prefix + line for line in _lines(file, wanted)]
        used = set(calibration)
        others = [text for text in distinct if text.strip() not in used]
        if not others:
            raise ShopstreamError(f"--calibration {file} holds every text of the shop; leave some to measure on")
        return calibration, others[:HELD_BACK]
    count = min(wanted, (len(distinct) + 1) // 2)
    calibration, rest = distinct[:count], distinct[count:][:HELD_BACK]
    return calibration, rest or calibration


def calibrate_on(
    texts: list[str], source: SourceModel, fp32: Path, tokenizer: Path, more: int
) -> dict[str, Activation]:
    """Calibrate on these texts. With `more`, calibrate also on some of them joined and on `more` vocabulary texts.

    These make a few short texts calibrate as well as many different ones. texts: with their prefixes.
    """
    if more:
        joined = [", ".join(texts[start : start + JOINED]) for start in range(0, JOINED_TEXTS * JOINED, JOINED)]
        words = [source.prefix + text for text in vocabulary_texts(tokenizer, more)]
        texts = texts + [text for text in joined if text] + words
    return calibrate(fp32, list(exact_length_batches(tokenizer, texts, source.max_tokens)))


def _shuffled(texts: Iterable[str]) -> list[str]:
    """Return the distinct texts in an order that is always the same."""
    distinct = np.array(sorted(set(texts)), dtype=object)
    np.random.default_rng(0).shuffle(distinct)
    return distinct.tolist()  # type: ignore[no-any-return]


def _lines(file: Path, wanted: int) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ShopstreamError(f"--calibration {file} cannot be read: {error}") from error
    if not any(lines):
        raise ShopstreamError(f"--calibration {file} has no text; it should have one per line")
    return _shuffled(filter(None, lines))[:wanted]
