"""Where and how the encoder runs; in a file of its own, as settings need it without the runtimes' import time."""

from dataclasses import dataclass
from typing import Literal

from udfs.bundles.manifest import Provider

#: Most tokens in one call of the model on a CPU; bounds its working memory.
CPU_TOKENS = 2048

#: The same on a GPU, for each GiB of its memory, and the lowest and the highest number. BERT-large in half precision
#: takes some 60 KB a token, so a call takes at most 6 % of the memory.
GPU_TOKENS_PER_GIB = 1024
GPU_TOKENS = (4096, 65_536)

#: Most texts in one call. On TensorRT its profile allows no more.
MAX_ROWS: dict[Provider, int] = {"cpu": 256, "openvino": 256, "cuda": 4096, "tensorrt": 256}

#: Most tokens per text, as TensorRT's profile allows.
MAX_TOKENS = 512

#: Calls at a time on a GPU: one copies while the other computes.
GPU_CALLS = 2


@dataclass(frozen=True)
class EncoderOptions:
    """Where and how the encoder runs.

    provider: one of the providers, or `auto` for CUDA where a device is usable and else the CPU. A provider that is
    named and cannot be used is an error unless allow_fallback.
    variant: a name, or `auto` for the fastest that suits provider and processor.
    threads: concurrent model calls on a CPU, each on one thread; 0: one per core.
    batch_tokens: most tokens in one call on a GPU; 0: GPU_TOKENS_PER_GIB.
    cache: texts whose vectors are kept; 0 turns the cache off.
    engine_cache: folder of TensorRT's engines, which take minutes to build.
    """

    variant: str = "auto"
    provider: Provider | Literal["auto"] = "auto"
    allow_fallback: bool = False
    threads: int = 0
    batch_tokens: int = 0
    cache: int = 50_000
    engine_cache: str = ".shopstream/engines"
