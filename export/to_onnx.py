"""From PyTorch to ONNX: exported by Optimum, fused by ONNX Runtime's transformer optimiser, checked against PyTorch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model
from optimum.exporters.onnx import onnx_export_from_model
from transformers import AutoModel, AutoTokenizer

from export.batches import exact_length_batches
from export.source import SourceModel
from udfs.encoder import EncoderOptions, make_session
from udfs.errors import ShopstreamError

#: Lowest cosine between PyTorch's and ONNX Runtime's hidden states of a text.
MIN_COSINE = 0.99999


def load_torch(source: SourceModel) -> Any:
    """The PyTorch model, fp32, in evaluation mode; ShopstreamError for damaged weights."""
    try:
        return AutoModel.from_pretrained(str(source.folder), dtype=torch.float32, local_files_only=True).eval()
    except Exception as error:  # safetensors, transformers and torch each have their own
        raise ShopstreamError(f"model {source.name} cannot be loaded: {type(error).__name__}: {error}") from error


def write_tokenizer(source: SourceModel, path: Path) -> None:
    """The model's tokenizer as tokenizer.json, also where the model has a vocabulary only."""
    try:
        AutoTokenizer.from_pretrained(str(source.folder), local_files_only=True).backend_tokenizer.save(str(path))
    except (OSError, ValueError, AttributeError) as error:
        raise ShopstreamError(f"model {source.name} has no fast tokenizer; it should have tokenizer.json") from error


def export_fused(source: SourceModel, model: Any, path: Path) -> int:
    """Write the fused fp32 encoder; returns how many attention layers were fused, of `source.layers`.

    Inputs int64 [batch_size, sequence_length], output last_hidden_state float32 [batch_size, sequence_length, hidden].
    Attention becomes MultiHeadAttention with the query, key and value products left as MatMul, so that the int8
    variant is made from this same graph: com.microsoft.Attention is no faster on a CPU and hides a quarter of the
    weights from static quantisation.
    """
    plain = path.with_name("plain")
    onnx_export_from_model(model, plain, task="feature-extraction", library_name="transformers", do_validation=False)
    options = FusionOptions("bert")
    options.use_multi_head_attention = True
    fused = optimize_model(
        str(plain / "model.onnx"),
        "bert",
        num_heads=source.heads,
        hidden_size=source.hidden,
        optimization_options=options,
        opt_level=0,
    )
    for file in plain.iterdir():
        file.unlink()
    plain.rmdir()
    onnx.save(fused.model, path)
    return int(fused.get_fused_operator_statistics()["MultiHeadAttention"])


def verify_against_torch(source: SourceModel, model: Any, path: Path, tokenizer: Path, texts: Sequence[str]) -> float:
    """Lowest cosine of a text's hidden states by PyTorch and by the ONNX file; ShopstreamError under MIN_COSINE."""
    session: ort.InferenceSession = make_session(path, EncoderOptions(provider="cpu"))
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
    if lowest < MIN_COSINE:
        raise ShopstreamError(
            f"the ONNX export of {source.name} differs from PyTorch: cosine {lowest:.6f}, it should be {MIN_COSINE} "
            "or more; the versions of optimum, torch and onnxruntime may not fit each other"
        )
    return lowest
