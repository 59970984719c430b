"""Chooses the encoder variant and the provider that runs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnxruntime as ort

from udfs.bundles.manifest import Variant
from udfs.core.errors import ShopstreamError
from udfs.encoder.options import EncoderOptions, Provider

ORT_PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


@dataclass(frozen=True)
class Choice:
    """A variant, the provider that runs it, and why."""

    variant: str
    provider: Provider
    reason: str


def choose(variants: Mapping[str, Variant], options: EncoderOptions) -> Choice:
    """The variant and provider for these options, by what the machine has and never by a timing, so always the same.

    Raises ShopstreamError for a variant that the bundle lacks, or that the provider does not run.
    """
    if options.variant != "auto":
        if options.variant not in variants:
            raise ShopstreamError(
                f"the bundle has no encoder variant {options.variant!r}; it has {', '.join(sorted(variants))} "
                "(setting encoder.variant)"
            )
        suitable = variants[options.variant].providers
        if options.provider == "auto":
            here = [provider for provider in (*_auto_providers(), "openvino") if provider in suitable]
            provider = here[0] if here else suitable[0]
            return Choice(options.variant, provider, "encoder.variant names it")  # type: ignore[arg-type]
        if options.provider not in suitable:
            raise ShopstreamError(
                f"encoder variant {options.variant} runs on {', '.join(suitable)}, not on {options.provider} "
                "(settings encoder.variant, encoder.provider)"
            )
        return Choice(options.variant, options.provider, "encoder.variant names it")  # type: ignore[arg-type]
    providers = _auto_providers() if options.provider == "auto" else (options.provider,)
    for provider in providers:
        for name, reason in _preferred(provider):
            if name in variants and provider in variants[name].providers:
                return Choice(name, provider, reason)  # type: ignore[arg-type]
    raise ShopstreamError(
        f"the bundle has no encoder variant for {providers[0]}; it has {', '.join(sorted(variants))}: "
        "export it again with more --variants"
    )


def _auto_providers() -> tuple[Provider, ...]:
    return ("cuda", "cpu") if on_device("cuda") else ("cpu",)


def on_device(provider: str) -> bool:
    """Whether there is a CUDA device at all, and an ONNX Runtime built for the provider."""
    return Path("/dev/nvidiactl").exists() and ORT_PROVIDERS[provider] in ort.get_available_providers()


def _preferred(provider: str) -> list[tuple[str, str]]:
    """Variants that a provider may run on this machine, the fastest first, each with the reason."""
    flags = cpu_flags()
    fp32 = ("fp32", "this processor has no faster arithmetic that the bundle has a variant for")
    if provider == "cuda":
        return [("fp16", "half precision is the fastest on CUDA"), ("fp32", "the bundle has no fp16")]
    if provider == "tensorrt":
        return [("tensorrt-int8", "int8 is the fastest on TensorRT"), ("fp32", "TensorRT runs it in half precision")]
    int8 = [("int8", "this processor has 8-bit dot products (VNNI)")] if flags & {"avx512_vnni", "avx_vnni"} else []
    if provider == "cpu":
        return [*int8, fp32]
    if "amx_bf16" in flags:
        return [("bf16", "this processor multiplies bfloat16 matrices (AMX)"), *int8, fp32]
    bf16 = [("bf16", "this processor has bfloat16 dot products")] if "avx512_bf16" in flags else []
    return [*int8, *bf16, fp32]


@cache
def cpu_flags() -> frozenset[str]:
    """The processor's features as Linux names them on x86; none elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").partition(":")[2].split())
