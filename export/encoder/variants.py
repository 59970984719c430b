"""The encoder variants: the providers of each, and how the export opens one."""

import logging
from pathlib import Path

from export.encoder.source import SourceModel
from udfs.bundles.manifest import EncoderInfo, Manifest, Provider
from udfs.core.errors import ShopstreamError
from udfs.encoder.encoder import Encoder, EncoderFiles
from udfs.encoder.options import EncoderOptions
from udfs.encoder.selection import Choice

log = logging.getLogger(__name__)
#: The providers of each variant. The export measures it on the first one that works.
VARIANTS: dict[str, tuple[Provider, ...]] = {
    "fp32": ("cpu", "openvino", "cuda", "tensorrt"),
    "int8": ("cpu", "openvino"),
    "bf16": ("openvino",),
    "fp16": ("cuda",),
    "tensorrt-int8": ("tensorrt",),
}
DEFAULT_VARIANTS = ("fp32", "int8", "fp16")
#: These are made from fp32's file, and read from its data file, if it has one, what they do not change.
MADE_FROM_FP32 = ("int8", "bf16", "tensorrt-int8")


def open_variant(file: Path, variant: str, tokenizer: Path, info: EncoderInfo) -> Encoder:
    """Open a variant on the first of its providers that works here, or else on ONNX Runtime's CPU provider."""
    providers: tuple[Provider, ...] = (*VARIANTS[variant], "cpu")
    for provider in providers:
        try:
            choice = Choice(variant, provider, "the export measures it")
            return Encoder(EncoderFiles(file, tokenizer, info, variant, str(file)), choice, EncoderOptions())
        except ShopstreamError as error:
            if provider == "cpu":
                raise
            log.debug("%s: %s", variant, error)
    raise AssertionError("cpu is the last provider")


def encoder_info(source: SourceModel) -> EncoderInfo:
    """Return the manifest's encoder part; its variants are added as they are measured."""
    return EncoderInfo(
        max_tokens=source.max_tokens,
        pooling=source.pooling,
        normalize=source.normalize,
        prefix=source.prefix,
        dimensions=source.hidden,
        variants={},
        query_prefix=None if source.query_prefix == source.prefix else source.query_prefix,
    )


def variant_bytes(manifest: Manifest, variant: str) -> int:
    """Return the size of a variant's files. A data file counts for each variant that reads it."""
    sharing = (variant, "fp32") if variant in MADE_FROM_FP32 else (variant,)
    data = {f"{manifest.encoder.variants[name].file}.data" for name in sharing}
    return sum(
        manifest.files[name].bytes for name in {manifest.encoder.variants[variant].file, *data} & set(manifest.files)
    )
