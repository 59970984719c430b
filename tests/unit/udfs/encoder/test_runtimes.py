import logging
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from udfs.bundles.bundle import open_bundle
from udfs.bundles.manifest import Parity, Variant
from udfs.core.errors import ShopstreamError
from udfs.encoder.encoder import Encoder
from udfs.encoder.loading import load
from udfs.encoder.onnx_runtime import ort_provider_options
from udfs.encoder.options import EncoderOptions
from udfs.encoder.selection import choose

PARITY = Parity(1, 1, 1, 1, 1, 1, 1, 1)
VARIANTS = {
    name: Variant(f"encoder/{name}.onnx", name, providers, "cpu", PARITY)
    for name, providers in {
        "fp32": ("cpu", "openvino", "cuda", "tensorrt"),
        "int8": ("cpu", "openvino"),
        "bf16": ("openvino",),
        "fp16": ("cuda",),
        "tensorrt-int8": ("tensorrt",),
    }.items()
}
HAS_CUDA = Path("/dev/nvidiactl").exists()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    def set_up(flags: str, *, cuda: bool = False) -> None:
        monkeypatch.setattr("udfs.encoder.selection.cpu_flags", lambda: frozenset(flags.split()))
        monkeypatch.setattr("udfs.encoder.selection.on_device", lambda _: cuda)

    return set_up


@pytest.mark.parametrize(
    ("flags", "cuda", "provider", "chosen"),
    [
        ("avx2 avx512_vnni", False, "auto", ("int8", "cpu")),
        ("avx2 avx_vnni", False, "auto", ("int8", "cpu")),
        ("avx2", False, "auto", ("fp32", "cpu")),
        ("avx2", False, "openvino", ("fp32", "openvino")),
        ("avx512_vnni avx512_bf16", False, "openvino", ("int8", "openvino")),
        ("avx512_bf16", False, "openvino", ("bf16", "openvino")),
        ("avx512_vnni avx512_bf16 amx_bf16 amx_int8", False, "openvino", ("bf16", "openvino")),
        ("avx512_vnni", True, "auto", ("fp16", "cuda")),
        ("avx512_vnni", True, "cpu", ("int8", "cpu")),
        ("avx512_vnni", True, "tensorrt", ("tensorrt-int8", "tensorrt")),
    ],
)
def test_the_fastest_variant_for_processor_and_provider_is_chosen(machine, flags, cuda, provider, chosen):
    machine(flags, cuda=cuda)
    choice = choose(VARIANTS, EncoderOptions(provider=provider))
    assert (choice.variant, choice.provider) == chosen
    assert choice.reason


def test_a_named_variant_finds_its_provider(machine):
    machine("avx512_vnni")
    for variant, provider in {"fp32": "cpu", "int8": "cpu", "bf16": "openvino", "fp16": "cuda"}.items():
        assert choose(VARIANTS, EncoderOptions(variant=variant)).provider == provider
    machine("avx512_vnni", cuda=True)
    assert choose(VARIANTS, EncoderOptions(variant="fp32")).provider == "cuda"
    assert choose(VARIANTS, EncoderOptions(variant="int8")).provider == "cpu"


def test_what_does_not_fit_is_refused_in_words(machine):
    machine("avx2")
    with pytest.raises(ShopstreamError, match=r"no encoder variant 'int3'; it has bf16, fp16, fp32"):
        choose(VARIANTS, EncoderOptions(variant="int3"))
    with pytest.raises(ShopstreamError, match="int8 runs on cpu, openvino, not on cuda"):
        choose(VARIANTS, EncoderOptions(variant="int8", provider="cuda"))
    with pytest.raises(ShopstreamError, match="no encoder variant for tensorrt"):
        choose({"int8": VARIANTS["int8"]}, EncoderOptions(provider="tensorrt"))


def test_the_choice_is_said_with_its_reason(bundles: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "udfs.encoder"):
        Encoder(open_bundle(bundles), EncoderOptions(variant="fp32", provider="cpu", threads=1))
    assert "encoder variant fp32 on cpu: encoder.variant names it" in caplog.text


@pytest.mark.skipif(HAS_CUDA, reason="a CUDA device is present")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_device_that_was_asked_for_and_is_not_there_is_an_error(bundles: Path, provider: str, caplog, tmp_path):
    bundle = open_bundle(bundles)
    options = EncoderOptions(provider=provider, threads=1, engine_cache=str(tmp_path))
    with pytest.raises(ShopstreamError, match=rf"encoder\.provider is {provider}.*encoder\.allow_fallback"):
        Encoder(bundle, options)
    fallen_back = Encoder(
        bundle, EncoderOptions(provider=provider, threads=1, allow_fallback=True, engine_cache=str(tmp_path))
    )
    assert fallen_back.provider == "cpu"
    assert "running on the CPU" in caplog.text


@pytest.mark.skipif(HAS_CUDA, reason="a CUDA device is present")
def test_a_named_variant_is_never_replaced_unasked(bundles: Path):
    bundle = open_bundle(bundles)
    with pytest.raises(ShopstreamError, match=r"encoder\.provider is cuda"):
        Encoder(bundle, EncoderOptions(variant="fp16", threads=1))
    assert Encoder(bundle, EncoderOptions(variant="fp16", threads=1, allow_fallback=True)).provider == "cpu"


def test_openvino_that_is_not_installed_is_an_error(bundles: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr("udfs.encoder.loading._loaded", {})
    monkeypatch.setattr("udfs.encoder.openvino.find_spec", lambda _: None)
    with pytest.raises(ShopstreamError, match="package openvino is not installed"):
        Encoder(open_bundle(bundles), EncoderOptions(provider="openvino", threads=1))


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_device_options_are_ones_that_onnx_runtime_knows(provider: str, tmp_path: Path):
    (name, options), *rest = ort_provider_options(
        provider, "tensorrt-int8", EncoderOptions(engine_cache=str(tmp_path / "engines"))
    )
    assert name in ort.get_all_providers()
    assert [part if isinstance(part, str) else part[0] for part in rest][-1] == "CPUExecutionProvider"
    if provider == "tensorrt":
        assert (tmp_path / "engines").is_dir()
        for size, shape in {"min": "1x1", "opt": "64x16", "max": "256x512"}.items():
            assert options[f"trt_profile_{size}_shapes"].split(",")[0] == f"input_ids:{shape}"
        assert options["trt_engine_cache_enable"]
        assert options["trt_int8_enable"]
        assert not ort_provider_options(provider, "fp32", EncoderOptions(engine_cache=str(tmp_path)))[0][1][
            "trt_int8_enable"
        ]
    else:
        assert options["arena_extend_strategy"] == "kSameAsRequested"
        assert options["use_tf32"] == "0"  # or fp32 is not fp32


def test_the_bound_path_of_devices_gives_what_the_plain_one_gives(bundles: Path):
    bundle = open_bundle(bundles)
    options = EncoderOptions(threads=1)
    runtime = load(bundle.variant_file("fp32"), "bound", "fp32", "cpu", options)
    ids = np.random.default_rng(0).integers(1000, 20_000, (5, 9))
    mask = np.ones_like(ids)
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    assert np.array_equal(runtime.run_bound(feed), runtime.run(ids, mask))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("variant", "least"), [("fp32", 0.999999), ("int8", 0.995)])
def test_openvinos_form_for_short_texts_gives_what_the_whole_model_gives(
    bundles: Path, variant: str, least: float, monkeypatch: pytest.MonkeyPatch
):
    runtime = load(
        open_bundle(bundles).variant_file(variant), f"short-{variant}", variant, "openvino", EncoderOptions(threads=1)
    )
    ids = np.random.default_rng(0).integers(1000, 20_000, (5, 9))
    short = runtime.run(ids, np.ones_like(ids)).copy()
    monkeypatch.setattr("udfs.encoder.openvino.SHORT_TOKENS", 0)
    whole = runtime.run(ids, np.ones_like(ids)).copy()
    padded = runtime.run(np.pad(ids, ((0, 0), (0, 3))), np.pad(np.ones_like(ids), ((0, 0), (0, 3))))[:, :9]
    for other in (whole, padded):
        cosine = (short * other).sum(axis=2) / np.linalg.norm(short, axis=2) / np.linalg.norm(other, axis=2)
        assert cosine.min() > least


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="no CUDA device")
def test_on_cuda_fp16_is_chosen_and_agrees_with_the_cpu(bundles: Path):
    bundle = open_bundle(bundles)
    texts = ["mug", "red stoneware mug", "", "teapot " * 400] * 50
    on_cuda = Encoder(bundle, EncoderOptions(provider="cuda"))
    assert (on_cuda.variant, on_cuda.provider) == ("fp16", "cuda")
    on_cpu = Encoder(bundle, EncoderOptions(provider="cpu", variant="fp32"))
    assert ((on_cuda.encode(texts) * on_cpu.encode(texts)).sum(axis=1) > 0.9999).all()
    fp32 = Encoder(bundle, EncoderOptions(provider="cuda", variant="fp32"))
    assert np.allclose(fp32.encode(texts), on_cpu.encode(texts), atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="no CUDA device")
def test_on_cuda_a_vector_depends_on_its_text_alone(bundles: Path):
    encoder = Encoder(open_bundle(bundles), EncoderOptions(provider="cuda"))
    alone = encoder.encode(["red stoneware mug"])[0]
    for size in (2, 33, 256, 1000):
        together = encoder.encode(["red stoneware mug"] * size)
        assert ((together * alone).sum(axis=1) > 0.99999).all()
