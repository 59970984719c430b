"""The Markdown page of `run.sh`."""

from collections.abc import Iterator, Mapping
from typing import Any

#: What the aims compare: our contender on the GPU, our best on two cores of the CPU, the peer.
OURS, TWO_CORES, PEER = "speed-cuda-fp16", "speed-cpu-int8-2-cores", "sentence-transformers"


def markdown(report: Mapping[str, Any]) -> str:
    """Return the page of a report."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    machine, steps = report["machine"], report["steps"]
    rehearsal = " A rehearsal on the CPU: nothing here is a GPU's figure." if report["rehearsal"] else ""
    yield f"Measured {report['date']}, version {report['version']}, by `bench/gpu/run.sh`.{rehearsal}"
    yield ""
    yield f"GPU: {machine['gpu']}. CPU: {machine['cpu']}, {machine['cores']} cores. Python {machine['python']}, "
    yield f"ONNX Runtime {machine['onnxruntime']}."
    yield ""
    yield from _speeds(steps)
    yield from _ratios(steps)
    yield from _calls(steps)
    yield from _fidelity(steps)
    yield from _others(steps)
    unmeasured = {name: step for name, step in steps.items() if "not_measured" in step or "failed" in step}
    if unmeasured:
        yield "Not measured:"
        yield ""
        for name, step in unmeasured.items():
            yield f"- {name}: {step.get('failed') or step['not_measured']}"


def _speeds(steps: Mapping[str, Any]) -> Iterator[str]:
    """Texts/s by contender and text set."""
    measured = {name: step for name, step in steps.items() if "texts_per_s" in step and name != "fine-tuning"}
    if not measured:
        return
    sets = list(next(iter(measured.values()))["texts_per_s"])
    yield f"| texts/s | {' | '.join(sets)} | load, s | memory, MiB | on the GPU, MiB |"
    yield f"|---|{'---:|' * (len(sets) + 3)}"
    for name, step in measured.items():
        rates = " | ".join(f"{step['texts_per_s'][texts]:,.0f}" for texts in sets)
        more = " | ".join(f"{step[key]:,}" if key in step else "" for key in ("load_s", "memory_mib", "gpu_memory_mib"))
        yield f"| {name.removeprefix('speed-')} | {rates} | {more} |"
    yield ""


def _ratios(steps: Mapping[str, Any]) -> Iterator[str]:
    """Ours on the GPU over the others."""
    ours = steps.get(OURS, {}).get("texts_per_s")
    for name in (TWO_CORES, PEER):
        other = steps.get(name, {}).get("texts_per_s")
        if ours and other:
            ratios = ", ".join(f"{texts} {ours[texts] / other[texts]:.2f} ×" for texts in ours)
            yield f"- {OURS.removeprefix('speed-')} to {name.removeprefix('speed-')}: {ratios}"
    if "model_share" in steps.get(OURS, {}):
        yield f"- time in calls of the model while titles are encoded: {steps[OURS]['model_share']:.0%}"
    yield ""


def _calls(steps: Mapping[str, Any]) -> Iterator[str]:
    """Texts/s of single calls by shape."""
    measured = {name: step["calls"] for name, step in steps.items() if "calls" in step}
    if not measured:
        return
    shapes = list(dict.fromkeys(shape for calls in measured.values() for shape in calls))
    yield f"| one call, texts x tokens | {' | '.join(name.removeprefix('speed-') for name in measured)} |"
    yield f"|---|{'---:|' * len(measured)}"
    for shape in shapes:
        rates = (f"{calls[shape]:,.0f}" if shape in calls else "" for calls in measured.values())
        yield f"| {shape} | {' | '.join(rates)} |"
    yield ""


def _fidelity(steps: Mapping[str, Any]) -> Iterator[str]:
    """Cosines and ten nearest texts."""
    compared = steps.get("parity", {}).items()
    rows = {name: row for name, row in compared if isinstance(row, dict) and "cosine_mean" in row}
    if "cosine_mean" in steps.get("invariance", {}):
        rows["alone or in a batch, cuda-fp16"] = steps["invariance"]
    if not rows:
        return
    yield "| vectors beside fp32 on the CPU | mean cosine | lowest | top-10 |"
    yield "|---|---:|---:|---:|"
    for name, row in rows.items():
        yield f"| {name} | {row['cosine_mean']:.6f} | {row['cosine_min']:.6f} | {row['top10_overlap']:.4f} |"
    yield ""


def _others(steps: Mapping[str, Any]) -> Iterator[str]:
    """Single figures."""
    if "one_core" in (step := steps.get("tokenizing", {})):
        yield (
            f"- tokenising alone: {step['one_core']:,.0f} titles/s on one core, {step['all_cores']:,.0f} on all; "
            f"into arrays {step['arrays']:,.0f}"
        )
    if "steps_per_s" in (step := steps.get("fine-tuning", {})):
        yield f"- fine-tuning in bf16: {step['steps_per_s']} steps/s of {step['pairs_per_step']} pairs"
    if "equal_bits" in (step := steps.get("invariance", {})):
        yield f"- the same bits alone and in a batch: {step['equal_bits']:.1%} of {step['texts']} titles"
    if "nodes_by_provider" in (step := steps.get("profile", {})):
        yield f"- nodes of the fp16 graph by provider: {step['nodes_by_provider']}"
        yield f"- time by operator: {step['time_by_operator']}"
    if "pytest" in (step := steps.get("tests", {})):
        yield f"- `pytest -m gpu`: {step['pytest']}"
    if "cuda" in (step := steps.get("strictness", {})):
        yield from (f"- asked for {name}: {step[name]}" for name in ("cuda", "tensorrt"))
    yield ""
