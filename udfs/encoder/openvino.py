"""OpenVINO on CPU."""

import os
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from udfs.core.errors import ShopstreamError
from udfs.encoder.runtime import Ids

#: Shapes whose compiled kernels OpenVINO keeps, of each form of a model. Without a bound its memory grows with every
#: new shape, to gigabytes.
OPENVINO_SHAPES = 256

ROW_STEP = 4

#: Tokens of a text up to which OpenVINO is no slower with an attention that it does not fuse.
SHORT_TOKENS = 256


class OpenVino:
    """OpenVINO on the CPU: the fastest for long texts and large batches; it compiles kernels for each new shape.

    So rows are filled up to a power of two, or a multiple of ROW_STEP, which changes no row's result, and few shapes
    are met. Beside int8 products it computes in bfloat16 where the processor can. Texts of up to SHORT_TOKENS tokens
    without padding have a form of the model of their own.
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
            "ENABLE_CPU_PINNING": streams >= (os.cpu_count() or 1),  # or every worker takes the same cores
            "CPU_RUNTIME_CACHE_CAPACITY": OPENVINO_SHAPES,
            "INFERENCE_PRECISION_HINT": "bf16" if has_bf16 and precision != "fp32" else "f32",
        }
        any_text = core.read_model(model)
        self._any = _Compiled(core.compile_model(any_text, "CPU", config))
        unfused = config | {"SNIPPETS_MODE": "DISABLE"}
        self._short = _Compiled(core.compile_model(_for_short_texts(any_text.clone()), "CPU", unfused))

    def run(self, ids: Ids, mask: Ids) -> npt.NDArray[np.float32]:
        """Run the model: see Runtime."""
        rows = len(ids)
        fill = (1 << (rows - 1).bit_length()) - rows if rows < ROW_STEP else -rows % ROW_STEP
        ids, mask = (np.pad(array, ((0, fill), (0, 0)), mode="edge") for array in (ids, mask))
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        compiled = self._short if ids.shape[1] <= SHORT_TOKENS and mask.all() else self._any
        return np.asarray(compiled.run(feed)[:rows], dtype=np.float32)


class _Compiled:
    """A model that OpenVINO has compiled; each thread has a request of its own."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._inputs = [node.any_name for node in compiled.inputs]
        self._requests = threading.local()

    def run(self, feed: Mapping[str, Ids]) -> npt.NDArray[Any]:
        """Its one output; what it does not take is left in the feed."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self._compiled.create_infer_request()
        request = self._requests.own
        request.infer({name: feed[name] for name in self._inputs}, share_inputs=True)
        return request.get_output_tensor(0).data  # type: ignore[no-any-return]


def _for_short_texts(model: Any) -> Any:
    """The OpenVINO model changed for texts without padding: no mask, and the product of attention turns the keys."""
    from openvino import opset13 as ops

    mask = next(node for node in model.get_parameters() if node.output(0).any_name == "attention_mask")
    _replace(mask, ops.constant(np.ones((1, 1), np.int64)))  # from which all that it is used for is computed once
    model.remove_parameter(mask)
    for product in model.get_ordered_ops():
        if product.get_type_name() != "MatMul":
            continue
        keys = product.input_value(1).get_node()
        if keys.get_type_name() != "Transpose":
            continue
        order = keys.input_value(1).get_node()
        if order.get_type_name() == "Constant" and order.data.tolist() == [0, 2, 3, 1]:
            turned = ops.transpose(keys.input_value(0), np.array([0, 2, 1, 3]))
            _replace(product, ops.matmul(product.input_value(0), turned, False, True))
    return model


def _replace(node: Any, other: Any) -> None:
    for user in node.output(0).get_target_inputs():
        user.replace_source_output(other.output(0))
