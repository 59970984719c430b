"""Options of the recommending function."""

from dataclasses import dataclass, field
from pathlib import Path

from udfs.encoder.options import EncoderOptions
from udfs.ranking.options import RankOptions


@dataclass(frozen=True)
class RecommendOptions:
    """All that the recommending function needs; plain data, so that it travels to the workers."""

    bundles: Path
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    rank: RankOptions = field(default_factory=RankOptions)
    max_events: int = 64  #: of a session's events those that count, the last ones to arrive
    feature_modules: tuple[str, ...] = ()  #: modules with features of the user's own
    log_level: str = "INFO"  #: of this package's loggers in the workers
