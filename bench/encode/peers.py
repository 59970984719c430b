"""The peers of `python -m bench encode`, run by path in their own environment, which has none of our packages.

The peers share the code that their users would write: texts sorted by length, batches padded to their longest text, all
cores. The best batch size and the best of SETTINGS for each peer are found by trying them on the machine.
"""

import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

Vectors: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]
#: Indices into the list of texts, token ids int64 [texts, tokens], and a mask, bool [texts, tokens], false at padding.
Batch: TypeAlias = tuple[Ints, Ints, npt.NDArray[np.bool_]]
#: Encodes texts to float32 [texts, dimensions].
Encode: TypeAlias = Callable[[list[str]], Vectors]
#: Returns the encoder for a batch size; called before each run over a text set.
Begin: TypeAlias = Callable[[int], Encode]
#: A worker's configuration: the contender's name and setting, the model's folder and pooling, the threads, …
Config: TypeAlias = dict[str, Any]

#: Batch sizes to choose from per text set; the first is used without tuning.
BATCHES = (64, 8, 16, 32, 128)
#: Settings to choose from per peer. streams: batches in flight, each with its share of the cores (0: one per core).
SETTINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "sentence-transformers": ({},),
    "onnxruntime-fp32": ({},),
    "onnxruntime-int8-dynamic": ({},),
    "openvino-bf16": ({"precision": "bf16", "streams": 1}, {"precision": "bf16", "streams": 0}),
    "openvino-int8": tuple(
        {"precision": precision, "streams": streams} for precision in ("f32", "bf16") for streams in (1, 0)
    ),
    "fastembed": ({},),
    "ctranslate2-int8": ({"streams": 1}, {"streams": 0}),
}


# --- the worker's protocol --------------------------------------------------------------------------------------------


def serve(load: Callable[[Config], Begin]) -> None:
    """Answer JSON lines on standard input with JSON lines on standard output; idle in between.

    The first line is the config; its answer means that the model is loaded. Each other line asks for a run over a text
    set. texts: a JSON file with a list of strings; limit: how many of them (null: all); chunk: texts per call (0: all);
    batch: the batch size; save: the .npy file for the vectors, or null. The answer has seconds: for encoding only;
    idle_cpu_s and idle_s: CPU time and time since the last answer; memory_mb: peak resident memory so far.
    """
    with _own_output() as answer:
        begin = load(json.loads(sys.stdin.readline()))
        answer({})
        cpu, clock = time.process_time(), time.perf_counter()
        for line in sys.stdin:
            idle = {"idle_cpu_s": time.process_time() - cpu, "idle_s": time.perf_counter() - clock}
            request = json.loads(line)
            texts = json.loads(Path(request["texts"]).read_text())[: request["limit"]]
            step = request["chunk"] or len(texts)
            encode = begin(request["batch"])
            start = time.perf_counter()
            parts = [encode(texts[first : first + step]) for first in range(0, len(texts), step)]
            seconds = time.perf_counter() - start
            if request["save"]:
                np.save(request["save"], np.concatenate(parts))
            answer({"seconds": seconds, "memory_mb": _peak_mb(), **idle})
            cpu, clock = time.process_time(), time.perf_counter()


@contextmanager
def _own_output() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Reserve standard output for the answers; what libraries print goes to standard error."""
    with os.fdopen(os.dup(1), "w") as stream:
        os.dup2(2, 1)

        def answer(message: dict[str, Any]) -> None:
            stream.write(json.dumps(message) + "\n")
            stream.flush()

        yield answer


def _peak_mb() -> float:
    """Peak resident memory in MB. Not ru_maxrss on Linux: there, a child starts with its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


# --- the contenders ---------------------------------------------------------------------------------------------------


def load_peer(config: Config) -> Begin:
    """Load the contender that the config names."""
    return LOADERS[config["name"]](config)


def _sentence_transformers(config: Config) -> Begin:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(config["threads"])
    model = SentenceTransformer(config["model"], device="cpu", local_files_only=True)
    return lambda batch: lambda texts: model.encode(texts, batch_size=batch, show_progress_bar=False)


def _onnxruntime(config: Config) -> Begin:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = config["threads"]
    folder = "onnx-dynamic-int8" if "int8" in config["name"] else "onnx"
    file = Path(config["prepared"], folder, "model.onnx")
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(ids: Ints, mask: npt.NDArray[np.bool_]) -> Vectors:
        hidden: Vectors = session.run(None, {name: _inputs(ids, mask)[name] for name in names})[0]
        return hidden

    return _encoder_of(config, run)


def _openvino(config: Config) -> Begin:
    import openvino as ov

    streams = config["setting"]["streams"] or config["threads"]
    file = Path(config["prepared"], config["name"].replace("bf16", "fp32") + ".xml")
    options = {
        "INFERENCE_NUM_THREADS": config["threads"],
        "NUM_STREAMS": streams,
        "INFERENCE_PRECISION_HINT": config["setting"]["precision"],
    }
    model = ov.Core().compile_model(str(file), "CPU", options)
    queue = ov.AsyncInferQueue(model, streams)
    batches = _batcher(config)

    def encode(texts: list[str], batch: int) -> Vectors:
        out = np.empty((len(texts), config["dimensions"]), dtype=np.float32)

        def done(request: Any, sent: tuple[Ints, npt.NDArray[np.bool_], list[Ints]]) -> None:
            rows, mask, _ = sent
            out[rows] = _pooled(request.get_output_tensor(0).data, mask, config["pooling"])

        queue.set_callback(done)
        for rows, ids, mask in batches(texts, batch):
            feed = list(_inputs(ids, mask).values())[: len(model.inputs)]  # the conversion drops the names
            queue.start_async(feed, (rows, mask, feed), share_inputs=True)  # shared: the arrays must stay alive
        queue.wait_all()
        return _normalized(out, config)

    return lambda batch: lambda texts: encode(texts, batch)


def _fastembed(config: Config) -> Begin:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        "local",
        pooling=PoolingType[config["pooling"].upper()],
        normalization=config["normalize"],
        sources=ModelSource(hf="local"),
        dim=config["dimensions"],
        model_file="model.onnx",
    )
    model = TextEmbedding(
        "local",
        specific_model_path=str(Path(config["prepared"], "onnx")),
        threads=config["threads"],
        providers=["CPUExecutionProvider"],
    )

    def encode(texts: list[str], batch: int) -> Vectors:
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # fastembed keeps the order it is given
        out = np.empty((len(texts), config["dimensions"]), dtype=np.float32)
        out[order] = list(model.embed([config["prefix"] + texts[row] for row in order], batch_size=batch))
        return out

    return lambda batch: lambda texts: encode(texts, batch)


def _ctranslate2(config: Config) -> Begin:
    import ctranslate2

    streams = config["setting"]["streams"] or config["threads"]
    encoder = ctranslate2.Encoder(
        str(Path(config["prepared"], "ctranslate2")),
        compute_type="int8",
        inter_threads=streams,
        intra_threads=max(1, config["threads"] // streams),
    )

    def run(ids: Ints, mask: npt.NDArray[np.bool_]) -> Vectors:
        inputs = (ids.astype(np.int32), mask.sum(axis=1, dtype=np.int32))
        return np.array(encoder.forward_batch(*map(ctranslate2.StorageView.from_array, inputs)).last_hidden_state)

    return _encoder_of(config, run, streams)


LOADERS: dict[str, Callable[[Config], Begin]] = {
    "sentence-transformers": _sentence_transformers,
    "onnxruntime-fp32": _onnxruntime,
    "onnxruntime-int8-dynamic": _onnxruntime,
    "openvino-bf16": _openvino,
    "openvino-int8": _openvino,
    "fastembed": _fastembed,
    "ctranslate2-int8": _ctranslate2,
}


def _encoder_of(config: Config, run: Callable[[Ints, npt.NDArray[np.bool_]], Vectors], streams: int = 1) -> Begin:
    """Make an encoder of run(ids, mask) → hidden float32 [texts, tokens, dimensions]; `streams` batches at a time."""
    batches = _batcher(config)
    workers = ThreadPoolExecutor(streams)

    def encode(texts: list[str], batch: int) -> Vectors:
        out = np.empty((len(texts), config["dimensions"]), dtype=np.float32)

        def encode_batch(batch: Batch) -> None:
            rows, ids, mask = batch
            out[rows] = _pooled(run(ids, mask), mask, config["pooling"])

        for _ in (workers.map if streams > 1 else map)(encode_batch, batches(texts, batch)):
            pass
        return _normalized(out, config)

    return lambda batch: lambda texts: encode(texts, batch)


def _batcher(config: Config) -> Callable[[list[str], int], Iterator[Batch]]:
    """Return a function (texts, batch size) → batches of texts sorted by length, each padded to its longest."""
    tokenizer = Tokenizer.from_file(config["tokenizer"])
    tokenizer.no_padding()
    tokenizer.enable_truncation(config["max_tokens"])

    def batches(texts: list[str], size: int) -> Iterator[Batch]:
        encodings = tokenizer.encode_batch_fast([config["prefix"] + text for text in texts])
        lengths = np.array([len(encoding) for encoding in encodings])
        order = np.argsort(lengths, kind="stable")
        for first in range(0, len(order), size):
            rows = order[first : first + size]
            mask = np.arange(lengths[rows[-1]]) < lengths[rows, None]
            ids = np.full(mask.shape, config["pad"], dtype=np.int64)
            ids[mask] = list(itertools.chain.from_iterable(encodings[row].ids for row in rows))
            yield rows, ids, mask

    return batches


def _inputs(ids: Ints, mask: npt.NDArray[np.bool_]) -> dict[str, Ints]:
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": np.zeros_like(ids)}


def _pooled(hidden: Vectors, mask: npt.NDArray[np.bool_], pooling: str) -> Vectors:
    """Pool hidden states, float32 [texts, tokens, dimensions], to float32 [texts, dimensions], without the padding."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "max":
        return np.asarray(np.where(mask[:, :, None], hidden, -np.inf).max(axis=1), dtype=np.float32)
    weights = mask / mask.sum(axis=1, keepdims=True, dtype=np.float32)
    return np.asarray(np.matmul(weights[:, None], hidden)[:, 0], dtype=np.float32)


def _normalized(vectors: Vectors, config: Config) -> Vectors:
    if not config["normalize"]:
        return vectors
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


# --- the peers' models ------------------------------------------------------------------------------------------------


def prepare(config: Config) -> Begin:
    """Write the contender's model to the folder config["prepared"]; the encoder that is returned does nothing."""
    makers: dict[str, Callable[[Config], object]] = {
        "onnxruntime-fp32": _onnx,
        "onnxruntime-int8-dynamic": _dynamic_int8,
        "openvino-bf16": _openvino_fp32,
        "openvino-int8": _openvino_int8,
        "fastembed": _onnx,
        "ctranslate2-int8": _ctranslate2_int8,
    }
    if config["name"] in makers:
        makers[config["name"]](config)
    return lambda _: lambda _: np.empty((0, config["dimensions"]), dtype=np.float32)


def _onnx(config: Config) -> Path:
    """Export the model by optimum, with its tokenizer; return the folder."""
    from optimum.onnxruntime import ORTModelForFeatureExtraction
    from transformers import AutoTokenizer

    folder = Path(config["prepared"], "onnx")
    if not folder.exists():
        ORTModelForFeatureExtraction.from_pretrained(config["model"], export=True).save_pretrained(folder)
        AutoTokenizer.from_pretrained(config["model"]).save_pretrained(folder)
        _limit_tokens(folder / "tokenizer_config.json", config["max_tokens"])
    return folder


def _limit_tokens(file: Path, limit: int) -> None:
    """Set the model's own limit for fastembed, which takes the lower of these two."""
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"model_max_length": limit, "max_length": limit}))


def _dynamic_int8(config: Config) -> None:
    """Quantize with scales per channel: as fast as per tensor, mean cosine .992 instead of .965 (all-MiniLM-L6-v2)."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    how = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    quantizer = ORTQuantizer.from_pretrained(_onnx(config), file_name="model.onnx")
    quantizer.quantize(how, Path(config["prepared"], "onnx-dynamic-int8"), file_suffix="")


def _openvino_fp32(config: Config) -> Path:
    """Convert the PyTorch model by OpenVINO; return the file."""
    import openvino as ov
    import torch
    from transformers import AutoModel, AutoTokenizer

    file = Path(config["prepared"], "openvino-fp32.xml")
    if not file.exists():
        example = AutoTokenizer.from_pretrained(config["model"])(
            ["a mug", "a blue mug"], padding=True, return_tensors="pt"
        )
        model = AutoModel.from_pretrained(config["model"], dtype=torch.float32).eval()
        converted = ov.convert_model(model, example_input=dict(example))
        ov.save_model(converted, file, compress_to_fp16=False)
    return file


def _openvino_int8(config: Config) -> None:
    """Quantize by NNCF, after training."""
    import nncf
    import openvino as ov

    model = ov.Core().read_model(_openvino_fp32(config))
    texts = json.loads(Path(config["calibration"]).read_text())
    feeds = [_inputs(ids, mask) for _, ids, mask in _batcher(config)(texts, 1)]
    quantized = nncf.quantize(
        model,
        nncf.Dataset(feeds, lambda feed: list(feed.values())[: len(model.inputs)]),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(feeds),
    )
    ov.save_model(quantized, Path(config["prepared"], "openvino-int8.xml"), compress_to_fp16=False)


def _ctranslate2_int8(config: Config) -> None:
    from ctranslate2.converters import TransformersConverter

    folder = Path(config["prepared"], "ctranslate2")
    TransformersConverter(config["model"]).convert(str(folder), quantization="int8")


if __name__ == "__main__":
    serve(prepare if sys.argv[1] == "prepare" else load_peer)
