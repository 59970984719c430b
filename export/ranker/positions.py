"""Positions in past sessions: what a job would know there, and the candidates that it would choose from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from export.history.interactions import Interactions
from udfs.bundle import FORMAT, EncoderInfo, Manifest
from udfs.candidates import Candidates, Finder, Query, nth_of, ragged
from udfs.encoder import Vectors
from udfs.ranking import RankOptions, item_rows, signals_of, to_grid
from udfs.sessions import Ints, Sessions

Encode = Callable[[Sequence[str]], Vectors]
Progress = Callable[[float], None]
#: Candidates of a position beside the one that was met, as many are drawn.
OTHERS = 80
#: Events of a session that its prefixes keep, the last ones.
PREFIX = 64


@dataclass(frozen=True)
class _Groups:
    """Candidates of positions: columns float32 [n, columns], position int64 [n], met bool [n]; positions in all."""

    columns: Vectors
    position: Ints
    item: Ints
    met: npt.NDArray[np.bool_]
    positions: int


def prefixes(log: Interactions, places: Ints) -> Interactions:
    """Each place (int64 [n], an event's number) as a session of its own: the last PREFIX events before it."""
    session = log.session[places]
    event, _ = ragged(np.maximum(log.offsets[session], places - PREFIX), places)
    offsets = np.append(0, np.cumsum(np.minimum(places - log.offsets[session], PREFIX)))
    columns = {name: getattr(log, name)[event] for name in ("item", "time", "type_code")}
    return replace(log, offsets=offsets, user=log.user[session], **columns)


def sessions_of(log: Interactions) -> Sessions:
    """As a job would hand them over; prices and the like unknown."""
    names, count = np.array(log.items, dtype=object), len(log.item)
    unknown, nothing = np.full(count, np.nan), np.full(count, None)
    return Sessions(
        offsets=log.offsets,
        start=log.start,
        end=log.end,
        count=np.diff(log.offsets),
        event_time=log.time,
        type_code=log.type_code,
        item_id=names[log.item],
        **dict.fromkeys(("price", "quantity", "rating", "dwell_ms"), unknown),
        **dict.fromkeys(("query", "event_id", "device", "timezone", "returning", "locale"), nothing),
    )


def candidates(finder: Finder, sofar: Interactions, encode: Encode) -> Candidates:
    """What a job would choose from for these sessions."""
    return finder.find(query_of(finder, sofar, encode))


def query_of(finder: Finder, sofar: Interactions, encode: Encode) -> Query:
    """These sessions as a job would look at them."""
    sessions = sessions_of(sofar)
    rows = item_rows(sessions, finder.items.row_of)
    signals = signals_of(sessions, rows, finder.items.titles, RankOptions())
    users = [sofar.users[number] for number in sofar.user]
    return finder.query(users, sessions, rows, signals, to_grid(encode(signals.text)))


def _groups(
    finder: Finder,
    log: Interactions,
    encode: Encode,
    rng: np.random.Generator,
    most: int,
    progress: Progress,
    *,
    repeats: bool,
) -> _Groups:
    """The candidates at up to `most` positions of sessions, drawn at random."""
    asked = np.arange(len(log.item)) > log.offsets[:-1][log.session]
    if not repeats:
        asked &= log.first_of_item
    places = np.flatnonzero(asked)
    if len(places) > most:
        places = np.sort(rng.choice(places, most, replace=False))
    parts: list[Candidates] = []
    chunk = finder.most_sessions
    for first in range(0, len(places), chunk):
        parts.append(candidates(finder, prefixes(log, places[first : first + chunk]), encode))
        progress(min(1.0, (first + chunk) / len(places)))
    sizes = [len(part.item) for part in parts]
    position = np.concatenate([part.session for part in parts] or [np.empty(0, dtype=np.int64)])
    position = position + chunk * np.repeat(np.arange(len(parts)), sizes)
    item = np.concatenate([part.item for part in parts] or [np.empty(0, dtype=np.int64)])
    columns = np.concatenate([part.columns for part in parts] or [np.empty((0, len(finder.columns)), np.float32)])
    # The finder numbers items as the catalogue does, the log as well.
    return _Groups(columns, position, item, item == log.item[places][position], len(places))


def _chosen(groups: _Groups, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """bool [n]: of positions whose item was among the candidates, that item and up to OTHERS others at random."""
    has = np.zeros(groups.positions, dtype=bool)
    has[groups.position[groups.met]] = True
    lot = np.where(groups.met, -1.0, rng.random(len(groups.met)))
    order = np.lexsort((lot, groups.position))
    position = groups.position[order]
    chosen = np.zeros(len(lot), dtype=bool)
    chosen[order] = nth_of(position) <= OTHERS
    return np.asarray(chosen & has[groups.position])


def bare_manifest(dimensions: int) -> Manifest:
    """Of the bundle that is there while a ranker learns, without an encoder."""
    return Manifest(FORMAT, "learning", "none", {}, EncoderInfo(0, "mean", True, "", dimensions, {}), 0, 0, {})
