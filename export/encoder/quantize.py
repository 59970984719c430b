"""Writes the int8 encoders: static, per channel, every dense MatMul, with outlier channels smoothed first.

Static, since with dynamic quantisation a text's vector depends on the rest of its batch. MatMuls only, with float
outputs: CPU runtimes run DequantizeLinear → MatMul ← DequantizeLinear as one integer product.

Weights are rounded by GPTQ (Frantar et al. 2022, https://arxiv.org/abs/2210.17323, algorithm 1): row by row, the rows
that are still to come taking over the error that the quantised activations of the calibration see.

Smoothing is SmoothQuant (Xiao et al. 2023, https://arxiv.org/abs/2211.10438, eq. 4): channel j of an activation is
divided by s_j = max|X_j|^α / max|W_j|^(1-α) and row j of the weights multiplied by it, which changes nothing in exact
arithmetic and takes the range of BERT's few outlier channels out of the activation's one scale. The graph is written
here and not by ONNX Runtime's `quantize_static`, which has no smoothing for graphs like these and leaves activations
out silently.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from export.encoder.batches import Feed
from export.encoder.files import array_of, load_onnx, save_onnx

#: SmoothQuant's α: the share of an outlier channel's range that moves to the weights.
ALPHA = 0.8
WEIGHT_MAX = 127
#: GPTQ: tokens from which its Gram matrices are computed.
GRAM_TOKENS = 4096
#: GPTQ: this share of a Gram matrix's mean diagonal is added to the diagonal.
DAMPING = 0.01
#: GPTQ: rows between two large updates.
BLOCK = 128
GELU_CONSTANTS = (("gelu_root", 0.5**0.5), ("gelu_half", 0.5), ("gelu_one", 1.0))

Float32s = npt.NDArray[np.float32]


@dataclass
class Activation:
    """A dense product's calibrated input: its range and smoothing per channel, and its quantised weights."""

    low: Float32s  #: float32 [channels]
    high: Float32s  #: float32 [channels]
    smooth: Float32s  #: float32 [channels]
    weights: dict[str, tuple[npt.NDArray[np.int8], Float32s]]  #: by name: int8 [channels, out], scales float32 [out]

    def scale(self, *, symmetric: bool) -> tuple[np.float32, int]:
        """Return scale and zero point of the smoothed values in 8 bits: -127 to 127 if symmetric, else 0 to 255."""
        low, high = min(float((self.low / self.smooth).min()), 0.0), max(float((self.high / self.smooth).max()), 0.0)
        if high == low:
            return np.float32(1), 0
        if symmetric:
            return np.float32(max(-low, high) / 127), 0
        scale = np.float32((high - low) / 255)
        return scale, int(np.rint(-low / scale))

    def quantized(self, values: Float32s) -> Float32s:
        """Smooth float32 [tokens, channels] and round it through 8 bits and back."""
        scale, zero_point = self.scale(symmetric=False)
        return np.asarray(
            (np.clip(np.rint(values / self.smooth / scale) + zero_point, 0, 255) - zero_point) * scale, np.float32
        )


def dense_products(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the MatMuls with constant weights, by the activation that they take."""
    weights = {tensor.name for tensor in model.graph.initializer}
    by_activation: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            by_activation.setdefault(node.input[0], []).append(node)
    return by_activation


def calibrate(fp32: Path, feeds: Sequence[Feed]) -> dict[str, Activation]:
    """Run the model over the calibration batches, and return each dense product's activation by name."""
    model = load_onnx(fp32)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    products = dense_products(model)
    names = list(products)
    model.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    observed = fp32.with_name("observed.onnx")  # a file next to fp32's data file
    onnx.save(model, observed)
    session = ort.InferenceSession(str(observed), providers=["CPUExecutionProvider"])
    observed.unlink()
    inputs = [node.name for node in session.get_inputs()]

    def run(feed: Feed) -> Iterator[tuple[str, Float32s]]:
        tensors = session.run(names, {name: feed[name] for name in inputs})
        yield from ((name, tensor.reshape(-1, tensor.shape[-1])) for name, tensor in zip(names, tensors, strict=True))

    activations: dict[str, Activation] = {}
    for feed in feeds:
        for name, values in run(feed):
            low, high = values.min(axis=0), values.max(axis=0)
            known = activations.setdefault(name, Activation(low, high, low, {}))
            known.low, known.high = np.minimum(known.low, low), np.maximum(known.high, high)
    for name, activation in activations.items():
        arrays = [array_of(weights[node.input[1]], fp32.parent) for node in products[name]]
        activation.smooth = _smoothing(activation, arrays)
    step = -(-sum(feed["input_ids"].size for feed in feeds) // GRAM_TOKENS)  # every step-th token of all batches
    gram = {name: np.zeros((len(activation.low),) * 2, np.float32) for name, activation in activations.items()}
    for feed in feeds:
        for name, values in run(feed):
            quantized = activations[name].quantized(values[::step])
            gram[name] += quantized.T @ quantized
    for name, activation in activations.items():
        tensors = [node.input[1] for node in products[name]]
        arrays = [array_of(weights[tensor], fp32.parent) * activation.smooth[:, None] for tensor in tensors]
        rounded, scales = _gptq(np.concatenate(arrays, axis=1), gram.pop(name))
        ends = np.cumsum([array.shape[1] for array in arrays])[:-1]
        parts = zip(np.split(rounded, ends, axis=1), np.split(scales, ends), strict=True)
        activation.weights = dict(zip(tensors, parts, strict=True))
    return activations


def write_int8(
    fp32: Path,
    int8: Path,
    activations: dict[str, Activation],
    *,
    symmetric: bool = False,
    only: Sequence[str] | None = None,
) -> int:
    """Write an int8 variant of the fp32 encoder; returns the number of int8 MatMuls.

    symmetric: activations as int8 around 0, as TensorRT takes them, instead of uint8. only: quantise these activations,
    by default all.
    """
    model = load_onnx(fp32)
    graph = model.graph
    before: dict[str, list[onnx.NodeProto]] = {}  # nodes in front of a MatMul, by its output
    for name, users in dense_products(model).items():
        if only is not None and name not in only:
            continue
        nodes, tensors, dequantized = _quantize_activation(name, activations[name], symmetric)
        for node in users:
            dequantize, weight_tensors, weight = _dequantize_weight(
                node.input[1], *activations[name].weights[node.input[1]]
            )
            before[node.output[0]] = [*nodes, dequantize]
            nodes = []
            tensors += weight_tensors
            node.input[:] = [dequantized, weight]
        graph.initializer.extend(tensors)

    ordered = [part for node in graph.node for part in (*before.get(node.output[0], ()), node)]
    if symmetric:
        graph.initializer.extend(numpy_helper.from_array(np.float32(value), name) for name, value in GELU_CONSTANTS)
        ordered = [part for node in ordered for part in _standard_gelu(node)]
    used = {name for node in ordered for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(ordered)
    graph.initializer.extend(kept)
    save_onnx(model, int8)
    return len(before)


def _standard_gelu(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Write ONNX Runtime's Gelu in standard operators, for TensorRT: x/2 (1 + erf(x/√2)); other nodes stay."""
    if node.op_type != "Gelu":
        return [node]
    value, output = node.input[0], node.output[0]
    root, half, one = (name for name, _ in GELU_CONSTANTS)
    return [
        helper.make_node("Mul", [value, root], [f"{output}_scaled"]),
        helper.make_node("Erf", [f"{output}_scaled"], [f"{output}_erf"]),
        helper.make_node("Add", [f"{output}_erf", one], [f"{output}_share"]),
        helper.make_node("Mul", [value, half], [f"{output}_half"]),
        helper.make_node("Mul", [f"{output}_half", f"{output}_share"], [output]),
    ]


def _gptq(weights: Float32s, gram: Float32s) -> tuple[npt.NDArray[np.int8], Float32s]:
    """Round weights float32 [in, out] to int8, with one scale per output channel, float32 [out].

    gram: float32 [in, in], of the inputs. Rows are rounded in falling order of their inputs' size.
    """
    order = np.argsort(-np.diag(gram), kind="stable")
    rest = weights[order].astype(np.float64)
    hessian = gram[np.ix_(order, order)].astype(np.float64)
    hessian[np.diag_indices_from(hessian)] += DAMPING * max(float(np.diag(hessian).mean()), 1e-12)
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    scales = np.maximum(np.abs(rest).max(axis=0), 1e-12) / WEIGHT_MAX
    values = np.empty_like(rest)
    for start in range(0, len(rest), BLOCK):
        stop = min(start + BLOCK, len(rest))
        errors = np.empty((stop - start, rest.shape[1]))
        for row in range(start, stop):
            values[row] = np.clip(np.rint(rest[row] / scales), -WEIGHT_MAX, WEIGHT_MAX)
            errors[row - start] = (rest[row] - values[row] * scales) / upper[row, row]
            rest[row + 1 : stop] -= np.outer(upper[row, row + 1 : stop], errors[row - start])
        rest[stop:] -= upper[start:stop, stop:].T @ errors
    back = np.empty_like(values)
    back[order] = values
    return back.astype(np.int8), scales.astype(np.float32)


def _smoothing(activation: Activation, weights: Sequence[Float32s]) -> Float32s:
    """Return SmoothQuant's s, float32 [channels], for an activation and the weights [channels, out] that it meets."""
    largest = np.maximum(np.maximum(-activation.low, activation.high), 1e-5)
    weight = np.maximum(np.max([np.abs(array).max(axis=1) for array in weights], axis=0), 1e-5)
    return np.asarray(largest**ALPHA / weight ** (1 - ALPHA), dtype=np.float32)


def _quantize_activation(
    name: str, activation: Activation, symmetric: bool
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
    """Return nodes and tensors that smooth an activation and round it through 8 bits, and the result's name."""
    scale, zero_point = activation.scale(symmetric=symmetric)
    tensors = [
        numpy_helper.from_array(np.asarray(1 / activation.smooth, dtype=np.float32), f"{name}_smooth"),
        numpy_helper.from_array(np.array(scale), f"{name}_scale"),
        numpy_helper.from_array(np.array(zero_point, dtype=np.int8 if symmetric else np.uint8), f"{name}_zero_point"),
    ]
    through = [f"{name}_scale", f"{name}_zero_point"]
    nodes = [
        helper.make_node("Mul", [name, f"{name}_smooth"], [f"{name}_smoothed"]),
        helper.make_node("QuantizeLinear", [f"{name}_smoothed", *through], [f"{name}_quantized"]),
        helper.make_node("DequantizeLinear", [f"{name}_quantized", *through], [f"{name}_dequantized"]),
    ]
    return nodes, tensors, f"{name}_dequantized"


def _dequantize_weight(
    name: str, values: npt.NDArray[np.int8], scales: Float32s
) -> tuple[onnx.NodeProto, list[onnx.TensorProto], str]:
    """Return a node and tensors that dequantise int8 weights [in, out] with scales [out], and the result's name."""
    tensors = [
        numpy_helper.from_array(np.ascontiguousarray(values), f"{name}_quantized"),
        numpy_helper.from_array(scales, f"{name}_scale"),
        numpy_helper.from_array(np.zeros(len(scales), dtype=np.int8), f"{name}_zero_point"),
    ]
    inputs = [f"{name}_quantized", f"{name}_scale", f"{name}_zero_point"]
    return helper.make_node("DequantizeLinear", inputs, [f"{name}_dequantized"], axis=1), tensors, f"{name}_dequantized"
