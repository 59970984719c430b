import json
import shutil
from pathlib import Path

import pytest

from export.encoder.source import open_source
from udfs.core.errors import ShopstreamError


def model_folder(folder: Path, **files: object) -> Path:
    """The default model's files, JSON ones replaced by name: `modules={…}` is modules.json."""
    shutil.copytree(open_source(None).folder, folder)
    for name, content in files.items():
        path = folder / ("1_Pooling/config.json" if name == "pooling" else f"{name}.json")
        path.write_text(json.dumps(content))
    return folder


def test_pooling_prefix_and_limit_are_the_models(tmp_path):
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    transformer = {"path": "", "type": "sentence_transformers.models.Transformer"}
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    source = open_source(
        str(
            model_folder(
                tmp_path / "model",
                modules=[transformer, {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}],
                pooling=pooling,
                sentence_bert_config={"max_seq_length": 64},
                config_sentence_transformers=prompts,
            )
        )
    )
    assert (source.pooling, source.normalize, source.max_tokens, source.prefix) == ("cls", False, 64, "query: ")
    default = open_source(None)
    assert (default.pooling, default.normalize, default.max_tokens, default.prefix) == ("mean", True, 256, "")


ST = "sentence_transformers.models"
TRANSFORMER, POOLING, NORMALIZE, DENSE = (
    {"path": path, "type": f"{ST}.{kind}"}
    for path, kind in (
        ("", "Transformer"),
        ("1_Pooling", "Pooling"),
        ("2_Normalize", "Normalize"),
        ("2_Dense", "Dense"),
    )
)
CONFIG = json.loads((open_source(None).folder / "config.json").read_bytes())
JINA = {"AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"}


@pytest.mark.parametrize(
    ("files", "wrong"),
    [
        ({"config": {"model_type": "t5"}}, "t5"),
        ({"config": {"model_type": "bert"}}, "lacks hidden_size, max_position_embeddings, num_att"),
        ({"config": CONFIG | {"auto_map": JINA}}, "code of its own .*modeling_bert.JinaBertModel, auto_map"),
        ({"config": CONFIG | {"position_embedding_type": "alibi"}}, "position_embedding_type alibi"),
        ({"config": CONFIG | {"architectures": ["BertForSequenceClassification"]}}, "is a BertForSequenceClass"),
        ({"config": CONFIG | {"architectures": ["HF_ColBERT"]}}, "is a HF_ColBERT"),
        ({"modules": [TRANSFORMER, POOLING, DENSE, NORMALIZE]}, r"not support: 2_Dense \(Dense\) \(modules.json\)"),
        ({"modules": [TRANSFORMER]}, "has the layers Transformer "),
        ({"modules": [TRANSFORMER, NORMALIZE, POOLING]}, "has the layers Transformer, Normalize, Pooling"),
        ({"modules": [TRANSFORMER, POOLING, POOLING]}, "has the layers Transformer, Pooling, Pooling"),
        ({"modules": [TRANSFORMER | {"path": "0_Transformer"}, POOLING]}, "in 0_Transformer"),
        ({"modules": [TRANSFORMER | {"type": "custom_st.Transformer"}, POOLING]}, "its own .custom_st.Transformer,"),
        ({"modules": [TRANSFORMER, POOLING | {"path": "2_Pooling"}]}, "2_Pooling/config.json is missing"),
        ({"pooling": {"pooling_mode_lasttoken": True}}, "lasttoken"),
        ({"pooling": {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}}, "cls and max"),
        ({"pooling": {"pooling_mode": ["cls", "max"]}}, "cls and max"),
        ({"pooling": {"pooling_mode_mean_tokens": False}}, "pools by nothing"),
        ({"pooling": {"pooling_mode_mean_tokens": True, "include_prompt": False}}, "include_prompt"),
        ({"sentence_bert_config": {"do_lower_case": True}}, "lower-cases"),
    ],
)
def test_unsupported_models_are_refused(tmp_path, files, wrong):
    with pytest.raises(ShopstreamError, match=wrong):
        open_source(str(model_folder(tmp_path / "model", **files)))


def header(file: Path, **shapes: list[int]) -> None:
    """Write a safetensors file that ends after its header."""
    tensors = {name: {"dtype": "F16", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    content = json.dumps({"__metadata__": {"format": "pt"}} | tensors).encode()
    file.write_bytes(len(content).to_bytes(8, "little") + content)


def test_model_of_over_2_gb_needs_memory_before_it_is_loaded(tmp_path, monkeypatch):
    folder = model_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    header(folder / "model-00001-of-00002.safetensors", **{"embeddings.word_embeddings.weight": [530_000, 1024]})
    header(folder / "model-00002-of-00002.safetensors", **{"encoder.layer.0.output.dense.weight": [1024, 4096]})
    monkeypatch.setattr("export.encoder.source._available_memory", lambda: 6_000_000_000)
    with pytest.raises(ShopstreamError, match=r"2.2 GB of weights .* about 6.6 GB of memory; 6.0 GB are available"):
        open_source(str(folder))
    for available in (7_000_000_000, None):
        monkeypatch.setattr("export.encoder.source._available_memory", lambda: available)  # noqa: B023
        assert open_source(str(folder)).name == "model"
    head = {"embeddings.word_embeddings.weight": [300_000, 1024], "cls.predictions.decoder.weight": [300_000, 1024]}
    header(folder / "model.safetensors", **head)  # alone: no head goes into the ONNX file
    monkeypatch.setattr("export.encoder.source._available_memory", lambda: 0)
    assert open_source(str(folder)).name == "model"


E5 = {"query": "query: ", "passage": "passage: "}
BGE = "Represent this sentence for searching relevant passages: "


@pytest.mark.parametrize(
    ("name", "settings", "document", "query"),
    [
        ("model", {}, "", ""),
        ("model", {"prompts": E5, "default_prompt_name": None}, "passage: ", "query: "),
        ("model", {"prompts": {"document": "d: ", "passage": "p: ", "corpus": "c: "}}, "d: ", ""),
        ("model", {"prompts": {"all": "a: ", "query": "q: "}, "default_prompt_name": "all"}, "a: ", "q: "),
        ("e5-small-v2", {}, "passage: ", "query: "),
        ("e5-small-v2", {"prompts": {"query": "", "document": ""}}, "passage: ", "query: "),
        ("e5-small-v2", {"prompts": {"query": "q: "}}, "", "q: "),
        ("multilingual-e5-base", {}, "passage: ", "query: "),
        ("bge-small-en-v1.5", {}, "", BGE),
        ("my-e5-small", {}, "", ""),
    ],
)
def test_prefixes_are_the_models_or_known_by_its_name(tmp_path, name, settings, document, query):
    folder = str(model_folder(tmp_path / name, config_sentence_transformers=settings))
    source = open_source(folder)
    assert (source.prefix, source.query_prefix) == (document, query)
    chosen = open_source(folder, query_prefix="", document_prefix="title: ")
    assert (chosen.prefix, chosen.query_prefix) == ("title: ", "")
    assert open_source(folder, query_prefix="find: ").prefix == document


def test_default_prompt_that_is_none_is_refused(tmp_path):
    settings = {"prompts": E5, "default_prompt_name": "search"}
    with pytest.raises(ShopstreamError, match="default_prompt_name search"):
        open_source(str(model_folder(tmp_path / "model", config_sentence_transformers=settings)))
