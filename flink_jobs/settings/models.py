"""Settings of the models: encoder, ranking, session features and catalog changes."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from flink_jobs.settings.fields import PositiveDuration, SettingsGroup, comma_separated


class CatalogSettings(SettingsGroup):
    """Catalogue changes, which running rankers take up."""

    interval: PositiveDuration = Field(
        1000, description="Time between checkpoints of the catalogue job, at which changes become visible to rankers."
    )


class EncoderSettings(SettingsGroup):
    """The BERT encoder."""

    variant: str = Field("auto", description="Variant of the bundle; auto: the fastest for provider and processor.")
    provider: Literal["auto", "cpu", "openvino", "cuda", "tensorrt"] = Field(
        "auto", description="auto: a CUDA device if there is one, else the CPU by ONNX Runtime (cpu)."
    )
    allow_fallback: bool = Field(False, description="Run on cpu when the provider asked for cannot be used.")
    threads: int = Field(
        1,
        ge=0,
        description="A worker's model calls at a time, and its matrix products' threads: cores by slots; 0: all cores.",
    )
    cache: int = Field(50_000, ge=0, description="Texts whose vectors are kept, a worker; about 2 KB each.")
    engine_cache: str = Field(".shopstream/engines", description="Folder of TensorRT's engines, on the workers.")


class RankSettings(SettingsGroup):
    """What is recommended."""

    k: int = Field(10, ge=1, le=1000, description="Items a record.")
    content: float = Field(0.6, ge=0, le=5, description="Blend, without a learned ranker: weight of likeness by text.")
    co_visit: float = Field(1.0, ge=0, le=5, description="Blend: weight of co-visits.")
    popularity: float = Field(0.1, ge=0, le=5, description="Blend: weight of popularity.")
    recent: int = Field(10, ge=1, le=1024, description="Events of a session that speak, the last ones.")
    decay: float = Field(0.8, gt=0, le=1, description="Weight of an event against the next newer one.")
    exclude_seen: bool = Field(True, description="Do not recommend what the session has already met.")
    per_category: int = Field(0, ge=0, description="Most items of one category in a record; 0: any number.")
    per_brand: int = Field(0, ge=0, description="Most items of one brand in a record; 0: any number.")
    diversity: float = Field(
        0.0, ge=0, le=5, description="What an item's score loses for the same title as an item before it has."
    )


class FeatureSettings(SettingsGroup):
    """Session features."""

    modules: Annotated[tuple[str, ...], NoDecode, BeforeValidator(comma_separated)] = Field(
        (), description="Modules with features of your own, comma separated; the workers import them."
    )
