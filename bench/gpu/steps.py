"""The steps of `run.sh` on our side, each in a process of its own: `python -m bench.gpu.steps NAME …` prints JSON.

The packages are those of the pack: no PyTorch, and nothing that only the export or the command line needs.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from bench.gpu.measuring import Measuring, Result, run_step
from udfs.bundles.bundle import Bundle, open_bundle
from udfs.bundles.manifest import Provider
from udfs.core.arrays import Scores
from udfs.core.errors import ShopstreamError
from udfs.encoder.batching import TokenizedTexts
from udfs.encoder.encoder import Encoder, EncoderFiles
from udfs.encoder.loading import call_limits
from udfs.encoder.onnx_runtime import ort_provider_options
from udfs.encoder.options import MAX_ROWS, EncoderOptions
from udfs.encoder.selection import Choice, is_gpu, on_device
from udfs.encoder.similarity import cosines, neighbour_overlap

#: Contenders: variant, provider, threads on a CPU (0: all cores).
CONTENDERS: dict[str, tuple[str, Provider, int]] = {
    "cuda-fp16": ("fp16", "cuda", 0),
    "tensorrt-fp16": ("fp32", "tensorrt", 0),
    "tensorrt-int8": ("tensorrt-int8", "tensorrt", 0),
    "cpu-int8": ("int8", "cpu", 0),
    "cpu-int8-2-cores": ("int8", "cpu", 2),
    "cpu-fp32": ("fp32", "cpu", 0),
}
#: Shapes of single calls: texts and tokens per text.
ROWS = (1, 8, 32, 128, 512, 2048)
TOKENS = (16, 64, 128, 256)
#: Most tokens in a single call that is measured on a CPU.
CPU_CALL_TOKENS = 8192
#: Texts on which vectors are compared.
PARITY_TEXTS = 2048
ALONE_TEXTS = 256
#: Where the peer leaves its vectors of the titles.
PEER_VECTORS = "sentence-transformers.npy"


class Context(Measuring):
    """How to measure, with the packed bundle."""

    @cached_property
    def bundle(self) -> Bundle:
        """The packed bundle."""
        return open_bundle(self.work / "bundles")

    def provider(self, provider: Provider) -> Provider:
        """The provider to use for a contender's."""
        return "cpu" if self.cpu else provider

    def options(self, provider: Provider, threads: int = 0) -> EncoderOptions:
        """Options of an encoder on a provider."""
        return EncoderOptions(provider=provider, threads=threads, engine_cache=str(self.work / "engines"))

    def encoder(self, variant: str, provider: Provider, threads: int = 0) -> Encoder:
        """Open a variant on exactly this provider; ShopstreamError where it cannot be used."""
        if variant not in self.bundle.manifest.encoder.variants:
            raise ShopstreamError(f"the bundle lacks {variant}")
        used = self.provider(provider)
        files = EncoderFiles.of_bundle(self.bundle, variant)
        return Encoder(files, Choice(variant, used, "measured"), self.options(used, threads))


def strictness(context: Context) -> Result:
    """A provider that cannot be used is an error, never another one."""
    checked: Result = {}
    for provider in ("cuda", "tensorrt"):
        try:
            files = EncoderFiles.of_bundle(context.bundle, "fp32")
            Encoder(files, Choice("fp32", provider, "asked for"), context.options(provider))
            checked[provider] = "runs"
        except ShopstreamError as error:
            checked[provider] = f"refused: {error}"
    if not context.cpu and checked["cuda"] != "runs":
        raise ShopstreamError(checked["cuda"])
    return checked


def tests(context: Context) -> Result:
    """`pytest -m gpu`, over the packed bundle."""
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(context.work), "-m", "gpu"]
    command += ["-p", "no:cacheprovider", str(context.work / "tests")]
    bundles = {"SHOPSTREAM_GPU_BUNDLES": str(context.work / "bundles")}
    done = subprocess.run(command, env=os.environ | bundles, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-300:]
    if done.returncode or "failed" in last:
        raise ShopstreamError(f"pytest -m gpu: {last}: {done.stdout[-2000:]}")
    return {"pytest": re.sub("=+", "", last).strip()}


def parity(context: Context) -> Result:
    """Cosines and ten nearest texts beside fp32 on the CPU, for every GPU contender and the peer."""
    texts = context.texts["titles"][:PARITY_TEXTS]
    reference = context.encoder("fp32", "cpu").encode(texts)
    compared: Result = {"texts": len(texts)}
    for name, (variant, provider, _) in CONTENDERS.items():
        if not is_gpu(provider):
            continue
        try:
            compared[name] = _alike(context.encoder(variant, provider).encode(texts), reference)
        except ShopstreamError as error:
            compared[name] = {"not_measured": str(error)}
    peer = context.work / PEER_VECTORS
    if peer.exists():
        compared["sentence-transformers"] = _alike(np.load(peer)[: len(texts)].astype(np.float32), reference)
    return compared


def invariance(context: Context) -> Result:
    """How far a text's vector depends on the texts next to it, with fp16 on CUDA."""
    encoder = context.encoder("fp16", "cuda")
    texts = context.texts["titles"][:ALONE_TEXTS]
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    together = encoder.encode(texts)
    again = encoder.encode(texts)
    return {
        "texts": len(texts),
        "equal_bits": round(float((alone == together).all(axis=1).mean()), 4),
        "equal_bits_repeated": round(float((again == together).all(axis=1).mean()), 4),
        **_alike(alone, together),
    }


def _alike(vectors: Scores, reference: Scores) -> Result:
    cosine = cosines(vectors, reference)
    return {
        "cosine_mean": round(float(cosine.mean()), 6),
        "cosine_min": round(float(cosine.min()), 6),
        "top10_overlap": round(neighbour_overlap(vectors, reference), 4),
    }


def speed(context: Context, name: str) -> Result:
    """Texts/s of one contender: whole, by text set, and of single calls by shape; load time and memory."""
    variant, provider, threads = CONTENDERS[name]
    before = gpu_memory_mib()
    began = time.perf_counter()
    encoder = context.encoder(variant, provider, threads)
    load_s = time.perf_counter() - began
    titles = context.texts["titles"]
    began = time.perf_counter()
    encoder.encode(titles)
    first_s = time.perf_counter() - began
    result: Result = {"variant": variant, "provider": encoder.provider, "load_s": round(load_s, 2)}
    result["first_titles_s"] = round(first_s, 3)
    result["texts_per_s"] = {
        texts: round(len(content) / context.median_s(partial(encoder.encode, content)), 1)
        for texts, content in context.texts.items()
    }
    result["model_share"] = _model_share(encoder, titles)
    result["calls"] = _calls(context, encoder, threads)
    result["memory_mib"] = round(_peak_mib(), 1)
    after = gpu_memory_mib()
    if before is not None and after is not None:
        result["gpu_memory_mib"] = after - before
    return result


def _model_share(encoder: Encoder, texts: list[str]) -> float:
    """Time in calls of the model, over the time of encoding; above 1 where calls run at the same time."""
    before = encoder.stats.model_us
    began = time.perf_counter()
    encoder.encode(texts)
    return round((encoder.stats.model_us - before) / 1e6 / (time.perf_counter() - began), 3)


def _calls(context: Context, encoder: Encoder, threads: int) -> dict[str, float]:
    """Texts/s of single calls by `texts x tokens`, one at a time."""
    limits = call_limits(encoder.provider, context.options(encoder.provider, threads), encoder.info.max_tokens)
    most = 2 * limits.tokens if is_gpu(encoder.provider) else CPU_CALL_TOKENS
    rng = np.random.default_rng(0)
    found = {}
    for tokens in TOKENS[:1] if context.quick else TOKENS:
        for rows in ROWS[:2] if context.quick else ROWS:
            if rows > MAX_ROWS[encoder.provider] or rows * tokens > most or tokens > encoder.info.max_tokens:
                continue
            ids = rng.integers(1000, 20_000, (rows, tokens))
            mask = np.ones_like(ids)
            took = context.median_s(partial(encoder.run, ids, mask), 0.25)
            found[f"{rows} x {tokens}"] = round(rows / took, 1)
    return found


def tokenizing(context: Context) -> Result:
    """Texts/s of the tokenizer alone, on one core and on all, and of turning its result into arrays."""
    tokenizer = Tokenizer.from_file(str(context.bundle.tokenizer))
    tokenizer.no_padding()
    titles = context.texts["titles"]
    result: Result = {}
    for name, parallel in (("one_core", "false"), ("all_cores", "true")):
        os.environ["TOKENIZERS_PARALLELISM"] = parallel
        result[name] = round(len(titles) / context.median_s(lambda: tokenizer.encode_batch_fast(titles)), 1)
    encodings = tokenizer.encode_batch_fast(titles)
    result["arrays"] = round(len(titles) / context.median_s(lambda: TokenizedTexts.of(encodings)), 1)
    return result


def profile(context: Context) -> Result:
    """Where a call's time goes: ONNX Runtime's own profile, by operator and by provider, of 256 texts of 16 tokens."""
    provider = context.provider("cuda")
    if is_gpu(provider) and not on_device(provider):
        raise ShopstreamError("no CUDA device")
    settings = ort.SessionOptions()
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        settings.profile_file_prefix = str(Path(folder, "profile"))
        given = ort_provider_options(provider, "fp16", context.options(provider))
        session = ort.InferenceSession(str(context.bundle.variant_file("fp16")), settings, providers=given)
        ids = np.random.default_rng(0).integers(1000, 20_000, (32 if context.quick else 256, 16))
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        feed = {node.name: feed[node.name] for node in session.get_inputs()}
        for _ in range(2 if context.quick else 20):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    took: Counter[str] = Counter()
    providers: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            took[event["args"]["op_name"]] += event["dur"]
            providers[event["args"]["provider"]] += 1
    total = max(took.total(), 1)
    return {
        "nodes_by_provider": dict(providers.most_common()),
        "time_by_operator": {name: round(us / total, 3) for name, us in took.most_common(8)},
    }


def gpu_memory_mib() -> int | None:
    """Memory in use on the first GPU; None without one."""
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"],  # noqa: S607
                              capture_output=True, text=True, check=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return int(done.stdout.split()[0])


def _peak_mib() -> float:
    """Peak resident memory of this process."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


STEPS: dict[str, Callable[[Context], Result]] = {
    "strictness": strictness,
    "tests": tests,
    "tokenizing": tokenizing,
    "parity": parity,
    "invariance": invariance,
    "profile": profile,
    **{f"speed-{name}": partial(speed, name=name) for name in CONTENDERS},
}


if __name__ == "__main__":
    run_step(STEPS, Context, ShopstreamError)
