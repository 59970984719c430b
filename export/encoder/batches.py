"""Turns texts into model inputs, in batches of one exact token count: no padding, exactly as the encoder runs them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

#: At most this many tokens per batch: with all intermediate tensors kept, one takes about 65 kB in a 6-layer MiniLM.
TOKENS = 2048

Feed = dict[str, npt.NDArray[np.int64]]


def exact_length_batches(tokenizer: Path, texts: Sequence[str], max_tokens: int) -> Iterator[Feed]:
    """Yield feeds of int64 [texts, tokens] under the names of BERT's inputs, shortest texts first."""
    tokens = Tokenizer.from_file(str(tokenizer))
    tokens.no_padding()
    tokens.enable_truncation(max_tokens)
    by_length = defaultdict(list)
    for encoding in tokens.encode_batch_fast(list(texts)):
        by_length[len(encoding)].append(encoding.ids)
    for length in sorted(by_length):
        step = max(1, TOKENS // length)
        for start in range(0, len(by_length[length]), step):
            ids = np.array(by_length[length][start : start + step], dtype=np.int64)
            yield {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def vocabulary_texts(tokenizer: Path, count: int) -> list[str]:
    """Draw texts of 1 to 11 words from the tokenizer's vocabulary, always the same.

    They drive a model's activations further out than a few titles of one shop do.
    """
    tokens = Tokenizer.from_file(str(tokenizer))
    decoded = (tokens.decode([token]).strip() for token in range(tokens.get_vocab_size()))
    words = sorted({word for word in decoded if word.isalpha()})
    rng = np.random.default_rng(0)
    return [" ".join(words[word] for word in rng.integers(len(words), size=rng.integers(1, 12))) for _ in range(count)]
