"""Loads models, each once per process."""

import os
import threading
import weakref
from pathlib import Path
from typing import Any

from udfs.encoder.onnx_runtime import OnnxRuntime
from udfs.encoder.openvino import OpenVino
from udfs.encoder.options import EncoderOptions, Provider
from udfs.encoder.runtime import Runtime

_loaded: "weakref.WeakValueDictionary[tuple[object, ...], Any]" = weakref.WeakValueDictionary()

_loading = threading.Lock()


def load(model: Path, key: str, precision: str, provider: Provider, options: EncoderOptions) -> Runtime:
    """A loaded model, one a process for each file (by `key`, its hash) and way to run it.

    Raises ShopstreamError when the provider cannot be had or runs something else than was asked for.
    """
    with _loading:
        known = (key, provider, options.threads)
        runtime = _loaded.get(known)
        if runtime is None:
            runtime = (
                OpenVino(model, precision, calls_at_a_time(provider, options))
                if provider == "openvino"
                else OnnxRuntime(model, precision, provider, options)
            )
            _loaded[known] = runtime
        return runtime


def calls_at_a_time(provider: Provider, options: EncoderOptions) -> int:
    """Model calls that run beside each other: on CPUs batches in parallel scale better than the products within one."""
    return options.threads or os.cpu_count() or 1 if provider in ("cpu", "openvino") else 1
