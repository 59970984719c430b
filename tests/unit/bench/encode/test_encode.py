import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from support import ROOT
from tokenizers import Tokenizer

from bench import environment
from bench.chart import require_drawing
from bench.encode.contenders import PEER_PACKAGES
from bench.encode.measure import fidelity, is_invariant
from bench.encode.peers import LOADERS, SETTINGS, Vectors
from bench.encode.report import Result, Row, draw, median_ratio, victory
from bench.encode.text_sets import TextSet, joined, make_text_sets, read_titles
from bench.encode.worker import Contender, Worker
from bench.environment import peers_versions
from udfs.bundle import open_bundle
from udfs.errors import ShopstreamError

ROW = Row("ours-int8", "short", 1000.0, 6.5, 0.9971, 0.9951, 0.95, True, 210.0)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def tokenizer(bundles: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(open_bundle(bundles).tokenizer))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@pytest.fixture(scope="module")
def titles(shop: Path) -> list[str]:
    return read_titles(shop / "catalog.jsonl").measured


def test_no_title_is_both_calibrated_on_and_measured(shop: Path):
    titles = read_titles(shop / "catalog.jsonl")
    assert len(titles.calibration) == 180
    assert len({*titles.calibration, *titles.measured}) == 600


def test_a_catalogue_with_few_titles_is_refused(tmp_path: Path):
    items = [{"item_id": f"i{n}", "title": f"mug {n}"} for n in range(9)]
    (tmp_path / "few.jsonl").write_text("\n".join(map(json.dumps, items)))
    with pytest.raises(ShopstreamError, match=r"few\.jsonl has 9 distinct titles"):
        read_titles(tmp_path / "few.jsonl")


@pytest.mark.parametrize("prefix", ["", "query: "])
@pytest.mark.parametrize("tokens", [64, 256])
def test_joined_texts_have_exactly_so_many_tokens(titles: list[str], tokenizer: Tokenizer, tokens: int, prefix: str):
    texts = joined(titles, tokens, 20, tokenizer, prefix)
    assert len(set(texts)) == 20
    assert {len(tokenizer.encode(prefix + text)) for text in texts} == {tokens}
    assert not texts[0].startswith("query")


def test_the_text_sets_are_the_same_every_time(titles: list[str], tokenizer: Tokenizer):
    sets = {text_set.name: text_set for text_set in make_text_sets(titles, tokenizer, "", quick=True)}
    again = {text_set.name: text_set for text_set in make_text_sets(titles, tokenizer, "", quick=True)}
    assert sets == again
    assert set(sets["short"].texts) <= set(titles)
    assert [text_set.chunk for text_set in sets.values()] == [0, 0, 0, 256]


def test_the_stream_repeats_as_zipf_says(titles: list[str], tokenizer: Tokenizer):
    stream = make_text_sets(titles, tokenizer, "", quick=False)[3].texts
    counts = np.array([stream.count(title) for title in titles])
    expected = len(stream) / np.arange(1, len(titles) + 1) ** 1.05
    expected /= (1 / np.arange(1, len(titles) + 1) ** 1.05).sum()
    assert np.allclose(counts[:20], expected[:20], rtol=0.25)


def test_a_ratio_is_the_median_of_each_rounds():
    # The machine was twice as slow in round 2: the medians of the seconds, 2 and 1, would say 2.
    assert median_ratio([2.0, 9.0, 1.5], [1.0, 2.0, 0.5]) == 3.0
    assert median_ratio(None, [1.0]) is None


def test_fidelity_by_hand():
    reference = np.eye(3, dtype=np.float32)
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0, 0.6, 0.8]], dtype=np.float32)
    mean, p01, overlap = fidelity(vectors, reference)
    assert mean == pytest.approx((1 + 1 + 0.8) / 3)
    assert p01 == pytest.approx(0.8 + 0.02 * 0.2)
    assert overlap == 1  # three texts: everyone's two neighbours are the other two
    assert fidelity(vectors, None) == (None, None, None)


def on_circle(*angles: float) -> Vectors:
    return np.array([[np.cos(angle), np.sin(angle)] for angle in angles], dtype=np.float32)


def test_invariance_is_equal_vectors_with_equal_neighbours():
    # Twelve far texts, so that not everyone is among the ten nearest, and two almost equally near to the first.
    vectors = on_circle(0, 0.0100, -0.0104, *np.linspace(1, 3, 12))
    assert is_invariant(on_circle(0, 0.0100), vectors)
    assert is_invariant(2 * on_circle(0, 0.0100), vectors)
    assert not is_invariant(on_circle(0.01, 0.0100), vectors)  # cosine .99995
    assert not is_invariant(on_circle(-0.001, 0.0100), vectors)  # cosine .9999995, but the other one is nearer


def test_who_won_goes_by_rounds():
    sets = [TextSet("short", "", ["mug"]), TextSet("zipf", "", ["mug"], 256)]
    peer, slow = replace(ROW, name="openvino-int8", texts_per_s=500.0), replace(ROW, name="fastembed", texts_per_s=9.0)
    results = [Result(ROW, [1.0, 2.0, 3.0], ""), Result(peer, [2.0, 3.0, 12.0], ""), Result(slow, [9.0, 9.0, 9.0], "")]
    assert victory(sets, results) == "ours to the fastest peer: short 2.00 × (ours-int8 to openvino-int8)"
    assert victory(sets, results[:1]) == ""


WORKER = """
import numpy as np
from bench.encode.peers import serve

def load(config):
    print("loading", config["name"])
    return lambda batch: lambda texts: (print("noise"), np.full((len(texts), 2), [batch, len(texts)], np.float32))[1]

serve(load)
"""


def test_a_worker_answers_though_libraries_print(tmp_path: Path):
    contender = Contender("chatty", [sys.executable, "-c", WORKER], {"name": "chatty"}, {"short": 32})
    text_set = TextSet("short", "", ["a", "b", "c", "d", "e"], chunk=2)
    (tmp_path / "short.json").write_text(json.dumps(text_set.texts))
    with Worker(contender, tmp_path) as worker:
        assert 0 < worker.encode(text_set, save=tmp_path / "all.npy") < 10
        worker.encode(text_set, limit=3, batch=16, save=tmp_path / "some.npy")
        assert 5 < worker.memory_mb < 1000
    assert np.load(tmp_path / "all.npy").tolist() == [[32, 2], [32, 2], [32, 2], [32, 2], [32, 1]]
    assert np.load(tmp_path / "some.npy").tolist() == [[16, 2], [16, 2], [16, 1]]


def test_a_worker_that_fails_says_why(tmp_path: Path):
    program = "import sys; sys.exit('no such model')"
    with pytest.raises(ShopstreamError, match=r"^peer failed: no such model$"):
        Worker(Contender("peer", [sys.executable, "-c", program], {}), tmp_path)


def test_every_peer_has_a_loader_and_locked_versions():
    assert set(SETTINGS) == set(LOADERS)
    assert all(peers_versions("encode", *PEER_PACKAGES).values())
    assert torch.__version__.startswith(peers_versions("encode", "torch")["torch"])  # downloaded once, not twice


def test_without_uv_the_peers_cannot_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "peers-encode.lock").write_text("")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ShopstreamError, match="uv is needed to install the peers"):
        environment.peers_python("encode", "some MB", Console(quiet=True))


@pytest.mark.parametrize("name", ["chart.svg", "chart.png"])
def test_the_same_rows_draw_the_same_chart(tmp_path: Path, name: str):
    rows = [ROW, replace(ROW, name="openvino-int8", cosine_mean=None), replace(ROW, text_set="tokens256")]
    require_drawing(tmp_path / name)
    drawn = []
    for _ in range(2):
        draw(rows, tmp_path / name)
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0] == drawn[1]
    draw(rows[:1], tmp_path / name)
    assert (tmp_path / name).read_bytes() != drawn[0]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--only", "theirs"], "--only names theirs; the contenders are ours-int8, "),
        (["--chart", "chart.pdf"], "--chart chart.pdf: use a name that ends in .svg or .png"),
        (["--catalog", "nowhere.csv"], "nowhere.csv: no such file"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], error: str):
    ran = bench("encode", "--quick", *arguments)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith(f"error: {error}")
    assert ran.stdout == ""


def test_a_quick_run_of_ours(bundles: Path, shop: Path):
    given = ("--quick", "--bundles", str(bundles), "--catalog", str(shop / "catalog.jsonl"))
    ran = bench("encode", *given, "--json", "--only", "ours-int8-onnxruntime,ours-int8-cached", "--only", "ours-fp32")
    assert ran.returncode == 0, ran.stderr
    rows = [Row(**row) for row in json.loads(ran.stdout)]
    sets = ("short", "tokens64", "tokens256", "zipf")
    expected = {(name, text_set) for name in ("ours-int8-onnxruntime", "ours-fp32") for text_set in sets}
    assert {(row.name, row.text_set) for row in rows} == expected | {("ours-int8-cached", "zipf")}
    for row in rows:
        assert row.batch_invariant, row
        assert 0 < row.texts_per_s < 1e6
        assert 50 < row.memory_mb < 10_000
        # without Sentence Transformers there is nothing to compare with
        assert {row.ratio_to_sentence_transformers, row.cosine_mean, row.cosine_p01, row.top10_overlap} == {None}
