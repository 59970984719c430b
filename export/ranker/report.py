"""What a ranker learned, for people: a page of Markdown, and a chart beside it."""

import os
from pathlib import Path

from export.ranker.quality import CUT
from export.ranker.train import Learned
from udfs.bundle import Manifest
from udfs.errors import ShopstreamError

#: Columns that the chart shows, those that matter most; and the colour of what is chosen, which differs in lightness.
SHOWN, CHOSEN, OTHERS = 20, "#0072B2", "#B0B0B0"


def chart_of(report: Path) -> Path:
    """Where a report's chart is; ShopstreamError for a report that cannot be written."""
    if report.suffix != ".md":
        raise ShopstreamError(f"--report {report}: use a name that ends in .md")
    folder = report.absolute().parent
    if not folder.is_dir():
        raise ShopstreamError(f"--report {report}: there is no folder {folder}")
    if report.is_dir() or not os.access(folder, os.W_OK):
        raise ShopstreamError(f"--report {report} cannot be written to")
    return report.with_suffix(".svg")


def write_report(report: Path, manifest: Manifest, learned: Learned) -> None:
    """The page, and the chart that it shows; the same bundle gives the same bytes."""
    chart = chart_of(report)
    draw(learned, chart)
    lines = [
        f"# Ranker of bundle {manifest.id}",
        "",
        f"{manifest.items:,} items, {manifest.sessions:,} past sessions, encoder {manifest.source_model}.",
        "",
        "Measured on the latest sessions, which taught neither the trees nor what they look at:",
        "",
        "| figure | |",
        "|---|---:|",
        *(f"| {name} | {value:g} |" for name, value in learned.info.quality.items()),
        "",
        f"![MRR@{CUT} by the number of trees, and the columns that they look at](<{chart.name}>)",
        "",
        "What the trees look at, by their share of what the splits gained:",
        "",
        "| column | share |",
        "|---|---:|",
        *(f"| {name} | {share:.1%} |" for name, share in heaviest(learned)),
    ]
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")


def heaviest(learned: Learned) -> list[tuple[str, float]]:
    """The columns and their shares, the largest first."""
    return sorted(learned.importance.items(), key=lambda each: -each[1])


def draw(learned: Learned, file: Path) -> None:
    """The measured part's MRR by the number of trees, those that stay marked, and what the columns gained."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    trees, mrr = list(learned.mrr), list(learned.mrr.values())
    bars = heaviest(learned)[:SHOWN][::-1]
    with mpl.rc_context({"svg.hashsalt": "shopstream", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10, 0.8 + 0.22 * SHOWN), layout="constrained")
        curve, columns = figure.subplots(1, 2)
        best = mrr.index(max(mrr))
        curve.plot(trees, mrr, color=OTHERS, marker="o", markersize=3)
        curve.plot(trees[best], mrr[best], color=CHOSEN, marker="o")
        curve.annotate(
            f"{trees[best]} trees: {mrr[best]:.4f}",
            (trees[best], mrr[best]),
            (0, 6),
            textcoords="offset points",
            ha="center",
        )
        curve.set_title(f"MRR@{CUT} on the latest sessions, by the number of trees", loc="left", fontsize=9)
        curve.margins(y=0.2)
        curve.spines[["top", "right"]].set_visible(False)
        drawn = columns.barh([name for name, _ in bars], [share for _, share in bars], color=CHOSEN)
        columns.bar_label(drawn, [f"{share:.1%}" for _, share in bars], padding=4)
        columns.set_title("what the trees look at: share of what the splits gained", loc="left", fontsize=9)
        columns.margins(x=0.15)
        columns.spines[:].set_visible(False)
        columns.tick_params(length=0)
        columns.set_xticks([])
        figure.savefig(file, metadata={"Date": None})
