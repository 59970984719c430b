"""Loads a model into a runtime, each one once per process."""

import os
import threading
import weakref
from pathlib import Path
from typing import Any, Protocol

from udfs.bundles.manifest import Provider
from udfs.core.arrays import Ints, Scores
from udfs.encoder.batching import Limits
from udfs.encoder.onnx_runtime import OnnxRuntime
from udfs.encoder.openvino import OpenVino
from udfs.encoder.options import (
    CPU_TOKENS,
    GPU_CALLS,
    GPU_TOKENS,
    GPU_TOKENS_PER_GIB,
    MAX_ROWS,
    EncoderOptions,
)
from udfs.encoder.selection import gpu_memory_gib, is_gpu


class Runtime(Protocol):
    """A loaded model; several threads may run it."""

    def run(self, ids: Ints, mask: Ints) -> Scores:
        """Turn int64 [texts, tokens] each into hidden states [texts, tokens, hidden] or vectors [texts, hidden].

        The result is float32, and is overwritten by the thread's next call.
        """


_loaded: "weakref.WeakValueDictionary[tuple[object, ...], Any]" = weakref.WeakValueDictionary()

_loading = threading.Lock()


def load(model: Path, key: str, precision: str, provider: Provider, options: EncoderOptions) -> Runtime:
    """Load a model, or return the one that the process has of this file and way to run it.

    key: stands for the file's content, as its hash. Raises ShopstreamError when the provider is not available, or runs
    something other than what was asked for.
    """
    with _loading:
        known = (key, provider, options.threads)
        runtime = _loaded.get(known)
        if runtime is None:
            runtime = (
                OpenVino(model, precision, parallel_calls(provider, options))
                if provider == "openvino"
                else OnnxRuntime(model, precision, provider, options)
            )
            _loaded[known] = runtime
        return runtime


def parallel_calls(provider: Provider, options: EncoderOptions) -> int:
    """Return how many model calls run at a time: on CPUs parallel batches scale better than threads within one."""
    return GPU_CALLS if is_gpu(provider) else options.threads or os.cpu_count() or 1


def call_limits(provider: Provider, options: EncoderOptions, tokens_per_text: int) -> Limits:
    """Return the limits of one call on this provider and machine."""
    tokens = CPU_TOKENS
    if is_gpu(provider):
        tokens = options.batch_tokens or min(max(GPU_TOKENS_PER_GIB * gpu_memory_gib(), GPU_TOKENS[0]), GPU_TOKENS[1])
    return Limits(tokens, MAX_ROWS[provider], tokens_per_text, parallel_calls(provider, options))
