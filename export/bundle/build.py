"""Runs the steps of an export, one after the other."""

from rich.console import Console

from export.bundle.options import Exported, ExportOptions
from export.bundle.progress import ProgressSteps, warnings_silenced
from export.bundle.publish import draft_folder
from export.bundle.steps import Draft, convert, encode, gate, learn, measure, publish, quantize, read

STEPS = (convert, quantize, measure, gate, encode, learn, publish)


def export_bundle(options: ExportOptions, console: Console) -> Exported:
    """Make and publish a bundle; `console` shows the progress.

    Raises ShopstreamError for an input that is missing or does not fit; then nothing is left in `options.out`.
    """
    options.check()
    draft = Draft(options, ProgressSteps(console))
    read(draft)
    with draft_folder(options.out) as draft.folder, warnings_silenced():
        for step in STEPS:
            step(draft)
    return Exported(
        bundle=draft.bundle,
        layers=draft.source.layers,
        fused=draft.fused,
        torch_cosine=draft.torch_cosine,
        texts_per_second=draft.texts_per_second,
        seconds=draft.progress.seconds,
        warnings=draft.warnings,
        learned=draft.learned,
    )
