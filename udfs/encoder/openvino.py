"""OpenVINO on CPU."""

import os
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from udfs.core.arrays import Ints, Scores
from udfs.core.errors import ShopstreamError

#: Size of OpenVINO's kernel cache per model; unbounded, memory grows with every new shape, to gigabytes.
OPENVINO_SHAPES = 256

#: Batches of this many rows or more are filled up to a multiple of it.
ROW_STEP = 4

#: Up to this many tokens per text, unfused attention is at least as fast in OpenVINO as fused attention.
SHORT_TOKENS = 256


class OpenVino:
    """A model in OpenVINO on the CPU, the fastest runtime there for long texts and large batches.

    OpenVINO compiles kernels for each new shape. So a batch is filled up to a power of two or a multiple of ROW_STEP
    rows, which changes no row's result and keeps the shapes few. Where the processor can, everything but the int8
    products is computed in bfloat16. Texts of at most SHORT_TOKENS tokens without padding run on a model of their own.
    """

    def __init__(self, model: Path, precision: str, streams: int) -> None:
        if find_spec("openvino") is None:
            raise ShopstreamError(
                "encoder.provider is openvino, but the package openvino is not installed; install it, set "
                "encoder.provider to cpu, or encoder.allow_fallback to true"
            )
        import openvino

        core = openvino.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise ShopstreamError(
                "encoder variant bf16 needs a processor with bfloat16 (AMX or AVX512_BF16); "
                "set encoder.variant to fp32, or encoder.allow_fallback to true"
            )
        config = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams,
            "ENABLE_CPU_PINNING": streams >= (os.cpu_count() or 1),  # fewer: every worker would take the same cores
            "CPU_RUNTIME_CACHE_CAPACITY": OPENVINO_SHAPES,
            "INFERENCE_PRECISION_HINT": "bf16" if has_bf16 and precision != "fp32" else "f32",
        }
        any_text = core.read_model(model)
        self._any = _Compiled(core.compile_model(any_text, "CPU", config))
        unfused = config | {"SNIPPETS_MODE": "DISABLE"}
        self._short = _Compiled(core.compile_model(short_text_model(any_text.clone()), "CPU", unfused))

    def run(self, ids: Ints, mask: Ints) -> Scores:
        """Run the model: see Runtime."""
        rows = len(ids)
        fill = (1 << (rows - 1).bit_length()) - rows if rows < ROW_STEP else -rows % ROW_STEP
        ids, mask = (np.pad(array, ((0, fill), (0, 0)), mode="edge") for array in (ids, mask))
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        compiled = self._short if ids.shape[1] <= SHORT_TOKENS and mask.all() else self._any
        return np.asarray(compiled.run(feed)[:rows], dtype=np.float32)


class _Compiled:
    """A compiled model, with one inference request per thread."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._inputs = [node.any_name for node in compiled.inputs]
        self._requests = threading.local()

    def run(self, feed: Mapping[str, Ints]) -> npt.NDArray[Any]:
        """Return the one output. The feed may hold more than the inputs."""
        if not hasattr(self._requests, "request"):
            self._requests.request = self._compiled.create_infer_request()
        request = self._requests.request
        request.infer({name: feed[name] for name in self._inputs}, share_inputs=True)
        return request.get_output_tensor(0).data  # type: ignore[no-any-return]


def short_text_model(model: Any) -> Any:
    """Rewrite an OpenVINO model for texts without padding: no mask, and attention's product transposes the keys."""
    from openvino import opset13 as ops

    mask = next(node for node in model.get_parameters() if node.output(0).any_name == "attention_mask")
    _replace(mask, ops.constant(np.ones((1, 1), np.int64)))  # everything computed from it becomes a constant
    model.remove_parameter(mask)
    for product in model.get_ordered_ops():
        if product.get_type_name() != "MatMul":
            continue
        keys = product.input_value(1).get_node()
        if keys.get_type_name() != "Transpose":
            continue
        order = keys.input_value(1).get_node()
        if order.get_type_name() == "Constant" and order.data.tolist() == [0, 2, 3, 1]:
            heads_first = ops.transpose(keys.input_value(0), np.array([0, 2, 1, 3]))
            _replace(product, ops.matmul(product.input_value(0), heads_first, False, True))
    return model


def _replace(node: Any, other: Any) -> None:
    for user in node.output(0).get_target_inputs():
        user.replace_source_output(other.output(0))
