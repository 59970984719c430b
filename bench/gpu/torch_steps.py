"""The steps of `run.sh` in PyTorch, with the machine's own packages: `python -m bench.gpu.torch_steps NAME …`."""

import time
from typing import Any

import numpy as np

from bench.gpu.measuring import Measuring, Result, run_step

#: Batch sizes that Sentence Transformers is tried with; the best counts.
BATCHES = (64, 256, 1024)
#: Pairs of titles per fine-tuning step, and steps that are measured.
PAIRS = 256
STEPS_MEASURED = 50
SCALE = 20.0  # of the cosines in the loss, sentence-transformers' default


def sentence_transformers(context: Measuring) -> Result:
    """Texts/s of Sentence Transformers in fp16 (on a CPU: fp32) by text set, each at its best batch size."""
    import torch
    from sentence_transformers import SentenceTransformer

    device = _device(context)
    model = SentenceTransformer(str(context.work / "model"), device=device, local_files_only=True)
    model = model.float() if context.cpu else model.half()
    result: Result = {"precision": "fp32" if context.cpu else "fp16", "texts_per_s": {}, "batch": {}}
    for name, texts in context.texts.items():
        for batch in BATCHES[:1] if context.quick else BATCHES:

            def encode(texts: list[str] = texts, batch: int = batch) -> Any:
                return model.encode(texts, batch_size=batch, show_progress_bar=False)

            rate = round(len(texts) / context.median_s(encode), 1)
            if rate > result["texts_per_s"].get(name, 0):
                result["texts_per_s"][name] = rate
                result["batch"][name] = batch
    np.save(context.work / "sentence-transformers.npy", model.encode(context.texts["titles"], show_progress_bar=False))
    if not context.cpu:
        result["gpu_memory_mib"] = round(torch.cuda.max_memory_reserved() / 2**20, 1)
    return result


def fine_tuning(context: Measuring) -> Result:
    """Steps/s of fine-tuning in bf16: pairs of titles, softmax over the batch's other titles, AdamW."""
    import torch
    from torch.nn.functional import cross_entropy, normalize
    from transformers import AutoModel, AutoTokenizer

    device = _device(context)
    folder = str(context.work / "model")
    model = AutoModel.from_pretrained(folder, local_files_only=True).float().to(device).train()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    pairs = 8 if context.quick else PAIRS
    titles = context.texts["titles"]
    rng = np.random.default_rng(0)

    def embed(rows: Any) -> Any:
        given = tokenizer([titles[row] for row in rows], padding=True, truncation=True, return_tensors="pt")
        given = {name: value.to(device) for name, value in given.items()}
        hidden = model(**given).last_hidden_state
        mask = given["attention_mask"][:, :, None].to(hidden.dtype)
        return normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=1)

    def step() -> None:
        rows = rng.integers(len(titles), size=(2, pairs))
        with torch.autocast(device, dtype=torch.bfloat16):
            scores = embed(rows[0]) @ embed(rows[1]).T * SCALE
            loss = cross_entropy(scores.float(), torch.arange(pairs, device=device))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def synchronize() -> None:
        if not context.cpu:
            torch.cuda.synchronize()

    steps = 2 if context.quick else STEPS_MEASURED
    step()
    synchronize()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    synchronize()
    per_s = steps / (time.perf_counter() - began)
    return {"pairs_per_step": pairs, "steps_per_s": round(per_s, 2), "texts_per_s": round(2 * pairs * per_s, 1)}


def _device(context: Measuring) -> str:
    """PyTorch's name of the device."""
    return "cpu" if context.cpu else "cuda"


STEPS = {"sentence-transformers": sentence_transformers, "fine-tuning": fine_tuning}


if __name__ == "__main__":
    run_step(STEPS, Measuring, ImportError)
