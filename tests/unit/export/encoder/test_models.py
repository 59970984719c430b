from pathlib import Path

import models
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
import torch
from rich.console import Console
from transformers import AutoModel, AutoTokenizer

from export.bundle.build import export_bundle
from export.bundle.options import Exported, ExportOptions
from export.encoder.source import SourceModel, open_source
from export.encoder.variants import VARIANTS
from udfs.encoder.encoder import open_encoder
from udfs.encoder.options import EncoderOptions

TITLES = {
    "Stoneware mug, speckled blue, 350 ml": "蓝色斑点陶瓷马克杯 350毫升",
    "Wireless Bluetooth headphones with noise cancelling": "无线蓝牙降噪耳机",
    "Men's waterproof running shoes": "男士防水跑鞋",
    "Stainless steel bread knife": "不锈钢面包刀",
    "Wooden train set for children": "儿童木制火车玩具",
    "Scented candle, lavender": "薰衣草香薰蜡烛",
    "Cotton bed sheet, double": "纯棉双人床单",
    "Laptop stand, aluminium": "铝合金笔记本电脑支架",
}


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> SourceModel:
    return open_source(str(models.multilingual_e5_small(tmp_path_factory.mktemp("multilingual"))))


@pytest.fixture(scope="module")
def random(tmp_path_factory: pytest.TempPathFactory) -> SourceModel:
    return open_source(str(models.random_cls_bert(tmp_path_factory.mktemp("random"))))


def vectors(source: SourceModel, texts: list[str]) -> npt.NDArray[np.float32]:
    """A unit vector [width] of each text, by transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(str(source.folder))
    model = AutoModel.from_pretrained(str(source.folder)).eval()
    made = []
    for text in texts:
        with torch.no_grad():
            states = model(**tokenizer(source.prefix + text, return_tensors="pt")).last_hidden_state[0]
        made.append(states.mean(0) if source.pooling == "mean" else states[0])
    return torch.nn.functional.normalize(torch.stack(made)).numpy()


def test_multilingual_model_is_read_as_it_is(multilingual: SourceModel):
    assert (multilingual.layers, multilingual.heads, multilingual.hidden) == (12, 12, 384)
    assert (multilingual.pooling, multilingual.normalize) == ("mean", True)
    assert (multilingual.max_tokens, multilingual.prefix, multilingual.query_prefix) == (512, "passage: ", "query: ")


def exported(source: SourceModel, folder: Path, variants: tuple[str, ...]) -> Exported:
    table = pa.table({"item_id": [str(n) for n in range(16)], "title": [*TITLES.keys(), *TITLES.values()]})
    pacsv.write_csv(table, folder / "catalog.csv")
    options = ExportOptions(folder / "catalog.csv", folder / "out", model=str(source.folder), variants=variants)
    return export_bundle(options, Console(quiet=True))


@pytest.mark.timeout(900)  # a 12-layer model, quantised: 80 s on two free cores
def test_multilingual_model_matches_two_languages(multilingual: SourceModel, tmp_path: Path):
    done = exported(multilingual, tmp_path, ("fp32", "int8"))
    assert (done.layers, done.fused) == (12, {"gelu": 12, "layer_norm": 25})
    info = done.bundle.manifest.encoder
    assert (info.prefix, info.query_prefix) == ("passage: ", "query: ")
    for variant, provider in (("fp32", "cpu"), ("int8", "cpu"), ("fp32", "openvino"), ("int8", "openvino")):
        encoder = open_encoder(done.bundle, EncoderOptions(variant=variant, provider=provider))
        cosines = encoder.encode([*TITLES.keys()]) @ encoder.encode([*TITLES.values()]).T
        assert np.array_equal(cosines.argmax(axis=0), range(len(TITLES)))
        assert np.array_equal(cosines.argmax(axis=1), range(len(TITLES)))


def test_cls_pooling_passes_in_every_variant(random: SourceModel, tmp_path: Path):
    done = exported(random, tmp_path, tuple(VARIANTS))
    assert (done.layers, done.fused) == (12, {"attention": 12, "gelu": 12, "layer_norm": 25})
    assert set(done.bundle.manifest.encoder.variants) == set(VARIANTS)
    encoder = open_encoder(done.bundle, EncoderOptions(variant="fp32", provider="cpu"))
    assert np.allclose(encoder.encode([*TITLES]), vectors(random, [*TITLES]), atol=1e-5)


def test_multilingual_tokenizer_reads_every_script(multilingual: SourceModel):
    tokenizer = AutoTokenizer.from_pretrained(str(multilingual.folder))
    assert tokenizer("Hello world").input_ids == [0, 35378, 8999, 2]
    for text in ("蓝色斑点陶瓷马克杯", "كوب خزفي أزرق", "Tasse à café", "30～50 ml"):
        assert tokenizer.unk_token_id not in tokenizer(text).input_ids
    assert tokenizer("ＡＢＣ\t①\u0007").input_ids == tokenizer("ABC 1").input_ids


def test_random_model_is_read_as_it_is(random: SourceModel):
    assert (random.layers, random.heads, random.hidden) == (12, 4, 128)
    assert (random.pooling, random.normalize) == ("cls", True)
    assert (random.max_tokens, random.prefix, random.query_prefix) == (128, "", "")


def test_random_model_separates_texts(random: SourceModel):
    made = vectors(random, list(TITLES))
    cosines = made @ made.T
    assert cosines[~np.eye(len(TITLES), dtype=bool)].mean() < 0.8
    assert np.isfinite(made).all()


def test_random_model_is_always_the_same(random: SourceModel, tmp_path: Path):
    again = models.random_cls_bert(tmp_path / "again")
    for file in (file for file in random.folder.rglob("*") if file.is_file()):
        assert (again / file.relative_to(random.folder)).read_bytes() == file.read_bytes(), file.name
