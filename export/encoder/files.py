"""Reads and writes ONNX files whose weights may be more than one protobuf message takes, which is 2 GiB.

Then NAME.onnx has the graph and small tensors, and NAME.onnx.data the other tensors. The graph's metadata has the
SHA-256 of that file, so the hash of NAME.onnx stands for the weights as well. int8 and bf16 are made from fp32: what
they do not change they read from fp32's data file.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from udfs.core.hashing import sha256

#: Weights of up to this many bytes are in the .onnx file itself.
SINGLE_FILE_BYTES = 2_000_000_000
#: Tensors of at least this many bytes go to the data file. Runtimes read smaller ones to infer shapes.
EXTERNAL_BYTES = 1024
#: Tensors begin at multiples of this in the data file, so that runtimes can map them.
PAGE = 4096


def load_onnx(path: Path) -> onnx.ModelProto:
    """Load a model. Tensors in a data file stay there: see array_of."""
    return onnx.load(path, load_external_data=False)


def is_external(tensor: TensorProto) -> bool:
    """Return whether a tensor is in a data file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def tensor_bytes(tensor: TensorProto) -> int:
    """Return the size of a tensor's values in bytes."""
    return int(math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def array_of(tensor: TensorProto, folder: Path) -> npt.NDArray[Any]:
    """Return a tensor's values. Those in a data file in `folder` are mapped, not read."""
    if not is_external(tensor):
        return np.asarray(numpy_helper.to_array(tensor))
    place = {entry.key: entry.value for entry in tensor.external_data}
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    offset = int(place.get("offset", 0))
    return np.asarray(np.memmap(folder / place["location"], dtype, "r", offset, tuple(tensor.dims)))


def inline(tensor: TensorProto, values: npt.NDArray[Any]) -> None:
    """Put values into a tensor, instead of what it has."""
    name = tensor.name
    tensor.Clear()
    tensor.name, tensor.data_type = name, helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor.dims.extend(values.shape)
    tensor.raw_data = values.tobytes()


def save_onnx(model: onnx.ModelProto, path: Path, folder: Path | None = None) -> None:
    """Write a model, with a data file if its weights are over SINGLE_FILE_BYTES.

    folder: has the data file of tensors that are in one; they are copied. By default that is the folder of `path`, and
    they stay where they are.
    """
    tensors = [
        tensor
        for tensor in model.graph.initializer
        if (folder is not None if is_external(tensor) else tensor_bytes(tensor) >= EXTERNAL_BYTES)
    ]
    source = folder or path.parent
    if sum(map(tensor_bytes, tensors)) > SINGLE_FILE_BYTES:
        data = path.with_name(f"{path.name}.data")
        with data.open("wb") as file:
            for tensor in tensors:
                values = array_of(tensor, source)
                file.seek(-(-file.tell() // PAGE) * PAGE)
                _refer(tensor, data.name, file.tell(), values.nbytes)
                values.tofile(file)
        model.metadata_props.add(key=f"sha256 of {data.name}", value=sha256(data))
    else:
        for tensor in filter(is_external, tensors):
            inline(tensor, array_of(tensor, source))
    onnx.save(model, path)


def _refer(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Make a tensor one that is in a data file."""
    name, data_type, dims = tensor.name, tensor.data_type, list(tensor.dims)
    tensor.Clear()
    tensor.name, tensor.data_type, tensor.data_location = name, data_type, TensorProto.EXTERNAL
    tensor.dims.extend(dims)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
