import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from models import add_default_tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForPreTraining

from export.encoder.source import SourceModel, open_source
from export.encoder.to_onnx import load_torch, write_tokenizer
from udfs.core.errors import ShopstreamError

DENSE = "encoder.layer.0.intermediate.dense.weight"
Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer, 8 wide, with the heads for pre-training and all-MiniLM's tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertForPreTraining(config).save_pretrained(folder)
    add_default_tokenizer(folder)
    return folder


def changed(small: Path, folder: Path, change: Callable[[Weights], Weights]) -> SourceModel:
    """The small model, copied, with other weights."""
    shutil.copytree(small, folder)
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    return open_source(str(folder))


def encoder_alone(weights: Weights) -> Weights:
    return {name.removeprefix("bert."): tensor for name, tensor in weights.items() if name.startswith("bert.")}


def test_heads_of_pre_training_and_the_pooler_are_not_missed(small, tmp_path):
    load_torch(open_source(str(small)))
    old = {"embeddings.position_ids": torch.arange(512)[None]}
    load_torch(
        changed(small, tmp_path / "no-pooler", lambda weights: {
            name: tensor for name, tensor in (encoder_alone(weights) | old).items() if "pooler" not in name
        })
    )  # fmt: skip
    load_torch(open_source(None))


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda weights: {name: weights[name] for name in weights if name != DENSE}, f"lacks {DENSE}; .*random"),
        (lambda weights: weights | {DENSE: torch.zeros(4, 8)}, f"has another shape of {DENSE} than config.json"),
        (
            lambda weights: weights | {"classifier.bias": torch.zeros(2)},
            "has classifier.bias, which the model does not",
        ),
        (
            lambda weights: {f"_orig_mod.{name}": weights[name] for name in weights},
            r"lacks .* and 18 more and has _orig_mod.* begin with “_orig_mod.” \(torch.compile does that\)",
        ),
        (lambda weights: {f"student.{name}": weights[name] for name in weights}, "begin with “student.”; save"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(small, tmp_path, change, wrong):
    source = changed(small, tmp_path / "model", lambda weights: change(encoder_alone(weights)))
    with pytest.raises(ShopstreamError, match=wrong):
        load_torch(source)


def test_tokenizer_with_more_tokens_than_the_model_is_refused(small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    tokenizer.add_tokens(["athleisure"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ShopstreamError, match=r"the tokenizer has 30,523 tokens, the model 30,522"):
        write_tokenizer(open_source(str(folder)), tmp_path / "tokenizer.json")
    write_tokenizer(open_source(str(small)), tmp_path / "tokenizer.json")
