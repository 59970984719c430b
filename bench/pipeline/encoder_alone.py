"""The contender `encoder` of `python -m bench pipeline`: the encoder alone, the upper bound of any pipeline with it."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.pipeline.contenders import Running
from bench.pipeline.measure import USAGE_S, Run, Sample, Usage
from bench.pipeline.sessions import Due, Shopper, sessions_of
from flink_jobs.settings.loading import load_settings
from udfs.bundles.bundle import Bundle
from udfs.catalog.items import LiveItems
from udfs.encoder.encoder import open_encoder
from udfs.ranking.model import open_ranker
from udfs.ranking.options import RankOptions
from udfs.ranking.ranker import RankRequest

#: The texts are those of at most this many triggers, in batches as large as those of the job.
TRIGGERS = 4096
#: How long the encoder runs, in seconds.
ENCODER_S = 20.0


def write_batches(file: Path, bundle: Bundle, records: Sequence[tuple[bytes, bytes]]) -> float:
    """Write the texts that ranking asks for, one list per batch of answers; return the answers per distinct text.

    records: keys and values of events. A text counts once per batch.
    """
    batch_size = load_settings().python.bundle_size
    ranker = open_ranker(bundle, LiveItems(bundle), RankOptions())
    shoppers = dict[bytes, Shopper]()
    dues = list[Due]()
    for key, value in records:
        if due := shoppers.setdefault(key, Shopper()).add(value):
            dues.append(due)
    dues = dues[:TRIGGERS]
    batches: list[list[str]] = []
    encoder = open_encoder(bundle)

    def encode(texts: Sequence[str], queries: Any) -> Any:
        batches.append(list(texts))
        return encoder.encode(texts, queries)

    for first in range(0, len(dues), batch_size):
        batch = dues[first : first + batch_size]
        ranker.rank(RankRequest([due[0] for due in batch], sessions_of(batch)), encode)
    file.write_text(json.dumps(batches))
    return len(dues) / sum(len(set(batch)) for batch in batches)


def run_encoder(contender: Running, answers_per_text: float) -> Run:
    """Sample the encoder for ENCODER_S seconds after its first report; samples count the answers its texts are for."""
    usage = Usage(contender.roots)
    samples: list[Sample] = []
    texts: list[int] = []
    while not samples or samples[-1].at - samples[0].at < ENCODER_S:
        time.sleep(USAGE_S)
        contender.check()
        usage.update()
        if encoded := contender.texts():
            at = time.monotonic() - contender.started
            samples.append(Sample(at, round(encoded * answers_per_text), usage.cpu_s, usage.rss_mb))
            texts.append(encoded)
    return Run(samples, texts[-1] - texts[0], finished=True, digests={}, records=0)
