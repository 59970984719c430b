"""Chooses the encoder variant and the provider that runs it."""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnxruntime as ort

from udfs.bundles.manifest import Provider, Variant
from udfs.core.errors import ShopstreamError
from udfs.encoder.options import EncoderOptions

ORT_PROVIDERS: dict[Provider, str] = {
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
    """Choose the variant and the provider for these options.

    Chosen from hardware capabilities, never from timings, so restarts choose the same. Raises ShopstreamError for a
    variant that the bundle lacks, or that the provider does not run.
    """
    if options.variant != "auto":
        if options.variant not in variants:
            raise ShopstreamError(
                f"the bundle has no encoder variant {options.variant!r}; it has {', '.join(sorted(variants))} "
                "(setting encoder.variant)"
            )
        suitable = variants[options.variant].providers
        if options.provider == "auto":
            usable = [provider for provider in (*_auto_providers(), "openvino") if provider in suitable]
            return Choice(options.variant, usable[0] if usable else suitable[0], "encoder.variant names it")
        if options.provider not in suitable:
            raise ShopstreamError(
                f"encoder variant {options.variant} runs on {', '.join(suitable)}, not on {options.provider} "
                "(settings encoder.variant, encoder.provider)"
            )
        return Choice(options.variant, options.provider, "encoder.variant names it")
    providers = _auto_providers() if options.provider == "auto" else (options.provider,)
    for provider in providers:
        for name, reason in _preferred(provider):
            if name in variants and provider in variants[name].providers:
                return Choice(name, provider, reason)
    raise ShopstreamError(
        f"the bundle has no encoder variant for {providers[0]}; it has {', '.join(sorted(variants))}: "
        "export it again with more --variants"
    )


def on_device(provider: Provider) -> bool:
    """Return whether there is a CUDA device at all, and an ONNX Runtime built for the provider."""
    return Path("/dev/nvidiactl").exists() and ORT_PROVIDERS[provider] in ort.get_available_providers()


def is_gpu(provider: Provider) -> bool:
    """Return whether the provider runs models on a GPU."""
    return provider in ("cuda", "tensorrt")


@cache
def gpu_memory_gib() -> int:
    """Return the memory of the first CUDA device in whole GiB; 0 without one."""
    total = ctypes.c_size_t()
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        failed = driver.cuInit(0) or driver.cuDeviceTotalMem_v2(ctypes.byref(total), 0)
    except OSError:
        return 0
    return 0 if failed else total.value >> 30


@cache
def cpu_flags() -> frozenset[str]:
    """Return the processor's features as Linux names them on x86; none elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").partition(":")[2].split())


def _auto_providers() -> tuple[Provider, ...]:
    return ("cuda", "cpu") if on_device("cuda") else ("cpu",)


def _preferred(provider: Provider) -> list[tuple[str, str]]:
    """Return the variants that a provider may run on this machine, fastest first, each with the reason."""
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
