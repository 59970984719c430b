import pytest

from udfs.bundles.manifest import Parity, Variant
from udfs.core.errors import ShopstreamError
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
def test_fastest_variant_is_chosen(machine, flags, cuda, provider, chosen):
    machine(flags, cuda=cuda)
    choice = choose(VARIANTS, EncoderOptions(provider=provider))
    assert (choice.variant, choice.provider) == chosen
    assert choice.reason


def test_named_variant_finds_its_provider(machine):
    machine("avx512_vnni")
    for variant, provider in {"fp32": "cpu", "int8": "cpu", "bf16": "openvino", "fp16": "cuda"}.items():
        assert choose(VARIANTS, EncoderOptions(variant=variant)).provider == provider
    machine("avx512_vnni", cuda=True)
    assert choose(VARIANTS, EncoderOptions(variant="fp32")).provider == "cuda"
    assert choose(VARIANTS, EncoderOptions(variant="int8")).provider == "cpu"


def test_unsuitable_options_are_refused(machine):
    machine("avx2")
    with pytest.raises(ShopstreamError, match=r"no encoder variant 'int3'; it has bf16, fp16, fp32"):
        choose(VARIANTS, EncoderOptions(variant="int3"))
    with pytest.raises(ShopstreamError, match="int8 runs on cpu, openvino, not on cuda"):
        choose(VARIANTS, EncoderOptions(variant="int8", provider="cuda"))
    with pytest.raises(ShopstreamError, match="no encoder variant for tensorrt"):
        choose({"int8": VARIANTS["int8"]}, EncoderOptions(provider="tensorrt"))
