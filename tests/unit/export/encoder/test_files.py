from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from models import add_default_tokenizer
from transformers import BertConfig, BertModel

from export.bundle.progress import warnings_silenced
from export.encoder import files
from export.encoder.batches import exact_length_batches
from export.encoder.files import is_external, load_onnx, save_onnx
from export.encoder.quantize import calibrate, write_int8
from export.encoder.source import SourceModel, open_source
from export.encoder.to_onnx import (
    exported,
    load_torch,
    verify_against_torch,
    write_bf16,
    write_fp16,
    write_fp32,
    write_tokenizer,
)
from export.encoder.variants import VARIANTS, encoder_info, open_variant, variant_bytes
from udfs.bundles.manifest import FORMAT, FileEntry, Manifest, Parity, Variant
from udfs.core.hashing import sha256
from udfs.encoder.openvino import OpenVino

TEXTS = ["red stoneware mug", "blue stoneware mug", "teapot", "a very long wooden train for small children", "kite"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SourceModel:
    """A BERT of one layer, 32 wide: 3.9 MB of tokens' embeddings, 0.1 MB of everything else."""
    folder = tmp_path_factory.mktemp("model")
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    BertModel(config).save_pretrained(folder)
    add_default_tokenizer(folder)
    return open_source(str(folder))


Write = Callable[[Path], Path]


@pytest.fixture(scope="module")
def write(small: SourceModel) -> Write:
    """Writes every variant of the small model, and its tokenizer, into a folder."""

    def write(folder: Path) -> Path:
        folder.mkdir()
        tokenizer, fp32 = folder / "tokenizer.json", folder / "fp32.onnx"
        model = load_torch(small)
        write_tokenizer(small, tokenizer)
        with warnings_silenced(), exported(model) as plain:
            write_fp32(small, plain, fp32)
            write_fp16(small, plain, folder / "fp16.onnx")
        write_bf16(fp32, folder / "bf16.onnx")
        activations = calibrate(fp32, list(exact_length_batches(tokenizer, TEXTS, 64)))
        for name in ("int8", "tensorrt-int8"):
            assert write_int8(fp32, folder / f"{name}.onnx", activations, symmetric=name != "int8") == 6
        verify_against_torch(small, model, fp32, tokenizer, TEXTS)
        return folder

    return write


def test_model_over_the_limit_has_the_same_vectors_from_data_files(small, write, tmp_path, monkeypatch):
    def vectors(folder: Path, variant: str) -> npt.NDArray[np.float32]:
        encoder = open_variant(folder / f"{variant}.onnx", variant, folder / "tokenizer.json", encoder_info(small))
        return encoder.encode(TEXTS)

    def openvino(folder: Path, variant: str) -> npt.NDArray[np.float32]:
        ids = np.array([[101, 2417, 14757, 102]])
        return OpenVino(folder / f"{variant}.onnx", variant, 1).run(ids, np.ones_like(ids))

    whole = write(tmp_path / "whole")
    monkeypatch.setattr(files, "SINGLE_FILE_BYTES", 1_000_000)
    monkeypatch.setenv("FORCE_ONNX_EXTERNAL_DATA", "1")  # Optimum's export, as it is above 2 GB
    parts = write(tmp_path / "parts")
    assert not list(whole.glob("*.data"))
    # The embeddings of fp32 serve bf16 and int8 as well.
    assert sorted(file.name for file in parts.glob("*.data")) == ["fp16.onnx.data", "fp32.onnx.data"]
    for variant in VARIANTS:
        assert (parts / f"{variant}.onnx").stat().st_size < 200_000
        assert np.array_equal(vectors(parts, variant), vectors(whole, variant)), variant
    for variant in ("fp32", "int8"):
        there, here = (openvino(folder, variant) for folder in (parts, whole))
        assert np.array_equal(there, here), variant


def test_hash_of_an_onnx_file_stands_for_its_data_file(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SINGLE_FILE_BYTES", 1_000)

    def written(name: str, value: float) -> Path:
        table = onnx.numpy_helper.from_array(np.full((400, 8), value, np.float32), "table")
        outside = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)
        path = tmp_path / name / "model.onnx"
        path.parent.mkdir()
        node = onnx.helper.make_node("Identity", ["table"], ["out"])
        save_onnx(onnx.helper.make_model(onnx.helper.make_graph([node], "graph", [], [outside], [table])), path)
        return path

    ones, same, twos = written("ones", 1), written("same", 1), written("twos", 2)
    assert sha256(ones) == sha256(same) != sha256(twos)
    assert all(map(is_external, load_onnx(ones).graph.initializer))
    entry = onnx.load(ones).metadata_props[0]
    assert (entry.key, entry.value) == ("sha256 of model.onnx.data", sha256(ones.with_name("model.onnx.data")))
    assert np.array_equal(onnx.numpy_helper.to_array(onnx.load(twos).graph.initializer[0])[0], [2] * 8)


def test_size_of_a_variant_has_the_data_files_that_it_reads(small):
    info = encoder_info(small)
    for name in VARIANTS:
        info.variants[name] = Variant(f"encoder/{name}.onnx", name, ("cpu",), "cpu", Parity(1, *[1.0] * 7))
    sizes = {f"{name}.onnx": 10 for name in VARIANTS}

    def size(variant: str, sizes: dict[str, int]) -> int:
        entries = {f"encoder/{name}": FileEntry("0" * 64, size) for name, size in sizes.items()}
        return variant_bytes(Manifest(FORMAT, "", "none", {}, info, 0, 0, entries), variant)

    assert [size(name, sizes) for name in VARIANTS] == [10] * 5
    sizes["fp32.onnx.data"] = 400
    assert [size(name, sizes) for name in ("fp32", "int8", "fp16")] == [410, 410, 10]
    sizes["fp16.onnx.data"] = 200
    assert [size(name, sizes) for name in ("fp32", "int8", "fp16")] == [410, 410, 210]
