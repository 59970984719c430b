"""The manifest of a bundle."""

import hashlib
from typing import Annotated, Literal

import msgspec

FORMAT = 3

#: What runs an encoder variant: ONNX Runtime on CPU, CUDA or TensorRT, or OpenVINO on CPU.
Provider = Literal["cpu", "openvino", "cuda", "tensorrt"]


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a bundle: its SHA-256 in hex and its size in bytes."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, msgspec.Meta(ge=0)]


class Parity(msgspec.Struct, frozen=True):
    """How close a variant's vectors are to fp32, measured on texts held back from calibration.

    Cosines are between the two vectors of one text. spearman: rank correlation of the cosines of all pairs of texts.
    top10_overlap: mean share of a text's ten nearest neighbours on which both agree. batch_invariance: lowest cosine
    between a text's vector encoded alone and in batches of mixed and of equal length, 1 if all are bit-identical;
    padding_invariance: the same with up to 96 tokens of padding, which the encoder itself never adds.
    """

    texts: int
    cosine_mean: float
    cosine_p1: float
    cosine_min: float
    spearman: float
    top10_overlap: float
    batch_invariance: float
    padding_invariance: float


class Variant(msgspec.Struct, frozen=True):
    """One file of the encoder: its path in the bundle, its precision, the providers it is made for and its parity.

    measured_on: the provider on which the parity was measured.
    """

    file: str
    precision: str
    providers: tuple[Provider, ...]
    measured_on: str
    parity: Parity


class EncoderInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """How texts become vectors: token limit, pooling (`mean`, `cls` or `max`), prefixes and width.

    prefix: goes before every text. query_prefix: goes before a search instead; None: the same one.
    """

    max_tokens: int
    pooling: str
    normalize: bool
    prefix: str
    dimensions: int
    variants: dict[str, Variant]
    query_prefix: str | None = None


class RankerInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """The learned ranker, ranker.onnx: float32 [pairs, features] to float32 [pairs, sources], in 1/SCORE_SCALE.

    recommend_seen: whether it may recommend items that the session has already seen. quality: measured on sessions from
    which neither the trees nor their features were made; only their number was chosen there. prior: it learned from
    public data instead of this shop's sessions, and has no quality.
    """

    feature_names: tuple[str, ...] = msgspec.field(name="columns")
    sources: tuple[str, ...]
    recommend_seen: bool = msgspec.field(name="repeats")
    quality: dict[str, float]
    prior: bool = False


class BundleFormat(msgspec.Struct):
    """The format of a manifest, read before everything else."""

    format: int


class Manifest(msgspec.Struct, frozen=True):
    """The content of manifest.json. `id` is the hash of everything else in it, and so of every file."""

    format: int
    id: str
    source_model: str
    versions: dict[str, str]
    encoder: EncoderInfo
    items: int
    sessions: int
    files: dict[str, FileEntry]
    ranker: RankerInfo | None = None

    def content_id(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of this manifest without its id."""
        blank = msgspec.structs.replace(self, id="")
        return hashlib.sha256(msgspec.json.encode(blank, order="deterministic")).hexdigest()[:16]
