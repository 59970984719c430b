"""Encodes texts with BERT into unit vectors, each of which depends on its text alone."""

import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from udfs.bundles.bundle import Bundle
from udfs.bundles.manifest import EncoderInfo
from udfs.core.arrays import Bools, Ints
from udfs.core.errors import ShopstreamError
from udfs.encoder.batching import Batch, TokenizedTexts, exact_batches, padded_batches
from udfs.encoder.loading import call_limits, load
from udfs.encoder.options import EncoderOptions
from udfs.encoder.pooling import POOLINGS, normalize
from udfs.encoder.selection import Choice, choose, is_gpu

log = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]

#: Before tokenising, a text is cut at this many characters per token of the model's limit.
CHARACTERS_PER_TOKEN = 64

#: Texts that are tokenised together, ahead of the model.
CHUNK = 8192

WARM_UP = ["", "mug", "stoneware mug", "stoneware mug, speckled blue", "stoneware mug, speckled blue, 350 ml"] * 8


@dataclass(frozen=True)
class EncoderFiles:
    """The files of one encoder variant. key: stands for the model's content; equal keys share one loaded model."""

    model: Path
    tokenizer: Path
    info: EncoderInfo
    precision: str
    key: str

    @classmethod
    def of_bundle(cls, bundle: Bundle, variant: str) -> "EncoderFiles":
        """Return the files of a bundle's variant."""
        info = bundle.manifest.encoder
        key = bundle.manifest.files[info.variants[variant].file].sha256
        return cls(bundle.variant_file(variant), bundle.tokenizer, info, info.variants[variant].precision, key)


@dataclass
class EncoderStats:
    """Encoder counters since start.

    texts: encoded; cached: found in the cache; failed: without a vector; batches: calls of the model, which took
    model_us microseconds. last_batches: (texts, microseconds) of the last calls, drained by the metrics reporter.
    """

    texts: int = 0
    tokens: int = 0
    truncated: int = 0
    failed: int = 0
    cached: int = 0
    batches: int = 0
    model_us: int = 0
    load_seconds: float = 0.0
    last_batches: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=1024))


class Encoder:
    """Encodes texts with one variant of a BERT.

    On a CPU, a batch holds texts of exactly the same token count, so there is no padding and a vector depends on its
    text alone, to the bit. On a GPU, batches are padded, which moves a vector by less than half precision does. While
    the model runs, the next CHUNK texts are tokenised.
    Longer texts are cut at the model's limit; what cannot be written in UTF-8 (a lone surrogate) becomes a question
    mark. A text on which the tokenizer or the model fails, or which gets no finite vector, has a vector of zeros, which
    says nothing about it; if they fail on every text, that is an error.
    """

    def __init__(self, files: EncoderFiles, choice: Choice, options: EncoderOptions) -> None:
        """Load the files on the choice's provider; ShopstreamError if it cannot be used."""
        start = time.perf_counter()
        self.info = files.info
        self.variant, self.provider = choice.variant, choice.provider
        self._tokenizer = Tokenizer.from_file(str(files.tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(files.info.max_tokens)
        self._runtime = load(files.model, files.key, files.precision, choice.provider, options)
        self._prefix = files.info.prefix
        self._query_prefix = self._prefix if files.info.query_prefix is None else files.info.query_prefix
        self._most_characters = CHARACTERS_PER_TOKEN * files.info.max_tokens
        self._pool = POOLINGS[files.info.pooling]
        self._batches = padded_batches if is_gpu(choice.provider) else exact_batches
        self._limits = call_limits(choice.provider, options, files.info.max_tokens)
        self._threads = ThreadPoolExecutor(self._limits.calls, "encoder") if self._limits.calls > 1 else None
        self._ahead = ThreadPoolExecutor(1, "tokenizer")
        self.stats = EncoderStats()
        self._encode(self.given(WARM_UP))
        self.stats = EncoderStats(load_seconds=time.perf_counter() - start)

    def encode(self, texts: Sequence[str], queries: Bools | None = None) -> Vectors:
        """Encode texts: float32 [texts, dimensions], of unit length if the model normalises, zeros where that fails.

        queries: bool [texts], which of them are searches; None: none is.
        """
        return self.encode_given(self.given(texts, queries))

    def given(self, texts: Sequence[str], queries: Bools | None = None) -> list[str]:
        """Return texts as the tokenizer gets them: cut, and with the prefix of a search or of any other text."""
        if queries is None or self._query_prefix == self._prefix:
            return [self._prefix + text[: self._most_characters] for text in texts]
        prefixes = np.where(queries, self._query_prefix, self._prefix).tolist()
        return [prefix + text[: self._most_characters] for prefix, text in zip(prefixes, texts, strict=True)]

    def encode_given(self, texts: Sequence[str]) -> Vectors:
        """Encode texts that have their prefixes: float32 [texts, dimensions], as `encode` does."""
        if not texts:
            return np.empty((0, self.info.dimensions), dtype=np.float32)
        try:
            return self._encode(texts)
        except Exception as error:
            if len(texts) > 1:
                half = len(texts) // 2
                return np.concatenate((self.encode_given(texts[:half]), self.encode_given(texts[half:])))
            self._encode(self.given(["mug"]))  # it is this text's fault only if another one has a vector
            if not self.stats.failed:
                log.warning("a text of %s characters, the first one, has no vector: %s", len(texts[0]), error)
            self.stats.failed += 1
            return np.zeros((1, self.info.dimensions), dtype=np.float32)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, which has its prefix; special ones included, cut at the model's limit."""
        return [encoding.ids for encoding in self._encodings(texts)]

    def run(self, ids: Ints, mask: Ints) -> Vectors:
        """Encode token ids: int64 [texts, tokens] to float32 [texts, dimensions]. mask: 0 where a token is padding."""
        hidden = self._runtime.run(ids, mask)
        if hidden.ndim == 2:  # pooled on the device
            return hidden
        vectors = self._pool(hidden, mask)
        return np.asarray(normalize(vectors) if self.info.normalize else vectors, dtype=np.float32)

    def _encode(self, texts: Sequence[str]) -> Vectors:
        """Encode texts into finite vectors; raise whatever the tokenizer or the model raises on any of them."""
        out = np.empty((len(texts), self.info.dimensions), dtype=np.float32)
        firsts = range(0, len(texts), CHUNK)
        tokenized = (self._ahead.map if len(firsts) > 1 else map)(
            lambda first: self._tokenize(texts[first : first + CHUNK]), firsts
        )
        for first, tokens in zip(firsts, tokenized, strict=True):
            self._encode_tokens(tokens, out[first : first + CHUNK])
        if not np.isfinite(out).all():
            raise ShopstreamError(f"encoder variant {self.variant} gives a vector that is not finite")
        self.stats.texts += len(texts)
        return out

    def _encode_tokens(self, tokens: TokenizedTexts, out: Vectors) -> None:
        """Run the model on tokenised texts, several batches at a time, into float32 [texts, dimensions]."""

        def encode_batch(batch: Batch) -> int:
            rows, width = batch
            ids, mask = tokens.padded(rows, width)
            began = time.perf_counter()
            out[rows] = self.run(ids, mask)
            return round((time.perf_counter() - began) * 1e6)

        batches = self._batches(tokens.lengths, self._limits)
        times = self._threads.map(encode_batch, batches) if self._threads else map(encode_batch, batches)
        for (rows, _), took_us in zip(batches, times, strict=True):
            self.stats.batches += 1
            self.stats.model_us += took_us
            self.stats.last_batches.append((len(rows), took_us))
        self.stats.tokens += len(tokens.ids)
        self.stats.truncated += tokens.truncated

    def _tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        return TokenizedTexts.of(self._encodings(texts))

    def _encodings(self, texts: Sequence[str]) -> list[Encoding]:
        try:
            return self._tokenizer.encode_batch_fast(list(texts))  # type: ignore[no-any-return]
        except (TypeError, UnicodeEncodeError):  # a lone surrogate, which JSON can carry
            repaired = [text.encode("utf-8", "replace").decode() for text in texts]
            return self._tokenizer.encode_batch_fast(repaired)  # type: ignore[no-any-return]


def open_encoder(bundle: Bundle, options: EncoderOptions | None = None) -> Encoder:
    """Open the bundle's encoder variant that suits the options and this machine.

    Falls back to the CPU, saying so, where the options allow it or named neither provider nor variant. Else
    ShopstreamError.
    """
    options = options or EncoderOptions()
    variants = bundle.manifest.encoder.variants
    choice = choose(variants, options)
    try:
        encoder = Encoder(EncoderFiles.of_bundle(bundle, choice.variant), choice, options)
    except ShopstreamError as error:
        automatic = options.provider == options.variant == "auto"
        if not (options.allow_fallback or automatic) or choice.provider == "cpu":
            raise
        log.warning("running on the CPU: %s", error)
        choice = choose(variants, replace(options, provider="cpu", variant="auto"))
        encoder = Encoder(EncoderFiles.of_bundle(bundle, choice.variant), choice, options)
    log.info("encoder variant %s on %s: %s", choice.variant, choice.provider, choice.reason)
    return encoder
