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
    max_events: int = 64  #: use at most this many of a session's latest events
    feature_modules: tuple[str, ...] = ()  #: modules with the user's own features
    max_bytes: int | None = None  #: of an answer's JSON; a larger one is cut
    log_level: str = "INFO"  #: of this package's loggers in the workers
