"""Where and how the encoder runs; in a file of its own, as settings need it without the runtimes' import time."""

from dataclasses import dataclass
from typing import Literal

from udfs.bundles.manifest import Provider

#: Most tokens in one call of the model; bounds its working memory.
TOKEN_BUDGET: dict[Provider, int] = {"cpu": 2048, "openvino": 2048, "cuda": 16_384, "tensorrt": 16_384}

#: Most texts in one call, as TensorRT's profile allows.
ROW_BUDGET = 256

#: Most tokens per text, as TensorRT's profile allows.
MAX_TOKENS = 512


@dataclass(frozen=True)
class EncoderOptions:
    """Where and how the encoder runs.

    provider: one of the providers, or `auto` for CUDA where a device is usable and else the CPU. A provider that is
    named and cannot be used is an error unless allow_fallback.
    variant: a name, or `auto` for the fastest that suits provider and processor.
    threads: concurrent model calls on a CPU, each on one thread; 0: one per core.
    cache: texts whose vectors are kept; 0 turns the cache off.
    engine_cache: folder of TensorRT's engines, which take minutes to build.
    """

    variant: str = "auto"
    provider: Provider | Literal["auto"] = "auto"
    allow_fallback: bool = False
    threads: int = 0
    cache: int = 50_000
    engine_cache: str = ".shopstream/engines"
