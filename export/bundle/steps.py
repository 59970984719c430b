"""The steps of an export, in their order. Each takes the draft that the steps before it have filled."""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from export.bundle.options import ExportOptions
from export.bundle.progress import ProgressSteps, modules_hidden
from export.bundle.publish import publish_draft
from export.bundle.ranker import learn_ranker
from export.encoder.calibration import VOCABULARY_TEXTS, calibrate_on, split_texts
from export.encoder.measure import speed, unfused, worst_layers
from export.encoder.parity import check_gate, measure_parity
from export.encoder.quantize import Activation, write_int8
from export.encoder.source import SourceModel, open_source
from export.encoder.variants import VARIANTS, encoder_info, open_variant
from export.history.files import write_items, write_past
from export.history.reading import Reading, ShopHistory, read_history
from export.ranker.boosting import let_threads_sleep
from export.ranker.train import Shop, TrainedRanker
from udfs.bundles.bundle import INDEX, Bundle
from udfs.bundles.manifest import EncoderInfo, Variant
from udfs.catalog.index import build_index
from udfs.core.errors import ShopstreamError
from udfs.encoder.cache import CachedEncoder
from udfs.encoder.encoder import Encoder, Vectors
from udfs.encoder.options import EncoderOptions
from udfs.encoder.selection import choose
from udfs.events.rejected import Rejected

#: Texts whose vectors are kept while a ranker is trained.
CACHED_TEXTS = 1_000_000
#: Texts on which fp32 is compared with PyTorch.
TORCH_TEXTS = 16


@dataclass
class Draft:
    """A bundle in the making. Fields without a default are filled by the step that is named."""

    options: ExportOptions
    progress: ProgressSteps
    warnings: list[str] = field(default_factory=list)
    folder: Path = field(init=False)  #: by export_bundle: where the bundle's files are written
    source: SourceModel = field(init=False)  #: by read
    history: ShopHistory = field(init=False)  #: by read
    calibration: list[str] = field(init=False)  #: by read: texts to calibrate on, with their prefixes
    held_back: list[str] = field(init=False)  #: by read: texts to measure on, with their prefixes
    fused: dict[str, int] = field(init=False)  #: by convert
    torch_cosine: float = field(init=False)  #: by convert
    activations: dict[str, Activation] = field(init=False)  #: by quantize
    encoders: dict[str, Encoder] = field(init=False)  #: by measure
    reference: Vectors = field(init=False)  #: by measure: fp32 vectors of held_back
    info: EncoderInfo = field(init=False)  #: by measure
    texts_per_second: dict[str, float] = field(init=False)  #: by measure
    vectors: Vectors = field(init=False)  #: by encode: float32 [items, dimensions], of the titles
    learned: TrainedRanker | None = None  #: by learn
    bundle: Bundle = field(init=False)  #: by publish

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's file."""
        return self.folder / "tokenizer.json"

    @property
    def quantized(self) -> list[str]:
        """The variants that are quantised."""
        return [name for name in self.options.variants if name.endswith("int8")]

    def file(self, variant: str) -> Path:
        """The ONNX file of a variant."""
        return self.folder / "encoder" / f"{variant}.onnx"


def read(draft: Draft) -> None:
    """Open the model, read the catalog and the past sessions, and split the texts."""
    options = draft.options
    with draft.progress("read catalog and sessions"):
        draft.source = source = open_source(
            options.model, query_prefix=options.query_prefix, document_prefix=options.document_prefix
        )
        with _rejected(draft, options.catalog) as items, _rejected(draft, options.sessions) as sessions:
            draft.history = read_history(
                options.catalog,
                options.sessions,
                mapping=options.mapping,
                gap_ms=round(options.session_gap_minutes * 60_000),
                keys_file=options.keys_file,
                bundles=options.out,
                reading=Reading(options.preset, options.read, items, sessions),
            )
        for file, taken in ((options.catalog, items), (options.sessions, sessions)):
            draft.warnings += [f"{file}: {line}" for line in taken.lines()]
        if draft.history.untitled:
            draft.warnings.append(f"{draft.history.untitled} rows of {options.catalog} have no title and were left out")
        texts = [source.prefix + title for title in draft.history.titles]
        texts += [source.query_prefix + query for query in draft.history.queries]
        draft.calibration, draft.held_back = split_texts(
            texts, options.calibration_texts, options.calibration, source.prefix
        )


def _rejected(draft: Draft, file: Path | None) -> Rejected:
    kept = Path(f"{file.name}.rejected.jsonl") if file else None
    return Rejected(kept, strict=draft.options.strict, tell=lambda line: draft.warnings.append(f"{file}: {line}"))


def convert(draft: Draft) -> None:
    """Export the model to ONNX, fuse it, and compare fp32 with PyTorch."""
    # transformers imports these where it finds them, for text generation and object detection only; 1.3 of 6.4 seconds,
    # 5 of 18 before Python has written its byte code.
    let_threads_sleep()
    with draft.progress("load PyTorch and Optimum"), modules_hidden("sklearn", "scipy"):
        from export.encoder import to_onnx  # here, as PyTorch takes seconds to import
    source, variants = draft.source, draft.options.variants
    with draft.progress("export to ONNX and fuse"):
        draft.file("fp32").parent.mkdir()
        model = to_onnx.load_torch(source)
        to_onnx.write_tokenizer(source, draft.tokenizer)
        with to_onnx.exported(model) as plain:
            draft.fused = to_onnx.write_fp32(source, plain, draft.file("fp32"))
            if "fp16" in variants:
                draft.fused |= to_onnx.write_fp16(source, plain, draft.file("fp16"))
        if "bf16" in variants:
            to_onnx.write_bf16(draft.file("fp32"), draft.file("bf16"))
    draft.warnings += unfused(source, draft.fused)
    with draft.progress("compare with PyTorch"):
        sample = draft.held_back[:TORCH_TEXTS]
        draft.torch_cosine = to_onnx.verify_against_torch(source, model, draft.file("fp32"), draft.tokenizer, sample)


def quantize(draft: Draft) -> None:
    """Write the int8 variants, calibrated on the shop's texts."""
    if not draft.quantized:
        return
    with draft.progress(f"quantise to int8 on {len(draft.calibration)} texts"):
        more = 0 if draft.options.calibration else VOCABULARY_TEXTS
        draft.activations = calibrate_on(draft.calibration, draft.source, draft.file("fp32"), draft.tokenizer, more)
        for name in draft.quantized:
            write_int8(draft.file("fp32"), draft.file(name), draft.activations, symmetric=name == "tensorrt-int8")


def measure(draft: Draft) -> None:
    """Measure each variant's parity with fp32, and its speed."""
    with draft.progress("measure parity and speed"):
        draft.info = encoder_info(draft.source)
        draft.encoders = {
            name: open_variant(draft.file(name), name, draft.tokenizer, draft.info) for name in draft.options.variants
        }
        draft.reference = draft.encoders["fp32"].encode_given(draft.held_back)
        for name, encoder in draft.encoders.items():
            parity = measure_parity(encoder, draft.reference, draft.held_back)
            file = draft.file(name).relative_to(draft.folder).as_posix()
            draft.info.variants[name] = Variant(file, name, VARIANTS[name], encoder.provider, parity)
        draft.texts_per_second = {name: speed(encoder, draft.held_back) for name, encoder in draft.encoders.items()}


def gate(draft: Draft) -> None:
    """Raise ShopstreamError for a variant that is too far from fp32."""
    for name, variant in draft.info.variants.items():
        failure = check_gate(name, variant.parity, draft.options.gate)
        if not failure:
            continue
        if name in draft.quantized:
            with draft.progress(f"find the layers that {name} hurts most"):
                files = draft.file("fp32"), draft.tokenizer
                worst = worst_layers(*files, draft.info, name, draft.activations, draft.reference, draft.held_back)
            failure += f"; the layers that it hurts most: {worst}"
        raise ShopstreamError(
            f"{failure}. Nothing was published: calibrate on texts like your own (--calibration), leave the "
            "variant out (--variants), or lower the gate (--gate)"
        )


def encode(draft: Draft) -> None:
    """Encode the titles with fp32, and write the items where no ranker is trained."""
    history = draft.history
    with draft.progress(f"encode {len(history.items)} titles and write"):
        draft.vectors = draft.encoders["fp32"].encode(history.titles)
        if not draft.options.learn:
            write_items(draft.folder, history.interactions, history.items, draft.vectors)


def learn(draft: Draft) -> None:
    """Train a ranker, if asked to, and write what it reads."""
    options, history = draft.options, draft.history
    if not options.learn:
        return
    with draft.progress("learn a ranker") as show:
        chosen = choose(draft.info.variants, EncoderOptions()).variant  # what a job would run here
        cached = CachedEncoder(open_variant(draft.file(chosen), chosen, draft.tokenizer, draft.info), CACHED_TEXTS)
        with TemporaryDirectory() as folder:
            shop = Shop(history.interactions, history.items, draft.vectors, cached.encode)
            draft.learned, warnings = learn_ranker(shop, Path(folder), options, show)
        draft.warnings += warnings
        write_past(draft.folder, history.interactions, history.items, draft.vectors)
        (draft.folder / "ranker.onnx").write_bytes(draft.learned.model)
    if len(history.items) >= options.index_from:
        with draft.progress(f"index {len(history.items)} vectors"):
            build_index(draft.vectors, draft.folder / INDEX)


def publish(draft: Draft) -> None:
    """Name the bundle by its content, and put it in place."""
    with draft.progress("publish"):
        draft.bundle = publish_draft(
            draft.folder,
            draft.options.out,
            draft.source.name,
            draft.info,
            items=len(draft.history.items),
            sessions=draft.history.sessions,
            ranker=draft.learned.info if draft.learned else None,
            current=draft.options.set_current,
        )
