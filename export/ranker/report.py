"""Writes a report on a trained ranker: a page of Markdown and a chart next to it."""

import os
from dataclasses import asdict
from pathlib import Path

from export.ranker.quality import CUT
from export.ranker.train import TrainedRanker
from udfs.bundles.manifest import Manifest
from udfs.core.errors import ShopstreamError

#: The chart shows at most this many of the most important features.
SHOWN = 20
#: Colours of the chosen number of trees and of the others; they differ in lightness, too.
CHOSEN = "#0072B2"
REST = "#B0B0B0"


def chart_of(report: Path) -> Path:
    """Return the file of a report's chart; ShopstreamError for a report that cannot be written."""
    if report.suffix != ".md":
        raise ShopstreamError(f"--report {report}: use a name that ends in .md")
    folder = report.absolute().parent
    if not folder.is_dir():
        raise ShopstreamError(f"--report {report}: there is no folder {folder}")
    if report.is_dir() or not os.access(folder, os.W_OK):
        raise ShopstreamError(f"--report {report} cannot be written to")
    return report.with_suffix(".svg")


def write_report(report: Path, manifest: Manifest, trained: TrainedRanker) -> None:
    """Write the page and the chart that it shows; the same bundle gives the same bytes."""
    chart = chart_of(report)
    draw(trained, chart)
    lines = [
        f"# Ranker of bundle {manifest.id}",
        "",
        f"{manifest.items:,} items, {manifest.sessions:,} past sessions, encoder {manifest.source_model}.",
        "",
        "Measured on the latest sessions, which were used for neither the trees nor their features:",
        "",
        "| figure | |",
        "|---|---:|",
        *(f"| {name} | {value:g} |" for name, value in trained.info.quality.items()),
        "",
        f"![MRR@{CUT} by number of trees, and feature importance](<{chart.name}>)",
        "",
        "Feature importance (share of total gain):",
        "",
        "| feature | share |",
        "|---|---:|",
        *(f"| {name} | {share:.1%} |" for name, share in most_important(trained)),
        *_trials(trained),
    ]
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _trials(trained: TrainedRanker) -> list[str]:
    """Return a table of the search for hyperparameters, the best first; nothing without one."""
    if not trained.trials:
        return []
    names = list(asdict(trained.trials[0].hyperparameters))
    return [
        "",
        f"{len(trained.trials)} trials of the search for hyperparameters, measured on the past; the first was taken:",
        "",
        f"| MRR@{CUT} | {' | '.join(names)} |",
        f"|{'---:|' * (len(names) + 1)}",
        *(
            f"| {trial.mrr:.4f} | {' | '.join(f'{value:.3g}' for value in asdict(trial.hyperparameters).values())} |"
            for trial in trained.trials[:SHOWN]
        ),
    ]


def most_important(trained: TrainedRanker) -> list[tuple[str, float]]:
    """Return the features and their shares, the largest first."""
    return sorted(trained.importance.items(), key=lambda item: -item[1])


def draw(trained: TrainedRanker, file: Path) -> None:
    """Draw MRR by number of trees, with the chosen number marked, and feature importance."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    trees, mrr = list(trained.mrr), list(trained.mrr.values())
    bars = most_important(trained)[:SHOWN][::-1]
    with mpl.rc_context({"svg.hashsalt": "shopstream", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10, 0.8 + 0.22 * SHOWN), layout="constrained")
        curve, columns = figure.subplots(1, 2)
        best = mrr.index(max(mrr))
        curve.plot(trees, mrr, color=REST, marker="o", markersize=3)
        curve.plot(trees[best], mrr[best], color=CHOSEN, marker="o")
        curve.annotate(
            f"{trees[best]} trees: {mrr[best]:.4f}",
            (trees[best], mrr[best]),
            (0, 6),
            textcoords="offset points",
            ha="center",
        )
        curve.set_title(f"MRR@{CUT} on the latest sessions, by number of trees", loc="left", fontsize=9)
        curve.margins(y=0.2)
        curve.spines[["top", "right"]].set_visible(False)
        drawn = columns.barh([name for name, _ in bars], [share for _, share in bars], color=CHOSEN)
        columns.bar_label(drawn, [f"{share:.1%}" for _, share in bars], padding=4)
        columns.set_title("feature importance: share of total gain", loc="left", fontsize=9)
        columns.margins(x=0.15)
        columns.spines[:].set_visible(False)
        columns.tick_params(length=0)
        columns.set_xticks([])
        figure.savefig(file, metadata={"Date": None})
