"""Where and how the encoder runs."""

from dataclasses import dataclass
from typing import Literal

Provider = Literal["cpu", "openvino", "cuda", "tensorrt"]

#: Most tokens in one call of the model; bounds its working memory.
TOKEN_BUDGET: dict[str, int] = {"cpu": 2048, "openvino": 2048, "cuda": 16_384, "tensorrt": 16_384}

#: Most texts in one call and most tokens of a text, as TensorRT's profile allows.
ROW_BUDGET = 256

MAX_TOKENS = 512


@dataclass(frozen=True)
class EncoderOptions:
    """Where and how the encoder runs.

    provider `cpu`, `openvino`, `cuda` or `tensorrt`, or `auto`: CUDA where a device is usable, else the CPU. With a
    provider named, another one is an error unless allow_fallback. variant: a name, or `auto` for the fastest that suits
    provider and processor. threads: model calls at a time on a CPU, each on one thread; 0: as many as cores. cache:
    texts whose vectors are kept (0 turns the cache off). engine_cache: folder of TensorRT's engines, which take minutes
    to build.
    """

    variant: str = "auto"
    provider: str = "auto"
    allow_fallback: bool = False
    threads: int = 0
    cache: int = 50_000
    engine_cache: str = ".shopstream/engines"
