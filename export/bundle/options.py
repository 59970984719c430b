"""The options and the result of an export."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from export.encoder.variants import DEFAULT_VARIANTS, VARIANTS
from export.gate import GATE, RANKER_FIGURES
from export.ranker.train import TrainedRanker
from udfs.bundles.bundle import Bundle
from udfs.core.errors import ShopstreamError


@dataclass(frozen=True)
class ExportOptions:
    """The options of an export. mapping: {contract field: column}, for both files."""

    catalog: Path
    out: Path
    model: str | None = None
    query_prefix: str | None = None  #: goes before searches; None: the model's own
    document_prefix: str | None = None  #: goes before titles; None: the model's own
    sessions: Path | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    calibration: Path | None = None
    calibration_texts: int = 1024
    gate: Mapping[str, float] = field(default_factory=lambda: GATE)
    variants: tuple[str, ...] = DEFAULT_VARIANTS
    session_gap_minutes: float = 30
    set_current: bool = True
    learn: bool = False  #: train a ranker from the sessions; without any, take the prior
    tune_minutes: float = 0.0  #: search the ranker's hyperparameters for so long
    recommend_seen: bool = False  #: the ranker may recommend items that the session has already seen
    index_from: int = 5_000  #: items from which the ranker finds titles by an index
    preset: str = "auto"  #: of the files, as in read_events
    read: Mapping[str, object] = field(default_factory=dict)  #: options of read_events
    strict: bool = False  #: stop at the first row that cannot be read
    keys_file: Path | None = None  #: of the pseudonyms by which the job knows shoppers

    def check(self) -> None:
        """Raise ShopstreamError for variants that cannot be made, and for what cannot be learned without sessions."""
        if unknown := set(self.variants) - set(VARIANTS):
            raise ShopstreamError(
                f"unknown variant {', '.join(sorted(unknown))} (--variants); choose from {', '.join(VARIANTS)}"
            )
        if "fp32" not in self.variants:
            raise ShopstreamError("--variants has to name fp32: the item vectors are made with it")
        if self.learn and self.sessions is None and (self.recommend_seen or self.tune_minutes):
            option = "--repeats" if self.recommend_seen else "--tune"
            raise ShopstreamError(f"{option} needs past sessions: name a file or the lake with --sessions")
        if gated := [name for name in RANKER_FIGURES if name in self.gate and not (self.learn and self.sessions)]:
            raise ShopstreamError(f"--gate {gated[0]} is of a ranker that learns from --sessions with `export train`")


@dataclass(frozen=True)
class Exported:
    """A published bundle and figures of its making."""

    bundle: Bundle
    layers: int  #: of the model
    fused: dict[str, int]  #: GELUs, layer norms and (in fp16) attentions that became one node each
    torch_cosine: float  #: lowest cosine between fp32 and PyTorch
    texts_per_second: dict[str, float]  #: by variant, where it was measured, in batches of 64 short texts on every core
    seconds: dict[str, float]  #: by step
    warnings: list[str]
    learned: TrainedRanker | None = None
