"""BERT on ONNX Runtime: texts in, unit vectors out, each depending on its text alone."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from tokenizers import Tokenizer

from udfs.bundle import Bundle, EncoderInfo
from udfs.errors import ShopstreamError

log = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
#: Most tokens in one call of the model; bounds its working memory.
TOKEN_BUDGET = 8192


@dataclass(frozen=True)
class EncoderOptions:
    """Where and how the encoder runs.

    provider `cpu` or `cuda`, or `auto`: CUDA where a device is usable, else the CPU. With a provider named, another
    one is an error unless allow_fallback. threads: of one model call; 0 lets ONNX Runtime take every core.
    cache: texts whose vectors are kept (0 turns the cache off).
    """

    variant: str = "auto"
    provider: str = "auto"
    allow_fallback: bool = False
    threads: int = 0
    cache: int = 50_000


def providers(options: EncoderOptions) -> list[str]:
    """ONNX Runtime's names of the providers to try, the wanted one first."""
    cuda, cpu = PROVIDERS["cuda"], PROVIDERS["cpu"]
    on_cuda = options.provider == "cuda" or (options.provider == "auto" and _has_cuda_device())
    return [cuda, cpu] if on_cuda and cuda in ort.get_available_providers() else [cpu]


def make_session(model: Path, options: EncoderOptions) -> ort.InferenceSession:
    """An ONNX Runtime session on the provider asked for; ShopstreamError when it runs on another one."""
    wanted = options.provider
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 3 if wanted == "cpu" else 4  # a failed CUDA load is reported below, in one line
    session = ort.InferenceSession(str(model), settings, providers=providers(options))
    if wanted == "cuda" and session.get_providers()[0] != PROVIDERS["cuda"]:
        message = "encoder.provider is cuda, but ONNX Runtime cannot use a CUDA device here"
        if not options.allow_fallback:
            raise ShopstreamError(f"{message}; set encoder.provider to cpu, or encoder.allow_fallback to true")
        log.warning("%s; running on the CPU, as encoder.allow_fallback says", message)
    return session


def _has_cuda_device() -> bool:
    return Path("/dev/nvidiactl").exists()


class Encoder:
    """Encodes texts with one variant of a bundle's BERT.

    Texts are put into batches of one exact token count, so that there is no padding at all, and a batch stays
    under TOKEN_BUDGET tokens. Longer texts are cut at the model's limit.
    """

    def __init__(self, bundle: Bundle, options: EncoderOptions | None = None) -> None:
        options = options or EncoderOptions()
        info = bundle.manifest.encoder
        # ONNX Runtime's CUDA provider has no int8 kernels for what int8 is here.
        on_cuda = providers(options)[0] == PROVIDERS["cuda"]
        self.variant = bundle.variant("fp32" if on_cuda and options.variant == "auto" else options.variant)
        self._load(bundle.variant_file(self.variant), bundle.tokenizer, info, options)
        if on_cuda and options.provider == "auto" and self.provider != PROVIDERS["cuda"]:
            log.warning("there is a CUDA device that ONNX Runtime cannot use; running on the CPU")
            self.variant = bundle.variant(options.variant)
            self._load(bundle.variant_file(self.variant), bundle.tokenizer, info, replace(options, provider="cpu"))
        log.info("encoder variant %s on %s", self.variant, self.provider)

    @classmethod
    def from_files(cls, model: Path, tokenizer: Path, info: EncoderInfo, options: EncoderOptions) -> "Encoder":
        """An encoder outside a bundle, as the export verifies it."""
        encoder = cls.__new__(cls)
        encoder.variant = model.stem
        encoder._load(model, tokenizer, info, options)
        return encoder

    def _load(self, model: Path, tokenizer: Path, info: EncoderInfo, options: EncoderOptions) -> None:
        self.info = info
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(info.max_tokens)
        self._session = make_session(model, options)
        self._inputs = [node.name for node in self._session.get_inputs()]
        self.provider = self._session.get_providers()[0]

    def encode(self, texts: Sequence[str]) -> Vectors:
        """float32 [texts, dimensions]; unit length if the model normalises."""
        out = np.empty((len(texts), self.info.dimensions), dtype=np.float32)
        if not texts:
            return out
        prefix = self.info.prefix
        encodings = self._tokenizer.encode_batch_fast([prefix + text for text in texts])
        lengths = np.array([len(encoding) for encoding in encodings])
        order = np.argsort(lengths, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
            length = int(lengths[bucket[0]])
            step = max(1, TOKEN_BUDGET // length)
            for start in range(0, len(bucket), step):
                rows = bucket[start : start + step]
                out[rows] = self._run(np.array([encodings[row].ids for row in rows], dtype=np.int64))
        return out

    def _run(self, ids: npt.NDArray[np.int64]) -> Vectors:
        """int64 [texts, tokens], all of one length, to float32 [texts, dimensions]."""
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        hidden: Vectors = self._session.run(None, {name: feed[name] for name in self._inputs})[0]
        if self.info.pooling == "cls":
            vectors = hidden[:, 0]
        elif self.info.pooling == "max":
            vectors = hidden.max(axis=1)
        else:
            vectors = hidden.mean(axis=1)
        if self.info.normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.asarray(vectors, dtype=np.float32)


class CachedEncoder:
    """An encoder that keeps the vectors of the texts used last, so that a text is encoded once.

    The cache changes no result, since a text's vector does not depend on the texts beside it.
    """

    def __init__(self, encoder: Encoder, size: int) -> None:
        self._encoder = encoder
        self._size = size
        self._cache: OrderedDict[str, Vectors] = OrderedDict()

    def encode(self, texts: Sequence[str]) -> Vectors:
        """float32 [texts, dimensions]. Texts that repeat within one call are encoded once even without a cache."""
        found: dict[str, Vectors] = {}
        for text in dict.fromkeys(texts):
            vector = self._cache.get(text)
            if vector is not None:
                self._cache.move_to_end(text)
                found[text] = vector
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        found.update(zip(missing, self._encoder.encode(missing), strict=True))
        if self._size:
            for text in missing:
                self._cache[text] = found[text]
            while len(self._cache) > self._size:
                self._cache.popitem(last=False)
        if not texts:
            return np.empty((0, self._encoder.info.dimensions), dtype=np.float32)
        return np.stack([found[text] for text in texts])
