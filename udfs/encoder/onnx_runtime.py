"""ONNX Runtime on CPU, CUDA and TensorRT."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from udfs.bundles.manifest import Provider
from udfs.core.arrays import Ints, Scores
from udfs.core.errors import ShopstreamError
from udfs.encoder.options import MAX_ROWS, MAX_TOKENS, EncoderOptions
from udfs.encoder.selection import ORT_PROVIDERS, is_gpu, on_device


def ort_provider_options(provider: Provider, precision: str, options: EncoderOptions) -> list[Any]:
    """Return ONNX Runtime's providers to try, the wanted one first, with their options."""
    cuda = (ORT_PROVIDERS["cuda"], {"arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"})
    if provider == "cpu":
        return [ORT_PROVIDERS["cpu"]]
    if provider == "cuda":
        return [cuda, ORT_PROVIDERS["cpu"]]
    names = ("input_ids", "attention_mask", "token_type_ids")
    most = (MAX_ROWS["tensorrt"], MAX_TOKENS)
    shapes = {
        size: ",".join(f"{name}:{rows}x{tokens}" for name in names)
        for size, (rows, tokens) in {"min": (1, 1), "opt": (64, 16), "max": most}.items()
    }
    Path(options.engine_cache).mkdir(parents=True, exist_ok=True)
    tensorrt = {
        "trt_fp16_enable": True,
        "trt_int8_enable": precision == "tensorrt-int8",
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": options.engine_cache,
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": options.engine_cache,
        "trt_profile_min_shapes": shapes["min"],
        "trt_profile_opt_shapes": shapes["opt"],
        "trt_profile_max_shapes": shapes["max"],
    }
    return [(ORT_PROVIDERS["tensorrt"], tensorrt), cuda, ORT_PROVIDERS["cpu"]]


class OnnxRuntime:
    """A model in ONNX Runtime. On a CUDA device inputs and outputs are bound, so that each is copied once."""

    def __init__(self, model: Path, precision: str, provider: Provider, options: EncoderOptions) -> None:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.inter_op_num_threads = 1
        settings.enable_cpu_mem_arena = False  # the arena never returns the memory of the largest batch
        settings.log_severity_level = 3 if provider == "cpu" else 4  # a failed load is reported below in one line
        usable = provider == "cpu" or on_device(provider)
        if usable and is_gpu(provider) and find_spec("nvidia"):
            ort.preload_dlls()  # CUDA's libraries from Python packages, which the system's loader does not know
        if usable:
            given = ort_provider_options(provider, precision, options)
            self._session = ort.InferenceSession(str(model), settings, providers=given)
        if not usable or self._session.get_providers()[0] != ORT_PROVIDERS[provider]:
            raise ShopstreamError(
                f"encoder.provider is {provider}, but ONNX Runtime cannot use it here; set encoder.provider to cpu, "
                "or encoder.allow_fallback to true"
            )
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._output = self._session.get_outputs()[0].name
        self._bound = is_gpu(provider)

    def run(self, ids: Ints, mask: Ints) -> Scores:
        """Run the model: see Runtime."""
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        if not self._bound:
            return self._session.run(None, {name: feed[name] for name in self._inputs})[0]  # type: ignore[no-any-return]
        return self.run_bound(feed)

    def run_bound(self, feed: Mapping[str, Ints]) -> Scores:
        """Run with the inputs and the output bound to the device."""
        binding = self._session.io_binding()
        for name in self._inputs:
            binding.bind_cpu_input(name, feed[name])
        binding.bind_output(self._output, "cpu")
        self._session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0]  # type: ignore[no-any-return]
