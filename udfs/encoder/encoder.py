"""BERT: texts in, unit vectors out, each depending on its text alone."""

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
from udfs.core.errors import ShopstreamError
from udfs.encoder.loading import calls_at_a_time, load
from udfs.encoder.options import ROW_BUDGET, TOKEN_BUDGET, EncoderOptions
from udfs.encoder.runtime import Ids
from udfs.encoder.selection import Choice, choose

log = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]

#: A text is cut at so many characters a token of the model's limit before it is tokenised at all.
CHARACTERS_PER_TOKEN = 64

WARM_UP = ["", "mug", "stoneware mug", "stoneware mug, speckled blue", "stoneware mug, speckled blue, 350 ml"] * 8


@dataclass
class Stats:
    """What an encoder did since it was made: texts encoded, texts found in the cache, calls of the model and
    the microseconds that they took; failed: texts that have no vector.

    last_batches: (texts, microseconds) of the last calls, for whoever takes them off.
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
    """Encodes texts with one variant of a bundle's BERT.

    Texts are put into batches of one exact token count, so that there is no padding at all, and a batch stays
    under TOKEN_BUDGET tokens. Longer texts are cut at the model's limit; what cannot be written in UTF-8 (a lone
    surrogate) becomes a question mark. A text that tokenizer or model fail on, or that gets no finite vector, has a
    vector of zeros, which says nothing of it; where they fail on any text, that is an error.
    """

    def __init__(self, bundle: Bundle, options: EncoderOptions | None = None) -> None:
        options = options or EncoderOptions()
        encoder = bundle.manifest.encoder
        choice = choose(encoder.variants, options)
        try:
            self._open(bundle, choice, options)
        except ShopstreamError as error:
            automatic = options.provider == options.variant == "auto"
            if not (options.allow_fallback or automatic) or choice.provider == "cpu":
                raise
            log.warning("running on the CPU: %s", error)
            choice = choose(encoder.variants, replace(options, provider="cpu", variant="auto"))
            self._open(bundle, choice, options)
        log.info("encoder variant %s on %s: %s", choice.variant, choice.provider, choice.reason)

    def _open(self, bundle: Bundle, choice: Choice, options: EncoderOptions) -> None:
        variant = bundle.manifest.encoder.variants[choice.variant]
        key = bundle.manifest.files[variant.file].sha256
        file = bundle.variant_file(choice.variant)
        self._load(file, key, variant.precision, choice, bundle.tokenizer, bundle.manifest.encoder, options)

    @classmethod
    def from_files(
        cls, model: Path, tokenizer: Path, info: EncoderInfo, choice: Choice, precision: str, options: EncoderOptions
    ) -> "Encoder":
        """An encoder outside a bundle, as the export verifies it."""
        encoder = cls.__new__(cls)
        encoder._load(model, str(model), precision, choice, tokenizer, info, options)
        return encoder

    def _load(
        self,
        model: Path,
        key: str,
        precision: str,
        choice: Choice,
        tokenizer: Path,
        info: EncoderInfo,
        options: EncoderOptions,
    ) -> None:
        start = time.perf_counter()
        self.info = info
        self.variant, self.provider = choice.variant, choice.provider
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(info.max_tokens)
        self._runtime = load(model, key, precision, choice.provider, options)
        self._calls = calls_at_a_time(choice.provider, options)
        self._pool = ThreadPoolExecutor(self._calls, "encoder") if self._calls > 1 else None
        self.stats = Stats()
        self._encode(WARM_UP)
        self.stats = Stats(load_seconds=time.perf_counter() - start)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """float32 [texts, dimensions]; unit length if the model normalises, zeros for a text without a vector."""
        if not texts:
            return np.empty((0, self.info.dimensions), dtype=np.float32)
        try:
            return self._encode(texts)
        except Exception as error:
            if len(texts) > 1:
                half = len(texts) // 2
                return np.concatenate((self.encode(texts[:half]), self.encode(texts[half:])))
            self._encode(["mug"])  # it is the text's fault alone if another one has a vector
            if not self.stats.failed:
                log.warning("a text of %s characters, the first one, has no vector: %s", len(texts[0]), error)
            self.stats.failed += 1
            return np.zeros((1, self.info.dimensions), dtype=np.float32)

    def _encode(self, texts: Sequence[str]) -> Vectors:
        """float32 [texts, dimensions], all finite; raises whatever tokenizer or model raise on any of the texts."""
        out = np.empty((len(texts), self.info.dimensions), dtype=np.float32)
        encodings = self._tokenize(texts)
        lengths = np.array([len(encoding) for encoding in encodings])
        batches = []
        order = np.argsort(lengths, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
            most = min(max(1, TOKEN_BUDGET[self.provider] // int(lengths[bucket[0]])), ROW_BUDGET)
            calls = -(-len(bucket) // most)
            if calls > 1:  # as many for each thread, and equally large
                calls += -calls % self._calls
            batches += np.array_split(bucket, calls)

        def encode_batch(rows: npt.NDArray[np.intp]) -> int:
            ids = np.array([encodings[row].ids for row in rows], dtype=np.int64)
            began = time.perf_counter()
            out[rows] = self.run(ids, np.ones_like(ids))
            return round((time.perf_counter() - began) * 1e6)

        # The largest first, so that no thread is left with one at the end.
        batches.sort(key=lambda rows: len(rows) * lengths[rows[0]], reverse=True)
        times = self._pool.map(encode_batch, batches) if self._pool else map(encode_batch, batches)
        for rows, took_us in zip(batches, times, strict=True):
            self.stats.batches += 1
            self.stats.model_us += took_us
            self.stats.last_batches.append((len(rows), took_us))
        if not np.isfinite(out).all():
            raise ShopstreamError(f"encoder variant {self.variant} gives a vector that is not finite")
        self.stats.texts += len(texts)
        self.stats.tokens += int(lengths.sum())
        self.stats.truncated += sum(bool(encoding.overflowing) for encoding in encodings)
        return out

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, cut at the model's limit, with the special ones."""
        return [encoding.ids for encoding in self._tokenize(texts)]

    def _tokenize(self, texts: Sequence[str]) -> list[Encoding]:
        limit = CHARACTERS_PER_TOKEN * self.info.max_tokens
        given = [self.info.prefix + text[:limit] for text in texts]
        try:
            return self._tokenizer.encode_batch_fast(given)  # type: ignore[no-any-return]
        except (TypeError, UnicodeEncodeError):  # a lone surrogate, which JSON can carry
            mended = [text.encode("utf-8", "replace").decode() for text in given]
            return self._tokenizer.encode_batch_fast(mended)  # type: ignore[no-any-return]

    def run(self, ids: Ids, mask: Ids) -> Vectors:
        """int64 [texts, tokens] each, mask 0 where a token is padding, to float32 [texts, dimensions]."""
        hidden = self._runtime.run(ids, mask)
        if hidden.ndim == 2:  # pooled on the device
            return hidden
        if self.info.pooling == "cls":
            vectors = hidden[:, 0].copy()
        elif self.info.pooling == "max":
            vectors = np.where(mask[:, :, None], hidden, -np.inf).max(axis=1) if not mask.all() else hidden.max(axis=1)
        elif mask.all():
            vectors = hidden.mean(axis=1)
        else:
            vectors = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        if self.info.normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.asarray(vectors, dtype=np.float32)
