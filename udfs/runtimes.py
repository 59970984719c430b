"""What runs the encoder's ONNX files: ONNX Runtime on CPU, CUDA and TensorRT, OpenVINO on CPU."""

import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from udfs.bundle import Variant
from udfs.errors import ShopstreamError

Ids = npt.NDArray[np.int64]
Provider = Literal["cpu", "openvino", "cuda", "tensorrt"]
ORT_PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
#: Shapes whose compiled kernels OpenVINO keeps, of each form of a model. Without a bound its memory grows with every
#: new shape, to gigabytes.
OPENVINO_SHAPES = 256
ROW_STEP = 4
#: Tokens of a text up to which OpenVINO is no slower with an attention that it does not fuse.
SHORT_TOKENS = 256
#: Most tokens in one call of the model; bounds its working memory.
TOKEN_BUDGET: dict[str, int] = {"cpu": 2048, "openvino": 2048, "cuda": 16_384, "tensorrt": 16_384}
#: Most texts in one call and most tokens of a text, as TensorRT's profile allows.
ROW_BUDGET, MAX_TOKENS = 256, 512


@dataclass(frozen=True)
class EncoderOptions:
    """Where and how the encoder runs.

    provider `cpu`, `openvino`, `cuda` or `tensorrt`, or `auto`: CUDA where a device is usable, else the CPU. With a
    provider named, another one is an error unless allow_fallback. variant: a name, or `auto` for the fastest that suits
    provider and processor. threads: model calls at a time on a CPU, each on one thread; 0: as many as cores. cache:
    texts whose vectors are kept (0 turns the cache off). engine_cache: folder of TensorRT's engines, which take minutes
    to build.
    """

    variant: str = "auto"
    provider: str = "auto"
    allow_fallback: bool = False
    threads: int = 0
    cache: int = 50_000
    engine_cache: str = ".shopstream/engines"


@dataclass(frozen=True)
class Choice:
    """A variant, the provider that runs it, and why."""

    variant: str
    provider: Provider
    reason: str


class Runtime(Protocol):
    """A loaded model; several threads may run it."""

    def run(self, ids: Ids, mask: Ids) -> npt.NDArray[np.float32]:
        """int64 [texts, tokens] each to hidden states [texts, tokens, hidden] or vectors [texts, hidden], float32.

        What it gives is overwritten by the thread's next call.
        """


def choose(variants: Mapping[str, Variant], options: EncoderOptions) -> Choice:
    """The variant and provider for these options, by what the machine has and never by a timing, so always the same.

    Raises ShopstreamError for a variant that the bundle lacks, or that the provider does not run.
    """
    if options.variant != "auto":
        if options.variant not in variants:
            raise ShopstreamError(
                f"the bundle has no encoder variant {options.variant!r}; it has {', '.join(sorted(variants))} "
                "(setting encoder.variant)"
            )
        suitable = variants[options.variant].providers
        if options.provider == "auto":
            here = [provider for provider in (*_auto_providers(), "openvino") if provider in suitable]
            provider = here[0] if here else suitable[0]
            return Choice(options.variant, provider, "encoder.variant names it")  # type: ignore[arg-type]
        if options.provider not in suitable:
            raise ShopstreamError(
                f"encoder variant {options.variant} runs on {', '.join(suitable)}, not on {options.provider} "
                "(settings encoder.variant, encoder.provider)"
            )
        return Choice(options.variant, options.provider, "encoder.variant names it")  # type: ignore[arg-type]
    providers = _auto_providers() if options.provider == "auto" else (options.provider,)
    for provider in providers:
        for name, reason in _preferred(provider):
            if name in variants and provider in variants[name].providers:
                return Choice(name, provider, reason)  # type: ignore[arg-type]
    raise ShopstreamError(
        f"the bundle has no encoder variant for {providers[0]}; it has {', '.join(sorted(variants))}: "
        "export it again with more --variants"
    )


def _auto_providers() -> tuple[Provider, ...]:
    return ("cuda", "cpu") if _on_device("cuda") else ("cpu",)


def _on_device(provider: str) -> bool:
    """Whether there is a CUDA device at all, and an ONNX Runtime built for the provider."""
    return Path("/dev/nvidiactl").exists() and ORT_PROVIDERS[provider] in ort.get_available_providers()


def _preferred(provider: str) -> list[tuple[str, str]]:
    """Variants that a provider may run on this machine, the fastest first, each with the reason."""
    flags = cpu_flags()
    fp32 = ("fp32", "this processor has no faster arithmetic that the bundle has a variant for")
    if provider == "cuda":
        return [("fp16", "half precision is the fastest on CUDA"), ("fp32", "the bundle has no fp16")]
    if provider == "tensorrt":
        return [("tensorrt-int8", "int8 is the fastest on TensorRT"), ("fp32", "TensorRT runs it in half precision")]
    int8 = [("int8", "this processor has 8-bit dot products (VNNI)")] if flags & {"avx512_vnni", "avx_vnni"} else []
    if provider == "cpu":
        return [*int8, fp32]
    if "amx_bf16" in flags:
        return [("bf16", "this processor multiplies bfloat16 matrices (AMX)"), *int8, fp32]
    bf16 = [("bf16", "this processor has bfloat16 dot products")] if "avx512_bf16" in flags else []
    return [*int8, *bf16, fp32]


@cache
def cpu_flags() -> frozenset[str]:
    """The processor's features as Linux names them on x86; none elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").partition(":")[2].split())


_loaded: "weakref.WeakValueDictionary[tuple[object, ...], Any]" = weakref.WeakValueDictionary()
_loading = threading.Lock()


def load(model: Path, key: str, precision: str, provider: Provider, options: EncoderOptions) -> Runtime:
    """A loaded model, one a process for each file (by `key`, its hash) and way to run it.

    Raises ShopstreamError when the provider cannot be had or runs something else than was asked for.
    """
    with _loading:
        known = (key, provider, options.threads)
        runtime = _loaded.get(known)
        if runtime is None:
            runtime = (
                _OpenVino(model, precision, calls_at_a_time(provider, options))
                if provider == "openvino"
                else _OnnxRuntime(model, precision, provider, options)
            )
            _loaded[known] = runtime
        return runtime


def calls_at_a_time(provider: Provider, options: EncoderOptions) -> int:
    """Model calls that run beside each other: on CPUs batches in parallel scale better than the products within one."""
    return options.threads or os.cpu_count() or 1 if provider in ("cpu", "openvino") else 1


def ort_provider_options(provider: str, precision: str, options: EncoderOptions) -> list[Any]:
    """ONNX Runtime's providers to try, the wanted one first, with their options."""
    cuda = (ORT_PROVIDERS["cuda"], {"arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"})
    if provider == "cpu":
        return [ORT_PROVIDERS["cpu"]]
    if provider == "cuda":
        return [cuda, ORT_PROVIDERS["cpu"]]
    names = ("input_ids", "attention_mask", "token_type_ids")
    shapes = {size: ",".join(f"{name}:{rows}x{tokens}" for name in names)
              for size, rows, tokens in (("min", 1, 1), ("opt", 64, 16), ("max", ROW_BUDGET, MAX_TOKENS))}  # fmt: skip
    Path(options.engine_cache).mkdir(parents=True, exist_ok=True)
    tensorrt = {
        "trt_fp16_enable": True,
        "trt_int8_enable": precision == "tensorrt-int8",
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": options.engine_cache,
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": options.engine_cache,
        "trt_profile_min_shapes": shapes["min"],
        "trt_profile_opt_shapes": shapes["opt"],
        "trt_profile_max_shapes": shapes["max"],
    }
    return [(ORT_PROVIDERS["tensorrt"], tensorrt), cuda, ORT_PROVIDERS["cpu"]]


class _OnnxRuntime:
    """ONNX Runtime. On a CUDA device inputs and outputs are bound, so that each is copied once."""

    def __init__(self, model: Path, precision: str, provider: Provider, options: EncoderOptions) -> None:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.inter_op_num_threads = 1
        settings.enable_cpu_mem_arena = False  # the arena keeps the memory of the largest batch ever seen
        settings.log_severity_level = 3 if provider == "cpu" else 4  # a failed load is reported below, in one line
        usable = provider == "cpu" or _on_device(provider)
        if usable:
            given = ort_provider_options(provider, precision, options)
            self._session = ort.InferenceSession(str(model), settings, providers=given)
        if not usable or self._session.get_providers()[0] != ORT_PROVIDERS[provider]:
            raise ShopstreamError(
                f"encoder.provider is {provider}, but ONNX Runtime cannot use it here; set encoder.provider to cpu, "
                "or encoder.allow_fallback to true"
            )
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._output = self._session.get_outputs()[0].name
        self._bound = provider != "cpu"

    def run(self, ids: Ids, mask: Ids) -> npt.NDArray[np.float32]:
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        if not self._bound:
            return self._session.run(None, {name: feed[name] for name in self._inputs})[0]  # type: ignore[no-any-return]
        return self.run_bound(feed)

    def run_bound(self, feed: Mapping[str, Ids]) -> npt.NDArray[np.float32]:
        """Run with the inputs and the output bound to the device."""
        binding = self._session.io_binding()
        for name in self._inputs:
            binding.bind_cpu_input(name, feed[name])
        binding.bind_output(self._output, "cpu")
        self._session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0]  # type: ignore[no-any-return]


class _OpenVino:
    """OpenVINO on the CPU: the fastest for long texts and large batches; it compiles kernels for each new shape.

    So rows are filled up to a power of two, or a multiple of ROW_STEP, which changes no row's result, and few shapes
    are met. Beside int8 products it computes in bfloat16 where the processor can. Texts of up to SHORT_TOKENS tokens
    without padding have a form of the model of their own.
    """

    def __init__(self, model: Path, precision: str, streams: int) -> None:
        if find_spec("openvino") is None:
            raise ShopstreamError(
                "encoder.provider is openvino, but the package openvino is not installed; install it, set "
                "encoder.provider to cpu, or encoder.allow_fallback to true"
            )
        import openvino

        core = openvino.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise ShopstreamError(
                "encoder variant bf16 needs a processor with bfloat16 (AMX or AVX512_BF16); "
                "set encoder.variant to fp32, or encoder.allow_fallback to true"
            )
        config = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams,
            "ENABLE_CPU_PINNING": streams >= (os.cpu_count() or 1),  # or every worker takes the same cores
            "CPU_RUNTIME_CACHE_CAPACITY": OPENVINO_SHAPES,
            "INFERENCE_PRECISION_HINT": "bf16" if has_bf16 and precision != "fp32" else "f32",
        }
        any_text = core.read_model(model)
        self._any = _Compiled(core.compile_model(any_text, "CPU", config))
        unfused = config | {"SNIPPETS_MODE": "DISABLE"}
        self._short = _Compiled(core.compile_model(_for_short_texts(any_text.clone()), "CPU", unfused))

    def run(self, ids: Ids, mask: Ids) -> npt.NDArray[np.float32]:
        rows = len(ids)
        fill = (1 << (rows - 1).bit_length()) - rows if rows < ROW_STEP else -rows % ROW_STEP
        ids, mask = (np.pad(array, ((0, fill), (0, 0)), mode="edge") for array in (ids, mask))
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        compiled = self._short if ids.shape[1] <= SHORT_TOKENS and mask.all() else self._any
        return np.asarray(compiled.run(feed)[:rows], dtype=np.float32)


class _Compiled:
    """A model that OpenVINO has compiled; each thread has a request of its own."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._inputs = [node.any_name for node in compiled.inputs]
        self._requests = threading.local()

    def run(self, feed: Mapping[str, Ids]) -> npt.NDArray[Any]:
        """Its one output; what it does not take is left in the feed."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self._compiled.create_infer_request()
        request = self._requests.own
        request.infer({name: feed[name] for name in self._inputs}, share_inputs=True)
        return request.get_output_tensor(0).data  # type: ignore[no-any-return]


def _for_short_texts(model: Any) -> Any:
    """The OpenVINO model changed for texts without padding: no mask, and the product of attention turns the keys."""
    from openvino import opset13 as ops

    mask = next(node for node in model.get_parameters() if node.output(0).any_name == "attention_mask")
    _replace(mask, ops.constant(np.ones((1, 1), np.int64)))  # from which all that it is used for is computed once
    model.remove_parameter(mask)
    for product in model.get_ordered_ops():
        if product.get_type_name() != "MatMul":
            continue
        keys = product.input_value(1).get_node()
        if keys.get_type_name() != "Transpose":
            continue
        order = keys.input_value(1).get_node()
        if order.get_type_name() == "Constant" and order.data.tolist() == [0, 2, 3, 1]:
            turned = ops.transpose(keys.input_value(0), np.array([0, 2, 1, 3]))
            _replace(product, ops.matmul(product.input_value(0), turned, False, True))
    return model


def _replace(node: Any, other: Any) -> None:
    for user in node.output(0).get_target_inputs():
        user.replace_source_output(other.output(0))
