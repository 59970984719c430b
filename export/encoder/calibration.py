"""The texts that int8 is calibrated on and those that variants are measured on."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from export.encoder.quantize import Activation, calibrate
from export.encoder.source import SourceModel
from udfs.errors import ShopstreamError

HELD_BACK = 500


#: Texts that calibrate beside the shop's own: of words of the vocabulary, and of so many of the shop's joined.
VOCABULARY_TEXTS, JOINED_TEXTS, JOINED = 256, 32, 24


def _texts(texts: list[str], wanted: int, file: Path | None) -> tuple[list[str], list[str]]:
    """Texts to calibrate on and others to measure on, by a shuffle that is the same every time.

    At most half of the distinct texts calibrate; a single text has to serve for both. Of a calibration file, with a
    text a line, so many are drawn, and none of its texts measures.
    """
    distinct = _shuffled(texts)
    if file is not None:
        calibration = _lines(file, wanted)
        known = set(calibration)
        others = [text for text in distinct if text.strip() not in known]
        if not others:
            raise ShopstreamError(f"--calibration {file} holds every text of the shop; leave some to measure on")
        return calibration, others[:HELD_BACK]
    count = min(wanted, (len(distinct) + 1) // 2)
    calibration, rest = distinct[:count], distinct[count:][:HELD_BACK]
    return calibration, rest or calibration


def _shuffled(texts: Iterable[str]) -> list[str]:
    """The distinct texts, in an order that is the same every time."""
    distinct = np.array(sorted(set(texts)), dtype=object)
    np.random.default_rng(0).shuffle(distinct)
    return distinct.tolist()  # type: ignore[no-any-return]


def _lines(file: Path, wanted: int) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ShopstreamError(f"--calibration {file} cannot be read: {error}") from error
    if not any(lines):
        raise ShopstreamError(f"--calibration {file} has no text; it should have one a line")
    return _shuffled(filter(None, lines))[:wanted]


def _calibrate(source: SourceModel, draft: Path, texts: list[str], more: int) -> dict[str, Activation]:
    """Calibrate on these texts; with `more`, also on some of them joined and on so many made of the model's vocabulary.

    So that few and short texts do as well for others.
    """
    from export.encoder.batches import exact_length_batches, vocabulary_texts

    tokenizer = draft / "tokenizer.json"
    if more:
        joined = [", ".join(texts[start : start + JOINED]) for start in range(0, JOINED_TEXTS * JOINED, JOINED)]
        texts = texts + [text for text in joined if text] + vocabulary_texts(tokenizer, more)
    texts = [source.prefix + text for text in texts]
    return calibrate(draft / "encoder" / "fp32.onnx", list(exact_length_batches(tokenizer, texts, source.max_tokens)))
