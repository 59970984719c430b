"""Sums the demo up."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from flink_jobs.demo.seen import Seen
from flink_jobs.simulation.records import Record
from udfs.contracts.clickstream import ClickstreamEvent
from udfs.contracts.rankings import Recommendation

CHECKPOINT_MS = 200
SHOWN_SESSIONS = 3


def _percentile(values: Mapping[str, int], share: float) -> int | None:
    return round(float(np.percentile(list(values.values()), share))) if values else None


def summarize(seen: Seen, sent: list[Record], variant: str, bundle: str) -> dict[str, Any]:
    """Returns the demo's figures, by name."""
    return {
        "events": len(sent),
        "triggers": len(seen.expected),
        "recommendations": len(seen.answers),
        "dead_letters": seen.dead_letters,
        "p50_ms": _percentile(seen.readable_ms, 50),
        "p99_ms": _percentile(seen.readable_ms, 99),
        "computed_p50_ms": _percentile(seen.computed_ms, 50),
        "computed_p99_ms": _percentile(seen.computed_ms, 99),
        "encoder_variant": variant,
        "bundle_id": bundle,
    }


def report(summary: Mapping[str, Any], seen: Seen, sent: list[Record], title_of: Mapping[str, str]) -> str:
    """Writes the figures and a few sessions as text."""
    counted = (
        f"{summary['events']:,} events, {summary['triggers']:,} of them triggers: "
        f"{summary['recommendations']:,} recommendations, each trigger answered exactly once; "
        f"{summary['dead_letters']} unreadable records in the dead-letter topic."
    )
    timed = (
        f"From a click in Kafka to its recommendation written: p50 {summary['computed_p50_ms']} ms, "
        f"p99 {summary['computed_p99_ms']} ms; readable exactly-once (a checkpoint every {CHECKPOINT_MS} ms): "
        f"p50 {summary['p50_ms']} ms, p99 {summary['p99_ms']} ms."
    )
    lines = ["", counted, timed, f"Encoder {summary['encoder_variant']} of bundle {summary['bundle_id']}."]
    return "\n".join([*lines, *_sessions(seen, sent, title_of)])


def _sessions(seen: Seen, sent: list[Record], title_of: Mapping[str, str]) -> Iterator[str]:
    """Describes a few sessions: what the shopper did, what was recommended at the end, and why."""
    events: dict[str, ClickstreamEvent] = {}
    for record in sent:
        if record.kind == "valid" and record.value is not None:
            event = msgspec.json.decode(record.value, type=ClickstreamEvent)
            events[event.event_id] = event
    by_session: dict[str, list[Recommendation]] = {}
    for answer in seen.answers.values():
        by_session.setdefault(answer.session_id, []).append(answer)
    for answers in sorted(by_session.values(), key=len, reverse=True)[:SHOWN_SESSIONS]:
        yield f"\n{answers[-1].user_id}"
        for answer in answers[-8:]:
            event = events[answer.trigger_event_id]
            what = (
                f'"{event.query}"' if event.event_type == "search" else title_of.get(event.item_id or "", event.item_id)
            )
            yield f"  {event.event_type.replace('_', ' '):17} {what}"
        yield "  recommended:"
        for item in answers[-1].items[:4]:
            why = "; ".join(
                f"{reason.source.replace('_', ' ')} {reason.weight:.2f} ({reason.because})" for reason in item.reasons
            )
            yield f"    {item.rank}. {title_of.get(item.item_id, item.item_id)}  {item.score:.2f} = {why}"
