"""The rounds of `python -m bench encode`, and the fidelity of the vectors."""

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from bench.encode.contenders import REFERENCE
from bench.encode.peers import Vectors
from bench.encode.report import Result, Row, median_ratio
from bench.encode.text_sets import TextSet
from bench.encode.worker import WARM_UP_TEXTS, Contender, Worker, text_file
from udfs.core.errors import ShopstreamError
from udfs.encoder.similarity import NEIGHBOURS, cosines, neighbour_overlap

#: Texts that are also encoded one at a time.
SINGLE_TEXTS = 64
#: The lowest cosine between a text's vector alone and its vector in a batch at which both count as the same.
SAME_COSINE = 0.99999
#: Seconds between two runs, in which the threads of the first go to sleep (OpenMP's spin for up to 0.2 s).
PAUSE_S = 0.5
#: Share of a core above which an idle worker is reported.
IDLE_SHARE = 0.02


def race(
    contenders: Sequence[Contender], text_sets: Sequence[TextSet], rounds: int, folder: Path, progress: Console
) -> list[Result]:
    """Run every contender on every text set: all of them loaded, one running at a time."""
    if not contenders:
        raise ShopstreamError("no contender is left to measure")
    with ExitStack() as stack:
        workers = []
        for contender in contenders:
            progress.print(f"{contender.name}: loading and warming up", markup=False)
            workers.append(stack.enter_context(Worker(contender, folder)))
            for text_set in filter(contender.takes, text_sets):
                workers[-1].encode(text_set, limit=WARM_UP_TEXTS)
        results = [result for text_set in text_sets for result in _race_on(text_set, workers, rounds, folder, progress)]
        for worker in workers:
            if worker.idle_share > IDLE_SHARE:
                progress.print(
                    f"warning: {worker.contender.name} took {worker.idle_share:.0%} of a core from the others "
                    "while it was idle",
                    markup=False,
                )
    return results


def _race_on(
    text_set: TextSet, workers: Sequence[Worker], rounds: int, folder: Path, progress: Console
) -> Iterator[Result]:
    """Run the rounds on one text set, each in the opposite order of the last, then compare the vectors."""
    takers = {worker.contender.name: worker for worker in workers if worker.contender.takes(text_set)}
    saved = {name: folder / f"{name}.npy" for name in takers}
    seconds: dict[str, list[float]] = {name: [] for name in takers}
    for number in range(rounds):
        progress.print(f"{text_set.name}: round {number + 1} of {rounds}", markup=False)
        for name in takers if number % 2 == 0 else reversed(takers):
            time.sleep(PAUSE_S)
            seconds[name].append(takers[name].encode(text_set, save=saved[name]))
    distinct = np.sort(np.unique(text_set.texts, return_index=True)[1])
    singles = [text_set.texts[index] for index in distinct[:SINGLE_TEXTS]]
    alone = TextSet(f"{text_set.name}-alone", "", singles, chunk=1)
    text_file(folder, alone.name).write_text(json.dumps(alone.texts))
    reference: Vectors | None = np.load(saved[REFERENCE])[distinct] if REFERENCE in takers else None
    for name, worker in takers.items():
        vectors = np.load(saved[name])[distinct]
        worker.encode(alone, save=saved[name])
        cosine_mean, cosine_p01, overlap = fidelity(vectors, reference)
        row = Row(
            name=name,
            text_set=text_set.name,
            texts_per_s=round(len(text_set.texts) / statistics.median(seconds[name]), 1),
            ratio_to_sentence_transformers=median_ratio(seconds.get(REFERENCE), seconds[name]),
            cosine_mean=cosine_mean,
            cosine_p01=cosine_p01,
            top10_overlap=overlap,
            batch_invariant=is_invariant(np.load(saved[name]), vectors),
            memory_mb=round(worker.memory_mb, 1),
        )
        yield Result(row, seconds[name], worker.contender.setting(text_set))


def fidelity(vectors: Vectors, reference: Vectors | None) -> tuple[float | None, float | None, float | None]:
    """Mean and 1st percentile of the cosines, and the overlap of the ten nearest neighbours.

    Both float32 [texts, dimensions]; all None without a reference.
    """
    if reference is None:
        return None, None, None
    cosine = cosines(vectors, reference)
    figures = (cosine.mean(), np.percentile(cosine, 1), neighbour_overlap(vectors, reference))
    mean, p01, overlap = (round(float(figure), 6) for figure in figures)
    return mean, p01, overlap


def is_invariant(alone: Vectors, vectors: Vectors) -> bool:
    """Whether the first texts have the same vectors when encoded alone; both float32 [texts, dimensions].

    The same: cosines are SAME_COSINE or more, and the ten nearest neighbours are equal, in the same order.
    """
    in_batch = vectors[: len(alone)]
    if cosines(alone, in_batch).min() < SAME_COSINE:
        return False
    return np.array_equal(_nearest(alone, vectors), _nearest(in_batch, vectors))


def _nearest(first: Vectors, vectors: Vectors) -> npt.NDArray[np.int64]:
    """int64 [first, 10]: the ten nearest vectors to each of `first`, which replace the first of them."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = first.astype(np.float64) @ unit.T.astype(np.float64)
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(vectors) - 1)]
