import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from rich.console import Console

from export.__main__ import main
from export.bundle.build import export_bundle
from export.bundle.options import Exported, ExportOptions
from export.bundle.publish import draft_folder
from export.encoder.source import open_source
from export.encoder.variants import VARIANTS
from udfs.bundles.bundle import current_id, open_bundle
from udfs.core.errors import ShopstreamError
from udfs.encoder.encoder import Encoder, open_encoder
from udfs.encoder.options import EncoderOptions
from udfs.encoder.selection import cpu_flags

HAS_BF16 = bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})

KINDS = {
    "Kitchen": ["ceramic mug", "bread knife", "enamel teapot", "cast iron pan", "glass storage jar", "cake stand"],
    "Home": ["scented candle", "wool throw", "linen cushion cover", "hanging lantern", "picture frame", "door mat"],
    "Clothes": ["rain jacket", "merino sweater", "running shoes", "canvas belt", "baby bodysuit", "straw hat"],
    "Toys": ["wooden train", "jigsaw puzzle 500 pieces", "plush rabbit", "kite", "watercolour set", "yo-yo"],
}
STYLES = ["", "red retrospot", "vintage", "small white", "extra large waterproof midnight blue"]
MINUTE = 60_000
START = 1_767_225_600_000  # 2026-01-01


def catalog(path: Path, *, backwards: bool = False) -> Path:
    """120 items; one title is long enough to fill several model inputs of its own length."""
    rows = [
        (f"{kind} > {name}", f"{style} {name}".strip().capitalize())
        for kind, names in KINDS.items()
        for name in names
        for style in STYLES
    ]
    rows[7] = (rows[7][0], rows[7][1] + ", dishwasher safe, gift boxed, with a matching tea towel and a recipe book")
    table = pa.table(
        {
            "item_id": [f"sku-{place:03}" for place in range(len(rows))],
            "title": [title for _, title in rows],
            "category": [category for category, _ in rows],
            "price": [1.5 + place for place in range(len(rows))],
        }
    )
    pacsv.write_csv(table.take(pa.array(range(len(rows))[:: -1 if backwards else 1])), path)
    return path


def clicks(path: Path, *, backwards: bool = False) -> Path:
    events = [
        (f"u{user}", START + minute * MINUTE, f"sku-{(user * 7 + minute) % 120:03}")
        for user in range(40)
        for minute in range(6)
    ]
    lines = [
        json.dumps({"event_id": f"e{n}", "event_type": "view", "user_id": u, "event_time": t, "item_id": i})
        for n, (u, t, i) in enumerate(events)
    ]
    path.write_text("\n".join(lines[:: -1 if backwards else 1]))
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Exported:
    folder = tmp_path_factory.mktemp("export")
    options = ExportOptions(
        catalog(folder / "catalog.csv"),
        folder / "out",
        sessions=clicks(folder / "clicks.jsonl"),
        calibration_texts=48,
        variants=tuple(VARIANTS),
    )
    return export_bundle(options, Console(quiet=True))


@pytest.fixture(scope="module")
def titles(exported) -> list[str]:
    return exported.bundle.items().titles


def encoder(exported: Exported, variant: str, threads: int = 0) -> Encoder:
    return open_encoder(exported.bundle, EncoderOptions(variant=variant, threads=threads))


def test_bundle_opens_and_is_current(exported):
    out = exported.bundle.path.parent
    bundle = open_bundle(out)
    assert bundle.id == exported.bundle.id == current_id(out)
    assert sorted(path.name for path in out.iterdir()) == sorted([bundle.id, "CURRENT"])
    manifest = bundle.manifest
    assert (manifest.items, manifest.sessions) == (120, 40)
    assert set(manifest.encoder.variants) == set(VARIANTS)
    assert {"onnx", "onnxruntime", "optimum", "torch", "transformers", "tokenizers", "shopstream"} <= set(
        manifest.versions
    )
    items = bundle.items()
    assert items.ids == sorted(items.ids)
    assert items.in_stock.all()
    assert items.popularity.sum() == 240
    assert bundle.item_vectors().shape == (120, 384)
    assert len(bundle.co_visits().offsets) == 121


def test_every_layer_is_fused(exported):
    assert exported.layers == 6
    assert exported.fused == {"attention": 6, "gelu": 6, "layer_norm": 13}
    assert exported.warnings == []


def test_changed_files_are_refused_by_name(exported, tmp_path):
    folder = tmp_path / exported.bundle.id
    shutil.copytree(exported.bundle.path, folder)
    for name in exported.bundle.manifest.files:
        content = (folder / name).read_bytes()
        changed = bytearray(content)
        changed[len(changed) // 2] ^= 1
        (folder / name).write_bytes(changed)
        with pytest.raises(ShopstreamError, match=name):
            open_bundle(tmp_path, exported.bundle.id)
        (folder / name).write_bytes(content)
    open_bundle(tmp_path, exported.bundle.id)


def test_fp32_vectors_equal_pytorch(exported, titles):
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = open_source(None).folder
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for row in (0, 7, 50, 119):
        with torch.inference_mode():
            hidden = model(**tokenizer(titles[row], return_tensors="pt")).last_hidden_state
        expected = torch.nn.functional.normalize(hidden.mean(dim=1)).numpy()[0]
        assert np.abs(exported.bundle.item_vectors()[row] - expected).max() < 1e-5


@pytest.mark.parametrize(
    "variant",
    ["fp32", "int8", pytest.param("bf16", marks=pytest.mark.skipif(not HAS_BF16, reason="no bfloat16 here"))],
)
def test_vectors_do_not_depend_on_batch_or_threads(exported, titles, variant):
    whole = encoder(exported, variant).encode(titles)
    single = encoder(exported, variant, threads=1)
    assert np.array_equal(np.concatenate([single.encode([title]) for title in titles]), whole)
    rng = np.random.default_rng(5)
    for size in (2, 3, 17, 64, 500):
        rows = rng.integers(len(titles), size=size)
        assert np.array_equal(single.encode([titles[row] for row in rows]), whole[rows])


def test_manifest_has_parity_of_every_variant(exported):
    variants = exported.bundle.manifest.encoder.variants
    least = {"fp32": 1, "int8": 0.99, "bf16": 0.9999, "fp16": 0.9999, "tensorrt-int8": 0.99}
    for name, variant in variants.items():
        parity = variant.parity
        assert parity.texts == 72  # 120 less 48
        assert parity.cosine_mean >= least[name]
        assert parity.cosine_min <= parity.cosine_p1 <= parity.cosine_mean <= 1
        assert parity.spearman >= 0.99
        assert parity.batch_invariance == 1
        assert parity.padding_invariance >= 0.9997
        assert variant.providers == VARIANTS[name]
    on_openvino = {name for name, variant in variants.items() if variant.measured_on == "openvino"}
    assert on_openvino == ({"bf16"} if HAS_BF16 else set())


def graph_of(exported, variant) -> onnx.GraphProto:
    return onnx.load(exported.bundle.variant_file(variant)).graph


def constants(graph) -> dict[str, np.ndarray]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


@pytest.mark.parametrize("variant", ["int8", "tensorrt-int8"])
def test_int8_is_static_and_per_channel(exported, variant):
    graph = graph_of(exported, variant)
    tensors = constants(graph)
    made_by = {output: node for node in graph.node for output in node.output}
    dense = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in made_by]
    dense = [node for node in dense if made_by[node.input[1]].op_type == "DequantizeLinear"]
    assert len(dense) == 6 * exported.layers  # query, key, value, attention's output, both feed-forward products
    for node in dense:
        activation, weight = (made_by[name] for name in node.input)
        assert activation.op_type == weight.op_type == "DequantizeLinear"
        values, scales = tensors[weight.input[0]], tensors[weight.input[1]]
        assert values.dtype == np.int8
        assert scales.shape == (values.shape[1],)
        zero_point = tensors[activation.input[2]]
        assert zero_point.dtype == (np.int8 if variant == "tensorrt-int8" else np.uint8)
        assert variant == "int8" or zero_point == 0
        assert tensors[activation.input[1]].shape == ()
    assert {node.domain for node in graph.node} <= {"", "com.microsoft"}
    assert not any(node.op_type == "DynamicQuantizeLinear" for node in graph.node)


def test_tensorrt_graph_has_standard_operators(exported):
    kinds = {node.op_type for node in graph_of(exported, "tensorrt-int8").node if node.domain == "com.microsoft"}
    assert kinds == set()


def test_fp16_fuses_attention_and_pools(exported):
    graph = graph_of(exported, "fp16")
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("MultiHeadAttention") == exported.layers
    assert {array.dtype for array in constants(graph).values() if array.ndim == 2} == {np.dtype(np.float16)}
    assert [node.name for node in graph.output] == ["embedding"]
    shape = graph.output[0].type.tensor_type.shape.dim
    assert shape[1].dim_value == exported.bundle.manifest.encoder.dimensions


def test_bf16_halves_the_matrices(exported):
    graph = graph_of(exported, "bf16")
    halved = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.BFLOAT16]
    assert len(halved) == 6 * exported.layers


def test_id_does_not_depend_on_file_order(exported, tmp_path, capsys):
    arguments = ["bundle", "--catalog", str(catalog(tmp_path / "turned.csv", backwards=True))]
    arguments += ["--sessions", str(clicks(tmp_path / "turned.jsonl", backwards=True)), "--calibration-texts", "48"]
    arguments += ["--variants", ",".join(VARIANTS)]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--out", str(tmp_path), "--keep-current", "--json"])
    assert stop.value.code == 0
    said = capsys.readouterr()
    summary = json.loads(said.out)
    assert said.err == ""
    assert summary["bundle"] == exported.bundle.id
    assert summary["variants"]["int8"]["bytes"] < summary["variants"]["fp32"]["bytes"]
    assert not (tmp_path / "CURRENT").exists()


def test_other_bundle_formats_are_refused(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "manifest.json").write_text('{"format": 1, "id": "old", "encoder": {}}')
    with pytest.raises(ShopstreamError, match="has format 1, this version reads 3: export it again"):
        open_bundle(tmp_path, "old")


def error_of(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["bundle", *map(str, arguments)])
    assert stop.value.code == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def test_refusals_are_one_line_errors(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    good, out = catalog(tmp_path / "catalog.csv"), tmp_path / "out"
    untitled = tmp_path / "untitled.csv"
    untitled.write_text("item_id,title\n1,\n2,\n")
    no_column = tmp_path / "no_column.csv"
    no_column.write_text("item_id,name\n1,mug\n")
    assert "no such file" in error_of(capsys, "--catalog", tmp_path / "none.csv", "--out", out)
    assert "no row has a title" in error_of(capsys, "--catalog", untitled, "--out", out)
    assert "--map title=COLUMN" in error_of(capsys, "--catalog", no_column, "--out", out)
    assert "FIELD=COLUMN" in error_of(capsys, "--catalog", no_column, "--out", out, "--map", "name")
    assert "does not exist" in error_of(capsys, "--catalog", good, "--out", out, "--model", tmp_path / "no" / "model")
    assert "config.json" in error_of(capsys, "--catalog", good, "--out", out, "--model", tmp_path)
    assert "hub" in error_of(capsys, "--catalog", good, "--out", out, "--model", "shop/none-such")
    assert "fp8" in error_of(capsys, "--catalog", good, "--out", out, "--variants", "fp32,fp8")
    assert "has to name fp32" in error_of(capsys, "--catalog", good, "--out", out, "--variants", "int8")
    assert "--gate 'cosine=1'" in error_of(capsys, "--catalog", good, "--out", out, "--gate", "cosine=1")
    assert "cannot be read" in error_of(capsys, "--catalog", good, "--out", out, "--calibration", tmp_path / "none")
    lake, empty = tmp_path / "lake", tmp_path / "empty"
    (lake / "events").mkdir(parents=True)
    empty.mkdir()
    assert "a job or a backfill makes it" in error_of(capsys, "--catalog", good, "--out", out, "--sessions", lake)
    assert "without files to read" in error_of(capsys, "--catalog", good, "--out", out, "--sessions", empty)
    assert "cannot be written to" in error_of(capsys, "--catalog", good, "--out", good)
    assert not out.exists()


def test_broken_model_leaves_nothing_behind(tmp_path, capsys):
    folder = shutil.copytree(open_source(None).folder, tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"no weights")
    line = error_of(capsys, "--catalog", catalog(tmp_path / "c.csv"), "--out", tmp_path / "out", "--model", folder)
    assert "cannot be loaded" in line
    assert list((tmp_path / "out").iterdir()) == []


def test_ctrl_c_leaves_no_draft(tmp_path):
    def interrupted():
        with draft_folder(tmp_path) as draft:
            (draft / "tokenizer.json").write_text("{}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_bad_quantisation_names_its_worst_layers(tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("a\n")  # no range of values to speak of
    line = error_of(
        capsys, "--catalog", catalog(tmp_path / "c.csv"), "--out", tmp_path / "out", "--variants", "int8,fp32",
        "--calibration", texts,
    )  # fmt: skip
    assert re.search(r"variant int8 is too far from fp32: cosine_mean 0\.\d+ < 0\.99", line)
    assert re.search(r"hurts most: the one that takes /encoder/layer\.\d/\S+ \(0\.\d+\)", line)
    assert list((tmp_path / "out").iterdir()) == []
