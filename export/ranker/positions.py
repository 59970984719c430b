"""Positions in past sessions, with the candidates and features that the job would compute there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from export.history.interactions import Interactions
from udfs.bundles.manifest import FORMAT, EncoderInfo, Manifest
from udfs.candidates.generator import CandidateGenerator, Candidates
from udfs.candidates.source import SessionContext
from udfs.core.arrays import Bools, Ints, concat_ranges, position_in_group
from udfs.encoder.encoder import Vectors
from udfs.ranking.learned import SIGNAL_DECAY, SIGNALS
from udfs.sessions.columns import Sessions, unknown_columns
from udfs.sessions.requests import RankInputs, RankRequest

#: Texts [n], and which of them are searches, bool [n], to vectors, float32 [n, dimensions].
Encode = Callable[[Sequence[str], Bools], Vectors]
Progress = Callable[[float], None]

#: Candidates drawn per position, besides the target.
OTHERS = 80
#: A prefix keeps at most this many of a session's latest events. Where session.max_events is larger, only the counts of
#: events grow, and trees treat a count above all those they were trained on like the largest of these.
PREFIX = 64


@dataclass(frozen=True)
class Groups:
    """n candidates at P positions, sorted by position."""

    features: Vectors  #: float32 [n, features]
    position: Ints  #: int64 [n]
    item: Ints  #: int64 [n], row in the catalog
    is_target: npt.NDArray[np.bool_]  #: bool [n]: the item of the position's own event
    target: Ints  #: int64 [P], the item of each position's own event

    @property
    def positions(self) -> int:
        """P."""
        return len(self.target)


def prefixes(log: Interactions, events: Ints) -> Interactions:
    """Return one session per event (int64 [n], its number): at most PREFIX events of its session before it."""
    session = log.session[events]
    before, _ = concat_ranges(np.maximum(log.offsets[session], events - PREFIX), events)
    offsets = np.append(0, np.cumsum(np.minimum(events - log.offsets[session], PREFIX)))
    columns = {name: getattr(log, name)[before] for name in ("item", "time", "type_code")}
    return replace(log, offsets=offsets, user=log.user[session], **columns)


def sessions_of(log: Interactions) -> Sessions:
    """Return the sessions as the job would hand them over, with prices and the like unknown."""
    item_id = np.array(log.items, dtype=object)[log.item]
    known: dict[str, npt.NDArray[Any]] = {"event_time": log.time, "type_code": log.type_code, "item_id": item_id}
    columns = unknown_columns(len(log.item)) | known
    return Sessions(log.offsets, log.start, log.end, np.diff(log.offsets), columns)


def request_of(sofar: Interactions) -> RankRequest:
    """Return the job's request to rank items for these sessions."""
    return RankRequest([sofar.users[number] for number in sofar.user], sessions_of(sofar))


def candidates(generator: CandidateGenerator, sofar: Interactions, encode: Encode) -> Candidates:
    """Return the candidates that the job would generate for these sessions."""
    return generator.generate(context_of(generator, sofar, encode))


def context_of(generator: CandidateGenerator, sofar: Interactions, encode: Encode) -> SessionContext:
    """Return these sessions as the job's candidate sources would see them."""
    request = request_of(sofar)
    return generator.context(RankInputs.of(request, generator.items, encode, recent=SIGNALS, decay=SIGNAL_DECAY))


def sample_groups(
    generator: CandidateGenerator,
    log: Interactions,
    encode: Encode,
    rng: np.random.Generator,
    count: int,
    progress: Progress,
    *,
    recommend_seen: bool,
    among: Bools | None = None,
) -> Groups:
    """Return the candidates at up to `count` positions, drawn at random.

    recommend_seen: also draw positions whose item the session has seen before. among: bool [items], of which the
    targets are drawn; None: of all.
    """
    asked = log.asked(recommend_seen=recommend_seen)
    events = np.flatnonzero(asked if among is None else asked & among[log.item])
    if len(events) > count:
        events = np.sort(rng.choice(events, count, replace=False))
    # Of each part only these are kept: what its sources have prepared takes tens of times their memory.
    positions, items = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    features = [np.empty((0, len(generator.feature_names)), np.float32)]
    chunk = generator.max_sessions
    for first in range(0, len(events), chunk):
        part = candidates(generator, prefixes(log, events[first : first + chunk]), encode)
        positions.append(part.session + first)
        items.append(part.item)
        features.append(part.features)
        progress(min(1.0, (first + chunk) / len(events)))
    position, item = np.concatenate(positions), np.concatenate(items)
    # Candidates and interactions number items alike: by row of the catalog.
    target = log.item[events]
    return Groups(np.concatenate(features), position, item, item == target[position], target)


def sample_candidates(groups: Groups, rng: np.random.Generator) -> Bools:
    """Return bool [n]: the target and up to OTHERS others, drawn at random, where the target is a candidate at all."""
    has_target = np.zeros(groups.positions, dtype=bool)
    has_target[groups.position[groups.is_target]] = True
    lot = np.where(groups.is_target, -1.0, rng.random(len(groups.is_target)))
    order = np.lexsort((lot, groups.position))
    chosen = np.zeros(len(lot), dtype=bool)
    chosen[order] = position_in_group(groups.position[order]) <= OTHERS
    return np.asarray(chosen & has_target[groups.position])


def bare_manifest(dimensions: int) -> Manifest:
    """Return the manifest of a bundle without an encoder, which is there while a ranker is trained."""
    return Manifest(FORMAT, "learning", "none", {}, EncoderInfo(0, "mean", True, "", dimensions, {}), 0, 0, {})
