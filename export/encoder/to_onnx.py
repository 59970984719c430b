"""Converts PyTorch to ONNX: exported by Optimum, fused by ONNX Runtime's optimiser, checked against PyTorch.

Every file takes input_ids, attention_mask (and token_type_ids, where the model has them), int64 [texts, tokens]. Those
for CPUs give last_hidden_state, float32 [texts, tokens, hidden], which the encoder pools in float32; the one for CUDA
gives `embedding`, float32 [texts, hidden], so that nothing more leaves the device.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_np_to_float16
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.onnx_model import OnnxModel
from onnxruntime.transformers.optimizer import optimize_model
from optimum.exporters.onnx import onnx_export_from_model
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

from export.encoder.batches import exact_length_batches
from export.encoder.files import array_of, inline, is_external, load_onnx, save_onnx, tensor_bytes
from export.encoder.source import UNUSED_WEIGHTS, SourceModel
from udfs.core.errors import ShopstreamError

EMBEDDING = "embedding"
#: Lowest cosine between PyTorch's and ONNX Runtime's hidden states of a text.
MIN_COSINE = 0.99999
HIDDEN = "last_hidden_state"
#: Rows of an embedding that are converted to float16 at a time.
HALVED_ROWS = 1 << 15
#: What puts a word before the name of every weight.
WRAPPERS = {"_orig_mod": "torch.compile", "module": "DataParallel"}


def load_torch(source: SourceModel) -> Any:
    """Load the PyTorch model, fp32, in evaluation mode; ShopstreamError for weights that are damaged or do not fit.

    Attention is written out step by step, which exports to the graph that runs fastest.
    """
    try:
        model, found = AutoModel.from_pretrained(
            str(source.folder),
            dtype=torch.float32,
            local_files_only=True,
            attn_implementation="eager",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # found names them
        )
    except Exception as error:  # safetensors, transformers and torch each have their own errors
        raise ShopstreamError(f"model {source.name} cannot be loaded: {type(error).__name__}: {error}") from error
    _check_weights(source, found["missing_keys"], found["unexpected_keys"], found["mismatched_keys"])
    return model.eval()


def _check_weights(
    source: SourceModel, missing: Iterable[str], unexpected: Iterable[str], misshapen: Iterable[str]
) -> None:
    """Raise ShopstreamError, with their names, for weights that are missing, not used, or of a wrong shape."""
    absent, surplus, unfit = (
        sorted(name for name in names if not UNUSED_WEIGHTS.match(name)) for names in (missing, unexpected, misshapen)
    )
    wrong = [f"lacks {_few(absent)}"] if absent else []
    wrong += [f"has {_few(surplus)}, which the model does not use"] if surplus else []
    wrong += [f"has another shape of {_few(unfit)} than config.json"] if unfit else []
    if not wrong:
        return
    cause = "; vectors would be made of random weights" if absent else ""
    for name in surplus:
        prefix, _, rest = name.partition(".")
        if prefix in WRAPPERS or rest in absent:
            by = f" ({WRAPPERS[prefix]} does that)" if prefix in WRAPPERS else ""
            cause = f": names begin with “{prefix}.”{by}; save the model without it"
    raise ShopstreamError(
        f"the weights of model {source.name} do not fit: model.safetensors {' and '.join(wrong)}{cause}"
    )


def _few(names: Sequence[str]) -> str:
    """Name the first three, and count the others."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def write_tokenizer(source: SourceModel, path: Path) -> None:
    """Write the model's tokenizer as tokenizer.json, even if the model has only a vocabulary.

    ShopstreamError for a tokenizer that is missing, or has tokens that the model does not know.
    """
    try:
        AutoTokenizer.from_pretrained(str(source.folder), local_files_only=True).backend_tokenizer.save(str(path))
    except (OSError, ValueError, AttributeError) as error:
        raise ShopstreamError(f"model {source.name} has no fast tokenizer; it should have tokenizer.json") from error
    tokens = max(Tokenizer.from_file(str(path)).get_vocab().values()) + 1
    if tokens > source.vocabulary:
        raise ShopstreamError(
            f"the tokenizer has {tokens:,} tokens, the model {source.vocabulary:,}: texts with the others would have "
            f"no vector; model {source.name} should have a row of the embedding for each token"
        )


@contextmanager
def exported(model: Any) -> Iterator[Path]:
    """Yield Optimum's export of a PyTorch model, a file that is removed afterwards."""
    with TemporaryDirectory() as folder:
        onnx_export_from_model(
            model, Path(folder), task="feature-extraction", library_name="transformers", do_validation=False
        )
        yield Path(folder) / "model.onnx"


def write_fp32(source: SourceModel, plain: Path, path: Path) -> dict[str, int]:
    """Write the fp32 encoder, from which int8 and bf16 are made; returns the numbers of fused GELUs and layer norms.

    Attention and residual sums stay separate nodes: both CPU runtimes fuse them better by themselves, and static
    quantisation sees every product.
    """
    options = FusionOptions("bert")
    options.enable_attention = False
    options.enable_embed_layer_norm = False
    options.enable_skip_layer_norm = False
    options.enable_bias_skip_layer_norm = False
    options.enable_bias_gelu = False
    model, fused, table = _optimise(source, plain, options)
    if table is not None:
        _tensor(model.model, table.name).CopyFrom(table)
    save_onnx(model.model, path, plain.parent)
    return fused


def write_fp16(source: SourceModel, plain: Path, path: Path) -> dict[str, int]:
    """Write the encoder for CUDA: attention fused, float16, with pooling and normalisation in float32 at its end.

    Returns the numbers of fused attentions, GELUs and layer norms.
    """
    options = FusionOptions("bert")
    options.use_multi_head_attention = True
    model, fused, table = _optimise(source, plain, options)
    model.convert_float_to_float16(use_symbolic_shape_infer=True, keep_io_types=True)
    if table is not None:
        row = _tensor(model.model, table.name)
        if row.data_type == TensorProto.FLOAT16:
            inline(row, _half(array_of(table, plain.parent)))
        else:
            row.CopyFrom(table)
    _pool(source, model.model.graph)
    save_onnx(model.model, path, plain.parent)
    return fused


def write_bf16(fp32: Path, path: Path) -> None:
    """Write the encoder for CPUs with bfloat16 products: its matrices are halved."""
    model = load_onnx(fp32)
    dense = {node.input[1] for node in model.graph.node if node.op_type == "MatMul"}
    kept = []
    for tensor in model.graph.initializer:
        if tensor.name in dense:
            name = tensor.name
            array = array_of(tensor, fp32.parent)
            tensor = numpy_helper.from_array(
                (_round_to_bfloat16(array).view(np.uint32) >> 16).astype(np.uint16), f"{name}_bf16"
            )
            tensor.data_type = TensorProto.BFLOAT16
            model.graph.node.insert(0, helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
        kept.append(tensor)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    save_onnx(model, path)


def _round_to_bfloat16(array: Any) -> Any:
    """Round float32 to the nearest value that bfloat16 can hold, ties to even."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def _half(table: Any) -> Any:
    """Convert float32 [rows, columns] to float16 as the optimiser does, a part at a time: it takes a lot of memory."""
    half = np.empty(table.shape, np.float16)
    for start in range(0, len(table), HALVED_ROWS):
        half[start : start + HALVED_ROWS] = convert_np_to_float16(table[start : start + HALVED_ROWS])
    return half


def _tensor(model: onnx.ModelProto, name: str) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def _load(plain: Path) -> tuple[onnx.ModelProto, TensorProto | None]:
    """Load an export. If it has a data file, its largest embedding has one row only, and is returned as it was.

    Alone it may be larger than a protobuf message, which the optimiser would make of it.
    """
    model = load_onnx(plain)
    attributes = (attribute.t for node in model.graph.node for attribute in node.attribute if attribute.HasField("t"))
    external = list(filter(is_external, (*model.graph.initializer, *attributes)))
    looked_up = {node.input[0] for node in model.graph.node if node.op_type == "Gather"}
    table = max((tensor for tensor in external if tensor.name in looked_up), key=tensor_bytes, default=None)
    whole = None
    if table is not None:
        whole = TensorProto()
        whole.CopyFrom(table)
    for tensor in external:
        values = array_of(tensor, plain.parent)
        inline(tensor, values[:1] if tensor is table else values)
    return model, whole


def _optimise(
    source: SourceModel, plain: Path, options: FusionOptions
) -> tuple[OnnxModel, dict[str, int], TensorProto | None]:
    """Fuse an export. Returns the model, the numbers of fused nodes, and the embedding to put back: see _load."""
    model, table = _load(plain)
    optimised = optimize_model(
        model, "bert", num_heads=source.heads, hidden_size=source.hidden, optimization_options=options, opt_level=0
    )
    counts = optimised.get_operator_statistics()
    norms = ("LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization")
    fused = {
        "gelu": counts.get("Gelu", 0) + counts.get("BiasGelu", 0),
        "layer_norm": sum(counts.get(kind, 0) for kind in norms),
    }
    if options.enable_attention:
        fused["attention"] = counts.get("MultiHeadAttention", 0)
    return optimised, fused, table


def _pool(source: SourceModel, graph: onnx.GraphProto) -> None:
    """Append pooling and normalisation to the last hidden state, float32 [texts, tokens, hidden]."""

    def node(kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        output = f"{EMBEDDING}_{name}" if name else EMBEDDING
        graph.node.append(helper.make_node(kind, inputs, [output], name=f"{EMBEDDING}/{name}", **attributes))
        return output

    def constant(value: Any, name: str) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"{EMBEDDING}_{name}"))
        return f"{EMBEDDING}_{name}"

    axis = constant(np.array([1], dtype=np.int64), "axis")
    last = "pooled" if source.normalize else ""
    if source.pooling == "cls":
        first = node("Slice", [HIDDEN, constant(np.array([0]), "zero"), axis, axis], "first")
        pooled = node("Squeeze", [first, axis], last)
    else:
        ends = constant(np.array([-1], dtype=np.int64), "ends")
        mask = node("Unsqueeze", [node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT), ends], "mask_column")
        if source.pooling == "mean":
            # A product, not ReduceSum, whose order of addition for one text differs from that for several.
            share = node("Div", [mask, node("ReduceSum", [mask, axis], "tokens")], "share")
            row = node("Transpose", [share], "row", perm=[0, 2, 1])
            pooled = node("Squeeze", [node("MatMul", [row, HIDDEN], "mean"), axis], last)
        else:
            real = node("Cast", [mask], "real", to=TensorProto.BOOL)
            lowest = constant(np.float32(np.finfo(np.float32).min), "lowest")
            pooled = node("ReduceMax", [node("Where", [real, HIDDEN, lowest], "masked"), axis], last, keepdims=0)
    if source.normalize:
        norm = node("ReduceL2", [pooled, axis], "norm", keepdims=1)
        node("Div", [pooled, node("Max", [norm, constant(np.float32(1e-12), "least")], "length")], "")
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["texts", source.hidden]))


def verify_against_torch(source: SourceModel, model: Any, path: Path, tokenizer: Path, texts: Sequence[str]) -> float:
    """Return the lowest cosine between hidden states from PyTorch and from ONNX; ShopstreamError below MIN_COSINE."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = [node.name for node in session.get_inputs()]
    lowest = 1.0
    for feed in exact_length_batches(tokenizer, texts, source.max_tokens):
        ours = session.run(None, {name: feed[name] for name in inputs})[0]
        with torch.inference_mode():
            given = {name: torch.from_numpy(feed[name]) for name in inputs}
            theirs = model(**given).last_hidden_state.numpy()
        a, b = (hidden.reshape(len(hidden), -1).astype(np.float64) for hidden in (ours, theirs))
        cosine = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
        lowest = min(lowest, float(cosine.min()))
    if not lowest >= MIN_COSINE:
        raise ShopstreamError(
            f"the ONNX export of {source.name} differs from PyTorch: cosine {lowest:.6f}, it should be {MIN_COSINE} "
            "or more; the versions of optimum, torch and onnxruntime may not fit each other"
        )
    return lowest
