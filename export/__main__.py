"""`python -m export`: makes model bundles."""

import functools
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from export.bundle.build import export_bundle
from export.bundle.options import Exported, ExportOptions
from export.bundle.ranker import TRIALS
from export.encoder.variants import DEFAULT_VARIANTS, VARIANTS, variant_bytes
from export.gate import GATE, RANKER_FIGURES, parse_gate
from export.ranker.report import chart_of, write_report
from udfs.core.errors import ShopstreamError, exit_with_one_line
from udfs.events.mapping import parse_mapping
from udfs.events.options import parse_options

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def commands() -> None:
    """Turn a model and a shop's history into a bundle: to ONNX, optimised, quantised, verified, published."""


PAST = "Past click events: a file, or the lake's folder"


@dataclass(frozen=True)
class Shared:
    """The options of both commands."""

    catalog: Annotated[Path, typer.Option(help="Items: .csv, .tsv, .jsonl (each also .gz) or .parquet.")]
    out: Annotated[Path, typer.Option(help="Folder of bundles; the new one gets its own folder in it.")]
    model: Annotated[
        str | None, typer.Option(help="BERT-type encoder: folder or hub id.", show_default="all-MiniLM-L6-v2, offline")
    ] = None
    query_prefix: Annotated[
        str | None, typer.Option(help="Text before every search.", show_default="the model's own")
    ] = None
    document_prefix: Annotated[
        str | None, typer.Option(help="Text before every title.", show_default="the model's own")
    ] = None
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="A file's own name for a field; may be repeated."),
    ] = None
    preset: Annotated[
        str,
        typer.Option(help="Kind of the files: auto, events, a known one, or a TOML file of your own (docs/input.md)."),
    ] = "auto"
    read: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="How to read the files, as in dates=day-first. May be repeated."),
    ] = None
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first row that cannot be read.")] = False
    session_gap: Annotated[float, typer.Option(min=0.001, help="Minutes without an event that end a session.")] = 30
    keys_file: Annotated[
        Path | None,
        typer.Option(
            "--keys-file", help="Keys of pseudonyms (the job's privacy.keys_file), for sessions with real ids."
        ),
    ] = None
    calibration: Annotated[
        Path | None,
        typer.Option(help="Texts to calibrate int8 on, one per line.", show_default="titles and queries"),
    ] = None
    calibration_texts: Annotated[int, typer.Option(min=1, help="Calibrate int8 on at most this many texts.")] = 1024
    variants: Annotated[str, typer.Option(help=f"Encoder variants, separated by commas: {', '.join(VARIANTS)}.")] = (
        ",".join(DEFAULT_VARIANTS)
    )
    gate: Annotated[
        str,
        typer.Option(
            help="Lowest figures with which a bundle is published, such as cosine_mean=0.995,top10_overlap=0.95; of a "
            f"trained ranker: {', '.join(RANKER_FIGURES)} (found, as a share of what titles alone find).",
            show_default=",".join(f"{name}={lowest}" for name, lowest in GATE.items()),
        ),
    ] = ""
    keep_current: Annotated[bool, typer.Option("--keep-current", help="Do not put the new bundle in use.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False

    def export(self, sessions: Path | None, **more: Any) -> Exported:
        """Export a bundle and print a summary. more: further ExportOptions."""
        options = ExportOptions(
            catalog=self.catalog,
            out=self.out,
            model=self.model,
            query_prefix=self.query_prefix,
            document_prefix=self.document_prefix,
            sessions=sessions,
            mapping=parse_mapping(self.mapping or ()),
            preset=self.preset,
            read=parse_options(self.read or ()),
            strict=self.strict,
            calibration=self.calibration,
            calibration_texts=self.calibration_texts,
            gate=parse_gate(self.gate),
            variants=tuple(self.variants.split(",")),
            session_gap_minutes=self.session_gap,
            keys_file=self.keys_file,
            set_current=not self.keep_current,
            **more,
        )
        exported = export_bundle(options, Console(stderr=True, highlight=False, quiet=self.as_json))
        if self.as_json:
            sys.stdout.write(json.dumps(_summary(exported, options)) + "\n")
        else:
            print_summary(exported, options)
        return exported


def with_shared(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option per field of Shared, and pass them as its first argument."""
    names = [each.name for each in fields(Shared)]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        command(Shared(**{name: given.pop(name) for name in names}), **given)

    _, *own = inspect.signature(command).parameters.values()
    parameters = [*inspect.signature(Shared).parameters.values(), *own]
    keyword_only = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    run.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]  # what typer reads
    return run


@app.command()
@with_shared
def bundle(
    shared: Shared,
    sessions: Annotated[Path | None, typer.Option(help=f"{PAST}, for popularity and co-visits.")] = None,
) -> None:
    """Export a model and a catalog as a bundle: encoder variants, item vectors, popularity and co-visits."""
    shared.export(sessions)


@app.command()
@with_shared
def train(
    shared: Shared,
    sessions: Annotated[
        Path | None,
        typer.Option(
            help=f"{PAST}, from which the ranker learns.", show_default="none: a ranker that learned from public data"
        ),
    ] = None,
    recommend_seen: Annotated[
        bool,
        typer.Option("--repeats", help="Also recommend items already seen in the session (rank.exclude_seen=false)."),
    ] = False,
    index_from: Annotated[
        int, typer.Option(min=1, help="With at least this many items, find titles by an index, not by comparing all.")
    ] = 5_000,
    tune: Annotated[
        float,
        typer.Option(
            min=0,
            max=1440,
            metavar="MINUTES",
            help=f"Search the ranker's hyperparameters for so long. --out keeps the trials ({TRIALS}), and the next "
            "search of the same sessions goes on from them.",
        ),
    ] = 0.0,
    report: Annotated[
        Path | None, typer.Option(help="Write a report on the ranker to this .md file, with a chart next to it.")
    ] = None,
) -> None:
    """Export a bundle with a ranker trained on past sessions. A running job loads it like any other bundle.

    A shop without sessions gets a ranker that learned from public data: by titles, categories, brands and ids.
    """
    if report is not None:
        if sessions is None:
            raise ShopstreamError("--report says what was learned from past sessions: name them with --sessions")
        chart_of(report)
    exported = shared.export(
        sessions, learn=True, recommend_seen=recommend_seen, index_from=index_from, tune_minutes=tune
    )
    if report is None or exported.learned is None:
        return
    if exported.learned.info.prior:
        report.unlink(missing_ok=True)
        Console(stderr=True).print(f"no {report}: the ranker has not learned from this shop", markup=False)
        return
    write_report(report, exported.bundle.manifest, exported.learned)


def _summary(exported: Exported, options: ExportOptions) -> dict[str, Any]:
    manifest = exported.bundle.manifest
    variants = {
        name: {
            "file": variant.file,
            "bytes": variant_bytes(manifest, name),
            "providers": variant.providers,
            "measured_on": variant.measured_on,
            "texts_per_second": exported.texts_per_second[name],
            "parity": msgspec.to_builtins(variant.parity),
        }
        for name, variant in manifest.encoder.variants.items()
    }
    document, query = manifest.encoder.prefix, manifest.encoder.query_prefix
    return {
        "bundle": manifest.id,
        "path": str(exported.bundle.path),
        "current": options.set_current,
        "source_model": manifest.source_model,
        "document_prefix": document,
        "query_prefix": document if query is None else query,
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


def print_summary(exported: Exported, options: ExportOptions) -> None:
    """Print an export's figures, warnings and next step."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 120
    summary = _summary(exported, options)
    texts = next(iter(exported.bundle.manifest.encoder.variants.values())).parity.texts
    table = Table("variant", title=f"Encoder {summary['source_model']}: parity with fp32 on {texts} held-back texts")
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
    if summary["query_prefix"] or summary["document_prefix"]:
        console.print(
            f"prefix of searches: “{summary['query_prefix']}”, of titles: “{summary['document_prefix']}” "
            "(--query-prefix, --document-prefix)",
            markup=False,
        )
    if quality := summary["ranker"]:
        console.print(
            f"learned ranker, on {quality['positions']:,.0f} positions in the latest sessions: "
            f"HR@20 {quality['hr_20']:.4f}, MRR@20 {quality['mrr_20']:.4f}; "
            f"{quality['candidate_recall']:.1%} of the next items were among the candidates"
        )
        if "hr_20_new" in quality:
            console.print(
                f"new items, on {quality['positions_new']:,.0f} positions: HR@20 {quality['hr_20_new']:.4f}; by titles "
                f"alone {quality['hr_20_new_by_titles']:.4f}"
            )
    elif exported.learned is not None:
        console.print("the ranker has not learned from this shop: it ranks by titles, categories, brands and ids")
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
