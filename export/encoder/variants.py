"""The encoder variants of a bundle: what each is for, and how it is opened where the export runs."""

import logging
from pathlib import Path

from export.encoder.source import SourceModel
from udfs.bundle import EncoderInfo
from udfs.encoder import Encoder
from udfs.errors import ShopstreamError
from udfs.runtimes import Choice, EncoderOptions, Provider

log = logging.getLogger(__name__)
#: The providers that each variant is for; the first that works where the export runs measures it.
VARIANTS: dict[str, tuple[Provider, ...]] = {
    "fp32": ("cpu", "openvino", "cuda", "tensorrt"),
    "int8": ("cpu", "openvino"),
    "bf16": ("openvino",),
    "fp16": ("cuda",),
    "tensorrt-int8": ("tensorrt",),
}


DEFAULT_VARIANTS = ("fp32", "int8", "fp16")


def _encoder(draft: Path, variant: str, info: EncoderInfo) -> Encoder:
    """A variant on the first of its providers that works here, at worst on ONNX Runtime's CPU provider."""
    file, tokenizer, options = draft / f"encoder/{variant}.onnx", draft / "tokenizer.json", EncoderOptions()
    providers: tuple[Provider, ...] = (*VARIANTS[variant], "cpu")
    for provider in providers:
        try:
            choice = Choice(variant, provider, "the export measures it")
            return Encoder.from_files(file, tokenizer, info, choice, variant, options)
        except ShopstreamError as error:
            if provider == "cpu":
                raise
            log.debug("%s: %s", variant, error)
    raise AssertionError("cpu is the last provider")


def _encoder_info(source: SourceModel) -> EncoderInfo:
    """The manifest's encoder part; its variants are added as they are measured."""
    return EncoderInfo(
        max_tokens=source.max_tokens,
        pooling=source.pooling,
        normalize=source.normalize,
        prefix=source.prefix,
        dimensions=source.hidden,
        variants={},
    )
