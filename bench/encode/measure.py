"""Rounds of `python -m bench encode`, and what the vectors are worth."""

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
from bench.encode.worker import WARM_TEXTS, Contender, Worker, text_file
from export.parity import NEIGHBOURS, cosines, neighbour_overlap
from udfs.errors import ShopstreamError

#: Texts that are encoded one by one as well, and how close these vectors have to be to the others.
ALONE, SAME_COSINE = 64, 0.99999
#: Seconds between two runs, in which the threads of the first go to sleep (OpenMP's spin for up to 0.2 s).
PAUSE_S = 0.5
#: Share of a core above which a waiting worker is reported.
IDLE_SHARE = 0.02


def race(
    contenders: Sequence[Contender], sets: Sequence[TextSet], rounds: int, folder: Path, notes: Console
) -> list[Result]:
    """Every contender on every text set: all of them loaded, one running at a time."""
    if not contenders:
        raise ShopstreamError("no contender is left to measure")
    with ExitStack() as stack:
        workers = []
        for contender in contenders:
            notes.print(f"{contender.name}: loading and warming up", markup=False)
            workers.append(stack.enter_context(Worker(contender, folder)))
            for text_set in filter(contender.takes, sets):
                workers[-1].encode(text_set, limit=WARM_TEXTS)
        results = [result for text_set in sets for result in _race_on(text_set, workers, rounds, folder, notes)]
        for worker in workers:
            if worker.idle_share > IDLE_SHARE:
                notes.print(
                    f"warning: {worker.contender.name} took {worker.idle_share:.0%} of a core from the others "
                    "while it waited",
                    markup=False,
                )
    return results


def _race_on(
    text_set: TextSet, workers: Sequence[Worker], rounds: int, folder: Path, notes: Console
) -> Iterator[Result]:
    """Rounds over one text set, each in the order opposite to the last; then what the vectors are worth."""
    takers = {worker.contender.name: worker for worker in workers if worker.contender.takes(text_set)}
    saved = {name: folder / f"{name}.npy" for name in takers}
    seconds: dict[str, list[float]] = {name: [] for name in takers}
    for number in range(rounds):
        notes.print(f"{text_set.name}: round {number + 1} of {rounds}", markup=False)
        for name in takers if number % 2 == 0 else reversed(takers):
            time.sleep(PAUSE_S)
            seconds[name].append(takers[name].encode(text_set, save=saved[name]))
    distinct = np.sort(np.unique(text_set.texts, return_index=True)[1])
    alone = TextSet(f"{text_set.name}-alone", "", [text_set.texts[place] for place in distinct[:ALONE]], chunk=1)
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
    """Mean and 1st percentile of the cosines, and the overlap of the ten nearest, of float32 [texts, dimensions]."""
    if reference is None:
        return None, None, None
    cosine = cosines(vectors, reference)
    figures = (cosine.mean(), np.percentile(cosine, 1), neighbour_overlap(vectors, reference))
    mean, p01, overlap = (round(float(figure), 6) for figure in figures)
    return mean, p01, overlap


def is_invariant(alone: Vectors, vectors: Vectors) -> bool:
    """Whether the first of the vectors, float32 [texts, dimensions], are those of the texts encoded alone.

    Their cosines are SAME_COSINE or more, and both have the same ten nearest among the others, in the same order.
    """
    among = vectors[: len(alone)]
    if cosines(alone, among).min() < SAME_COSINE:
        return False
    return np.array_equal(_nearest(alone, vectors), _nearest(among, vectors))


def _nearest(some: Vectors, vectors: Vectors) -> npt.NDArray[np.int64]:
    """The ten nearest of the vectors to each of `some`, which stand for the first of them: int64 [some, 10]."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = some.astype(np.float64) @ unit.T.astype(np.float64)
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(vectors) - 1)]
