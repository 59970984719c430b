"""The gate: the lowest figures with which a bundle is published."""

from collections.abc import Mapping

import numpy as np

from udfs.bundles.manifest import Parity
from udfs.core.errors import ShopstreamError

#: The figures of an encoder variant, and those of a trained ranker (export.ranker.quality).
ENCODER_FIGURES = Parity.__struct_fields__[1:]
RANKER_FIGURES = ("hr_20", "mrr_20", "new_items")
#: The gate where nothing else is asked for.
GATE: Mapping[str, float] = {
    "cosine_mean": 0.99,
    "cosine_p1": 0.98,
    "spearman": 0.98,
    "top10_overlap": 0.9,
    "batch_invariance": 0.99999,
}


def gate_failures(figures: Mapping[str, float | None], gate: Mapping[str, float]) -> list[str]:
    """Return which of these figures are below the gate, in words.

    None, of a figure that was not measured, counts as 0. NaN fails.
    """
    return [
        f"{name} {'was not measured' if figures[name] is None else f'{figures[name]} < {lowest}'}"
        for name, lowest in gate.items()
        if name in figures and not (figures[name] or 0.0) >= lowest
    ]


def parse_gate(text: str) -> dict[str, float]:
    """Return GATE changed by text such as 'cosine_mean=.995,top10_overlap=.95'; ShopstreamError for anything else."""
    gate, figures = dict(GATE), (*ENCODER_FIGURES, *RANKER_FIGURES)
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = np.nan
        if name.strip() not in figures or not 0 <= number <= 1:
            raise ShopstreamError(
                f"--gate {part!r} should look like cosine_mean=0.995; figures: {', '.join(figures)}, each from 0 to 1"
            )
        gate[name.strip()] = number
    return gate
