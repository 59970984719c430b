"""`python -m export`: make model bundles."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from export.bundle.build import export_bundle
from export.bundle.options import Exported, ExportOptions
from export.encoder.parity import GATE, parse_gate
from export.encoder.variants import DEFAULT_VARIANTS, VARIANTS
from export.ranker.report import chart_of, write_report
from udfs.datasets import parse_mapping
from udfs.errors import exit_with_one_line

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def commands() -> None:
    """A model's life before it runs: to ONNX, optimised, quantised, verified, published as a bundle."""


Catalog = Annotated[Path, typer.Option(help="Items: .csv, .tsv, .jsonl (each also .gz) or .parquet.")]
PAST = "Past click events: a file, or the lake's folder"
Out = Annotated[Path, typer.Option(help="Folder of bundles; the new one gets its own folder in it.")]
Model = Annotated[
    str | None, typer.Option(help="BERT-type encoder: folder or hub id.", show_default="all-MiniLM-L6-v2, offline")
]
Mapping = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN", help="Where a file names a field otherwise; may be repeated."),
]
Gap = Annotated[float, typer.Option(min=0.001, help="Minutes without an event that end a session.")]
KeysFile = Annotated[
    Path | None,
    typer.Option("--keys-file", help="Keys of pseudonyms, the job's privacy.keys_file, for sessions with real ids."),
]
Calibration = Annotated[
    Path | None, typer.Option(help="Texts to calibrate int8 on, one a line.", show_default="titles and queries")
]
CalibrationTexts = Annotated[int, typer.Option(min=1, help="Most texts that int8 is calibrated on.")]
Variants = Annotated[str, typer.Option(help=f"Encoder variants, with commas between: {', '.join(VARIANTS)}.")]
Gate = Annotated[
    str,
    typer.Option(
        help="Least figures that a variant is published with, as cosine_mean=0.995,top10_overlap=0.95.",
        show_default=",".join(f"{name}={least}" for name, least in GATE.items()),
    ),
]
DEFAULTS = ",".join(DEFAULT_VARIANTS)
KeepCurrent = Annotated[bool, typer.Option("--keep-current", help="Do not put the new bundle in use.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@app.command()
def bundle(
    catalog: Catalog,
    out: Out,
    model: Model = None,
    sessions: Annotated[Path | None, typer.Option(help=f"{PAST}, for popularity and co-visits.")] = None,
    mapping: Mapping = None,
    session_gap: Gap = 30,
    keys_file: KeysFile = None,
    calibration: Calibration = None,
    calibration_texts: CalibrationTexts = 1024,
    variants: Variants = DEFAULTS,
    gate: Gate = "",
    keep_current: KeepCurrent = False,
    as_json: AsJson = False,
) -> None:
    """Export a model and a catalogue as a bundle: encoder variants, item vectors, popularity and co-visits."""
    options = ExportOptions(
        catalog=catalog,
        out=out,
        model=model,
        sessions=sessions,
        mapping=parse_mapping(mapping or ()),
        calibration=calibration,
        calibration_texts=calibration_texts,
        gate=parse_gate(gate),
        variants=tuple(variants.split(",")),
        session_gap_minutes=session_gap,
        keys_file=keys_file,
        set_current=not keep_current,
    )
    _export(options, as_json=as_json)


@app.command()
def train(
    catalog: Catalog,
    sessions: Annotated[Path, typer.Option(help=f"{PAST}, that the ranker learns from.")],
    out: Out,
    model: Model = None,
    mapping: Mapping = None,
    session_gap: Gap = 30,
    keys_file: KeysFile = None,
    calibration: Calibration = None,
    calibration_texts: CalibrationTexts = 1024,
    variants: Variants = DEFAULTS,
    gate: Gate = "",
    repeats: Annotated[
        bool,
        typer.Option("--repeats", help="Learn to recommend again what a session has met (rank.exclude_seen=false)."),
    ] = False,
    index_from: Annotated[
        int, typer.Option(min=1, help="Items from which titles are found by an index, not by comparing with all.")
    ] = 5_000,
    report: Annotated[
        Path | None, typer.Option(help="Write what was learned to this .md file, and a chart beside it.")
    ] = None,
    keep_current: KeepCurrent = False,
    as_json: AsJson = False,
) -> None:
    """The same, and a ranker learned from past sessions: a bundle like any other, which a running job takes up."""
    options = ExportOptions(
        catalog=catalog,
        out=out,
        model=model,
        sessions=sessions,
        mapping=parse_mapping(mapping or ()),
        calibration=calibration,
        calibration_texts=calibration_texts,
        gate=parse_gate(gate),
        variants=tuple(variants.split(",")),
        session_gap_minutes=session_gap,
        keys_file=keys_file,
        set_current=not keep_current,
        learn=True,
        index_from=index_from,
        repeats=repeats,
    )
    if report is not None:
        chart_of(report)
    exported = _export(options, as_json=as_json)
    if report is not None and exported.learned is not None:
        write_report(report, exported.bundle.manifest, exported.learned)


def _export(options: ExportOptions, *, as_json: bool) -> Exported:
    exported = export_bundle(options, Console(stderr=True, highlight=False, quiet=as_json))
    if as_json:
        sys.stdout.write(json.dumps(_summary(exported, options)) + "\n")
    else:
        _say(exported, options)
    return exported


def _summary(exported: Exported, options: ExportOptions) -> dict[str, Any]:
    manifest = exported.bundle.manifest
    variants = {
        name: {
            "file": variant.file,
            "bytes": manifest.files[variant.file].bytes,
            "providers": variant.providers,
            "measured_on": variant.measured_on,
            "texts_per_second": exported.texts_per_second[name],
            "parity": msgspec.to_builtins(variant.parity),
        }
        for name, variant in manifest.encoder.variants.items()
    }
    return {
        "bundle": manifest.id,
        "path": str(exported.bundle.path),
        "current": options.set_current,
        "source_model": manifest.source_model,
        "items": manifest.items,
        "sessions": manifest.sessions,
        "variants": variants,
        "ranker": manifest.ranker.quality if manifest.ranker else None,
        "layers": exported.layers,
        "fused": exported.fused,
        "torch_cosine": exported.torch_cosine,
        "seconds": exported.seconds,
        "warnings": exported.warnings,
    }


def _say(exported: Exported, options: ExportOptions) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 120
    summary = _summary(exported, options)
    texts = next(iter(exported.bundle.manifest.encoder.variants.values())).parity.texts
    table = Table("variant", title=f"Encoder {summary['source_model']}: parity with fp32 on {texts} other texts")
    for heading in ("on", "MB", "texts/s", "mean cos", "p1 cos", "Spearman", "top-10", "alone = batch", "padded"):
        table.add_column(heading, justify="right")
    for name, variant in summary["variants"].items():
        parity = variant["parity"]
        figures = [f"{parity[key]:.4f}" for key in ("cosine_mean", "cosine_p1", "spearman", "top10_overlap")]
        same = [
            "yes" if parity[key] == 1 else f"{parity[key]:.6f}" for key in ("batch_invariance", "padding_invariance")
        ]
        size, speed = f"{variant['bytes'] / 1e6:.1f}", f"{variant['texts_per_second']:.0f}"
        table.add_row(name, variant["measured_on"], size, speed, *figures, *same)
    console.print(table)
    fused = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in summary["fused"].items())
    console.print(f"fused in {summary['layers']} layers: {fused}")
    if quality := summary["ranker"]:
        console.print(
            f"learned ranker, on {quality['positions']:,.0f} next items of the latest sessions: "
            f"HR@20 {quality['hr_20']:.4f}, MRR@20 {quality['mrr_20']:.4f}; "
            f"{quality['candidate_recall']:.1%} of them were among the candidates"
        )
    for warning in summary["warnings"]:
        console.print(f"warning: {warning}", markup=False)
    console.print(
        f"{summary['items']} items, {summary['sessions']} sessions → bundle {summary['path']}"
        + (", now in use" if summary["current"] else ""),
        markup=False,
    )
    console.print(f"next: shopstream submit recommend --set bundles={options.out}", markup=False)


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    exit_with_one_line(lambda: app(arguments))


if __name__ == "__main__":
    main()
