"""What an export is asked for, and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from export.encoder.parity import GATE
from export.encoder.variants import DEFAULT_VARIANTS
from export.ranker.train import Learned
from udfs.bundle import Bundle


@dataclass(frozen=True)
class ExportOptions:
    """What `python -m export bundle` was asked for. mapping: {contract field: column} for both files."""

    catalog: Path
    out: Path
    model: str | None = None
    sessions: Path | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    calibration: Path | None = None
    calibration_texts: int = 1024
    gate: Mapping[str, float] = field(default_factory=lambda: GATE)
    variants: tuple[str, ...] = DEFAULT_VARIANTS
    session_gap_minutes: float = 30
    set_current: bool = True
    learn: bool = False  #: a ranker, from the sessions
    repeats: bool = False  #: that may recommend again what a session has met
    index_from: int = 5_000  #: items from which the ranker finds titles by an index
    keys_file: Path | None = None  #: of the pseudonyms by which the job knows shoppers


@dataclass(frozen=True)
class Exported:
    """A published bundle and what its making showed.

    layers: of the model; fused: GELUs, layer norms and (in fp16) attentions that became one node each. seconds: of each
    step. texts_per_second: of each variant where it was measured, on short batches of 64, every core. torch_cosine: the
    lowest between fp32 and PyTorch.
    """

    bundle: Bundle
    layers: int
    fused: dict[str, int]
    torch_cosine: float
    texts_per_second: dict[str, float]
    seconds: dict[str, float]
    warnings: list[str]
    learned: Learned | None = None
