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


@pytest.mark.parametrize(
    ("files", "wrong"),
    [
        ({"config": {"model_type": "t5"}}, "t5"),
        ({"modules": [{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]}, "Dense"),
        ({"pooling": {"pooling_mode_lasttoken": True}}, "lasttoken"),
        ({"pooling": {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}}, "cls and max"),
        ({"sentence_bert_config": {"do_lower_case": True}}, "lower-cases"),
    ],
)
def test_unsupported_models_are_refused(tmp_path, files, wrong):
    with pytest.raises(ShopstreamError, match=wrong):
        open_source(str(model_folder(tmp_path / "model", **files)))
