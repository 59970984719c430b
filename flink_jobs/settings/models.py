"""Settings of the models: encoder, ranking, session features and catalog changes."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from flink_jobs.settings.fields import AbsolutePath, PositiveDuration, SettingsGroup, comma_separated
from udfs.contracts.catalog import CatalogItem
from udfs.encoder.options import EncoderOptions


def _known_fields(columns: tuple[str, ...]) -> tuple[str, ...]:
    for pair in columns:
        field, _, column = pair.partition("=")
        if field not in CatalogItem.__struct_fields__ or not column:
            raise ValueError(f"{pair!r} is no FIELD=COLUMN; fields are {', '.join(CatalogItem.__struct_fields__)}")
    return columns


class CatalogSettings(SettingsGroup):
    """Catalog changes for running rankers."""

    envelope: Literal["none", "schema-registry", "connect", "debezium", "cloudevents"] = Field(
        "none", description="What is around each item, as in clickstream.envelope; with debezium, a delete removes it."
    )
    columns: Annotated[tuple[str, ...], NoDecode, BeforeValidator(comma_separated), AfterValidator(_known_fields)] = (
        Field((), description="FIELD=COLUMN pairs, comma separated: fields that records have under other names.")
    )

    interval: PositiveDuration = Field(
        1000, description="Time between checkpoints of the catalog job; each makes changes visible to rankers."
    )

    def column_of(self) -> dict[str, str]:
        """Returns the columns by their fields."""
        return dict(pair.split("=", 1) for pair in self.columns)


class EncoderSettings(SettingsGroup):
    """The BERT encoder."""

    variant: str = Field("auto", description="Variant of the bundle; auto: the fastest for provider and processor.")
    provider: Literal["auto", "cpu", "openvino", "cuda", "tensorrt"] = Field(
        "auto", description="auto: a CUDA device if there is one, otherwise the CPU through ONNX Runtime (cpu)."
    )
    allow_fallback: bool = Field(False, description="Run on cpu if the requested provider cannot be used.")
    threads: int = Field(
        1,
        ge=0,
        description="A worker's concurrent model calls, and the threads of its matrix products: cores divided by "
        "slots; 0: all cores.",
    )
    batch_tokens: int = Field(
        0, ge=0, description="Tokens per call on a GPU; 0: 1,024 for each GiB of its memory, at most 65,536."
    )
    cache: int = Field(50_000, ge=0, description="Texts whose vectors each worker caches; about 2 KB each.")
    engine_cache: AbsolutePath = Field(
        Path(".shopstream/engines"), description="Folder of TensorRT's engines, on the workers."
    )

    def options(self) -> EncoderOptions:
        """Returns the encoder's options, which every job that encodes hands to its workers."""
        return EncoderOptions(**self.model_dump() | {"engine_cache": str(self.engine_cache)})


class RankSettings(SettingsGroup):
    """What is recommended."""

    k: int = Field(10, ge=1, le=1000, description="Items per record.")
    content: float = Field(0.6, ge=0, le=5, description="Blend, without a learned ranker: weight of text similarity.")
    co_visit: float = Field(1.0, ge=0, le=5, description="Blend: weight of co-visits.")
    popularity: float = Field(0.1, ge=0, le=5, description="Blend: weight of popularity.")
    recent: int = Field(10, ge=1, le=1024, description="Blend: use at most this many of a session's latest events.")
    decay: float = Field(0.8, gt=0, le=1, description="Blend: weight of an event relative to the next newer one.")
    exclude_seen: bool = Field(True, description="Do not recommend items that the session has interacted with.")
    per_category: int = Field(0, ge=0, description="At most this many items of a category per record; 0: any number.")
    per_brand: int = Field(0, ge=0, description="At most this many items of a brand per record; 0: any number.")
    diversity: float = Field(
        0.0, ge=0, le=5, description="Score penalty for an item identical in title to one ranked above it."
    )
    fresh: int = Field(
        0,
        ge=0,
        description="Learned ranker: at least this many items without a past, if there are candidates.",
    )
    explore: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the records whose items are drawn at random from the best 2 k.",
    )


class FeatureSettings(SettingsGroup):
    """Session features."""

    modules: Annotated[tuple[str, ...], NoDecode, BeforeValidator(comma_separated)] = Field(
        (), description="Modules with features of your own, comma separated; the workers import them."
    )
