"""`python -m bench pipeline`: the main job's throughput beside what one would take instead, on one real Kafka broker.

Every contender catches up alone on the same prepared topic, with the same bundle and a worker for each core.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from bench.chart import require_drawing
from bench.pipeline.contenders import FLINK, NAMES
from bench.pipeline.measure import Run, race
from bench.pipeline.prepare import Options, broker, bundle_for, prepare, settings_for, shoppers_of, spoil
from bench.pipeline.report import Row, _line, draw, row_of, show, with_ratio
from flink_jobs import simulate
from flink_jobs.settings import load_settings
from udfs.errors import ShopstreamError


def run(options: Options, *, as_json: bool, chart: Path | None) -> None:
    """Measure, and print a table or a JSON list; raises ShopstreamError for what a user can mend."""
    if unknown := sorted(set(options.only) - set(NAMES)):
        raise ShopstreamError(f"--only names {', '.join(unknown)}; the contenders are {', '.join(NAMES)}")
    if chart is not None:
        require_drawing(chart)
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    with TemporaryDirectory(prefix="shopstream-bench-", ignore_cleanup_errors=True) as folder:
        about, rows = catch_up(options, Path(folder), notes)
    if chart is not None:
        draw(rows, chart)
    if as_json:
        sys.stdout.write(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    else:
        show(about, rows, Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140))


def catch_up(options: Options, folder: Path, notes: Console) -> tuple[str, list[Row]]:
    """What was prepared, and a row for each contender that ran; `folder` takes everything that is written."""
    bundle = bundle_for(options, folder, notes)
    shoppers = shoppers_of(options)
    names = [name for name in NAMES if not options.only or name in options.only]
    with broker(folder) as address:
        base = [*settings_for(address, bundle), *options.assignments]
        stream = simulate.simulate(
            bundle.items().table.to_pylist(), events=options.events, shoppers=shoppers, bad_share=0
        )
        prepared = prepare(load_settings(None, base), stream, notes)
        prepared = replace(prepared, about=f"{prepared.about}; 2 % of the events up to 20 s late; bundle {bundle.id}")
        notes.print(prepared.about, markup=False)
        if "ours-bad" in names:
            spoil(load_settings(None, [*base, *FLINK["ours-bad"][1]]), bundle, options.events, shoppers)
        runs: dict[str, list[Run]] = {}
        for turn in range(options.rounds):
            for name in names if turn % 2 == 0 else reversed(names):
                notes.print(f"{name}: round {turn + 1} of {options.rounds}", markup=False)
                own = folder / f"{name}-{turn}"
                own.mkdir()
                try:
                    done = race(name, own, base, bundle, prepared, options, notes)
                except ShopstreamError as error:
                    notes.print(f"warning: left out: {name}: {error}", markup=False)
                    continue
                runs.setdefault(name, []).append(done)
                notes.print(f"  {_line(row_of(name, [done], prepared, None))}", markup=False)
    if not runs:
        raise ShopstreamError("no contender is left to measure")
    ours = runs.get("ours", [None])[0]
    rows = [row_of(name, runs[name], prepared, ours) for name in NAMES if name in runs]
    base_rate = next((row.events_per_s for row in rows if row.name == "ours"), None)
    return prepared.about, [with_ratio(row, base_rate) for row in rows]
