"""A seeded shop: a believable catalogue, and shoppers whose clicks carry the signal that a recommender is to find.

Every shopper has tastes (a few kinds of product, a colour, a material, a price level). A session walks between related
items: the same kind, what goes with it (mug → teapot), now and then something else. The same arguments give the same
bytes. All drawing is done with NumPy for thousands of sessions at a time; only the JSON is made record by record.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from udfs.core.errors import ShopstreamError

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Item: TypeAlias = Mapping[str, Any]

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
EVENT_TYPES = ("view", "click", "search", "add_to_cart", "remove_from_cart", "purchase", "rate", "impression")
VIEW, CLICK, SEARCH, ADD, REMOVE, PURCHASE, RATE, IMPRESSION = range(8)

# A shopper comes once a round at most, at a habitual time in it, so that sessions of one shopper are at least
# ROUND - JITTER - LONGEST = 45 min apart, more than the session gap of 30 min.
ROUND_MS = 120 * 60_000
JITTER_MS = 30 * 60_000
LONGEST_MS = 45 * 60_000
LATE_MS = 20_000
SESSIONS_A_BLOCK = 4096
CART = 5
CANDIDATES = 6
LOCALES = ("en-GB", "en-US", "en-IE", "en-AU")
ZONES = ("Europe/London", "America/New_York", "Europe/Dublin", "Australia/Sydney")  # of the locales
DEVICES = ("phone", "desktop", "tablet")  # tablets write event_time as RFC 3339, the others as epoch ms

# What follows what: row = the event before (the last row: nothing yet), columns as EVENT_TYPES.
_NEXT = np.cumsum(
    [
        #  view click search add remove purchase rate impression
        [0.26, 0.18, 0.11, 0.18, 0.00, 0.00, 0.03, 0.24],
        [0.86, 0.00, 0.05, 0.00, 0.00, 0.00, 0.00, 0.09],
        [0.14, 0.30, 0.00, 0.00, 0.00, 0.00, 0.00, 0.56],
        [0.24, 0.10, 0.12, 0.00, 0.08, 0.22, 0.00, 0.24],
        [0.40, 0.00, 0.25, 0.00, 0.00, 0.15, 0.00, 0.20],
        [0.25, 0.00, 0.12, 0.00, 0.00, 0.34, 0.12, 0.17],
        [0.40, 0.00, 0.25, 0.00, 0.00, 0.00, 0.00, 0.35],
        [0.14, 0.40, 0.14, 0.00, 0.00, 0.00, 0.00, 0.32],
        [0.28, 0.00, 0.44, 0.00, 0.00, 0.00, 0.00, 0.28],
    ],
    axis=1,
)
_PAUSE_S = np.array([18.0, 1.5, 3.0, 6.0, 5.0, 4.0, 6.0, 2.5])  # median time until the next event

_ROW = np.dtype(
    [(name, "i8") for name in ("emit", "time", "number", "session", "who", "item", "dwell")]
    + [(name, "i1") for name in ("query", "type", "quantity", "rating", "returning", "fault")]
)
Rows: TypeAlias = npt.NDArray[np.void]


class Record(msgspec.Struct, frozen=True, gc=False):
    """One Kafka record to be, and the truth about it. event_time_ms is that of the event it was made from."""

    key: bytes | None
    value: bytes | None
    event_time_ms: int
    kind: Literal["valid", "duplicate", "bad"]
    reason: str | None = None  # why a bad one is bad, one of `FAULTS`


class _Event(msgspec.Struct, omit_defaults=True, gc=False):
    event_id: str
    event_type: str
    user_id: str
    event_time: int | str
    session_id: str
    properties: dict[str, str]
    item_id: str | None = None
    query: str | None = None
    price: float | None = None
    quantity: int | None = None
    rating: int | None = None
    dwell_ms: int | None = None


def make_catalog(items: int = 1500, seed: int = 7) -> list[dict[str, Any]]:
    """Products with the fields of the `catalog` topic; titles are distinct, prices in pounds, some 4 % not in stock.

    Kinds of product have equal shares. Raises ShopstreamError when `items` is not from 1 to what the vocabulary names.
    """
    words = _vocabulary()
    kinds = words["types"]
    parts = [(k["materials"], k["features"], words["palettes"][k["colours"]], k["sizes"]) for k in kinds]
    most = len(kinds) * min(math.prod(map(len, p)) for p in parts)
    if not 1 <= items <= most:
        raise ShopstreamError(f"items={items}: choose from 1 to {most}, as many as the vocabulary can name apart")
    rng = np.random.default_rng([seed, 0])
    brands = list(words["brands"])
    catalog = []
    for i, (kind, choices) in enumerate(zip(kinds, parts, strict=True)):
        shape = tuple(map(len, choices))
        names = rng.choice(math.prod(shape), items // len(kinds) + (i < items % len(kinds)), replace=False)
        for choice in zip(*np.unravel_index(names, shape), strict=True):
            material, feature, colour, size = (c[j] for c, j in zip(choices, choice, strict=True))
            head = " ".join(filter(None, (material, kind["noun"], feature)))
            brand = brands[rng.integers(len(brands))]
            price = kind["price"] * words["brands"][brand] * math.exp(rng.normal(0, 0.25))
            catalog.append(
                {
                    "item_id": "",
                    "title": f"{head[0].upper()}{head[1:]}, {colour}, {size}",
                    "description": f"{kind['use']}. Made of {material}, in {colour}; {size}.",
                    "category": kind["category"],
                    "brand": brand,
                    "price": round(max(math.ceil(price * 2) / 2 - 0.01, 0.99), 2),
                    "in_stock": bool(rng.random() > 0.04),
                    "locale": "en-GB",
                }
            )
    return [{**catalog[j], "item_id": f"P{i:06}"} for i, j in enumerate(rng.permutation(len(catalog)), 1)]


def simulate(
    catalog: Sequence[Item],
    *,
    sessions: int | None = None,
    events: int | None = None,
    shoppers: int = 2000,
    seed: int = 7,
    start_ms: int = START_MS,
    bad_share: float = 0.002,
    disorder_share: float = 0.02,
    duplicate_share: float = 0.002,
) -> Iterator[Record]:
    """Records of many interleaved sessions in the order in which they reach Kafka; endless without a limit.

    `sessions` limits the sessions begun, `events` the valid records; bad and duplicate ones come on top. Event times
    are epoch ms from `start_ms` on. `disorder_share` of the events come up to 20 s late. A duplicate is byte for byte
    a valid record before it, at most 20 s earlier. A bad record has an event_id of its own: none that is valid is lost
    with it. Past and live runs of one `seed` and number of shoppers share tastes and popular items.

    `catalog` holds items as in the `catalog` topic, from `make_catalog` or any other shop; the kind of product is
    read from category, colour and material from titles like ours. Raises ShopstreamError for arguments out of range.
    """
    shares = {"bad_share": bad_share, "disorder_share": disorder_share, "duplicate_share": duplicate_share}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ShopstreamError(f"{name}={share}: choose a share from 0 to 1")
    for name, count in {"sessions": sessions, "events": events, "shoppers": shoppers}.items():
        if count is not None and count < 1:
            raise ShopstreamError(f"{name}={count}: choose 1 or more")
    return _records(_World(catalog, shoppers, seed), 1, sessions, events, start_ms, shares)


def past_sessions(
    catalog: Sequence[Item], *, sessions: int, shoppers: int = 2000, seed: int = 7, end_ms: int = START_MS
) -> Iterator[bytes]:
    """The events of so many whole sessions that all end before `end_ms`, in order of time, as JSON lines.

    The shop and its shoppers are those of `simulate` with the same seed, the sessions others; no bad, late or duplicate
    records. For co-visits and training. Raises ShopstreamError for arguments out of range.
    """
    if sessions < 1 or shoppers < 1:
        raise ShopstreamError(f"sessions={sessions}, shoppers={shoppers}: choose 1 or more of each")
    world = _World(catalog, shoppers, seed)
    rounds = math.ceil(
        (sessions + shoppers) / world.activity.sum()
    )  # enough: a shopper comes > rounds · activity - 1 times
    clean = dict.fromkeys(("bad_share", "disorder_share", "duplicate_share"), 0.0)
    for record in _records(world, 2, sessions, None, end_ms - (rounds + 2) * ROUND_MS, clean):
        yield (record.value or b"") + b"\n"


def write(
    out: Path,
    *,
    events: int = 100_000,
    sessions: int = 10_000,
    items: int = 1500,
    shoppers: int = 2000,
    seed: int = 7,
    start_ms: int = START_MS,
) -> dict[str, int]:
    """Write catalog.jsonl, sessions.jsonl (past, before `start_ms`) and events.jsonl (from then on) into `out`.

    events.jsonl has `events` valid records with late and duplicate ones among them; bad records are left out, as
    broken bytes cannot stand in JSON lines. Returns the number of lines by file name.
    Raises ShopstreamError for arguments out of range and a folder that cannot be written.
    """
    catalog = make_catalog(items, seed)
    live = simulate(catalog, events=events, shoppers=shoppers, seed=seed, start_ms=start_ms, bad_share=0)
    lines = {
        "catalog.jsonl": (msgspec.json.encode(item) + b"\n" for item in catalog),
        "sessions.jsonl": past_sessions(catalog, sessions=sessions, shoppers=shoppers, seed=seed, end_ms=start_ms),
        "events.jsonl": ((record.value or b"") + b"\n" for record in live),
    }
    counts = dict.fromkeys(lines, 0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in lines.items():
            with (out / name).open("wb") as file:
                for line in content:
                    file.write(line)
                    counts[name] += 1
    except OSError as error:
        raise ShopstreamError(f"{out} cannot be written: {error.strerror}") from error
    return counts


# --- the shop and its shoppers ----------------------------------------------------------------------------------------


class _World:
    """Catalogue and shoppers as columns. Items are sorted by kind, so that a kind is a range of items."""

    def __init__(self, catalog: Sequence[Item], shoppers: int, seed: int) -> None:
        if not catalog:
            raise ShopstreamError("the catalogue is empty; it should hold one item or more")
        items = sorted(catalog, key=lambda item: (item.get("category") or "", item["item_id"]))
        kinds, self.kind = np.unique([item.get("category") or "" for item in items], return_inverse=True)
        n = len(items)
        rng = np.random.default_rng([seed, 3])
        self.seed = seed
        self.ids = [str(item["item_id"]) for item in items]
        titles = [str(item["title"]).split(", ") for item in items]
        self.material = np.unique([title[0].split(" ")[0] for title in titles], return_inverse=True)[1]
        self.colour = np.unique([title[min(1, len(title) - 1)] for title in titles], return_inverse=True)[1]
        self.price = np.array([item.get("price") or 0.0 for item in items], float)
        self.in_stock = np.array([item.get("in_stock") is not False for item in items])
        self.queries = _queries(items)
        self.quality = rng.normal(4.0, 0.6, n)

        log_price = np.log(np.maximum(self.price, 0.01))
        size = np.bincount(self.kind)
        centred = log_price - (np.bincount(self.kind, log_price) / size)[self.kind]
        self.level = centred / max(float(centred.std()), 1e-9)

        popularity = (6.0 + rng.permutation(n)) ** -0.9  # Zipf-Mandelbrot: 2 % of the views for the first of 1500
        self.reach = np.cumsum(popularity * np.where(self.in_stock, 1, 0.1))
        self.first = np.concatenate([[0], np.cumsum(size)])
        self.companions, self.companion_count = _companions([str(kind) for kind in kinds])

        self.phase = np.sort(rng.integers(0, ROUND_MS, shoppers))
        self.activity = np.clip(rng.beta(0.8, 3.0, shoppers), 0.02, 1.0)  # visits a round
        self.offset = rng.random(shoppers)
        tastes = self.kind[self.any_item(rng, 2 * shoppers)]
        beside = self.companions[tastes, rng.integers(0, self.companion_count[tastes])]
        self.likes = np.concatenate([tastes.reshape(shoppers, 2), beside.reshape(shoppers, 2)], axis=1)
        self.likes_colour = self.colour[rng.integers(0, n, shoppers)]
        self.likes_material = self.material[rng.integers(0, n, shoppers)]
        self.likes_level = rng.normal(0, 1, shoppers)
        self.device = rng.choice(len(DEVICES), shoppers, p=[0.55, 0.35, 0.1])
        self.locale = rng.choice(len(LOCALES), shoppers, p=[0.6, 0.25, 0.08, 0.07])
        self.known = rng.random(shoppers) < 0.3  # has been here before the first round

    def any_item(self, rng: np.random.Generator, n: int) -> Ints:
        """`n` items by popularity."""
        at: Ints = np.searchsorted(self.reach, rng.random(n) * self.reach[-1], "right")
        return np.minimum(at, len(self.ids) - 1)

    def item_like(self, rng: np.random.Generator, kind: Ints, who: Ints, item: Ints) -> Ints:
        """An item of each `kind`, popular, to the shopper's taste and like `item`, but another one if there is one."""
        low, high = self.first[kind], self.first[kind + 1]
        reach = np.concatenate([[0.0], self.reach])
        spin = rng.random((len(kind), CANDIDATES))
        at = np.searchsorted(self.reach, reach[low, None] + spin * (reach[high] - reach[low])[:, None], "right")
        at = np.minimum(at, high[:, None] - 1)
        score = rng.gumbel(size=at.shape)
        score += 1.2 * (self.colour[at] == self.likes_colour[who, None])
        score += 1.0 * (self.material[at] == self.likes_material[who, None])
        score += 1.5 * (self.colour[at] == self.colour[item, None])
        score += 1.5 * (self.material[at] == self.material[item, None])
        score -= 0.8 * np.abs(self.level[at] - self.likes_level[who, None])
        score -= 9.0 * (at == item[:, None])
        best: Ints = at[np.arange(len(at)), score.argmax(axis=1)]
        return best


def _queries(items: Sequence[Item]) -> list[tuple[str, str, str]]:
    """Three ways in which a shopper looks for each item: its noun alone, with its material, with its colour."""
    nouns = {kind["category"]: kind["noun"] for kind in _vocabulary()["types"]}
    queries = []
    for item in items:
        head, colour = [*str(item["title"]).lower().split(", "), ""][:2]
        noun = nouns.get(item.get("category"), head)
        queries.append((noun, head.split(" with ")[0].split(" for ")[0], f"{colour} {noun}".strip()))
    return queries


def _companions(kinds: Sequence[str]) -> tuple[Ints, Ints]:
    """(kinds, most) and their count: what goes with each kind by the vocabulary, else its siblings, else itself."""
    goes_with = {kind["category"]: set(kind["goes_with"]) for kind in _vocabulary()["types"]}
    found = []
    for i, kind in enumerate(kinds):
        siblings = [
            j for j, other in enumerate(kinds) if j != i and other.rpartition(" > ")[0] == kind.rpartition(" > ")[0]
        ]
        named = [j for j, other in enumerate(kinds) if other.rpartition(" > ")[2] in goes_with.get(kind, ())]
        found.append(named or siblings or [i])
    count = np.array([len(f) for f in found])
    return np.array([f + [0] * (count.max() - len(f)) for f in found]), count


def _vocabulary() -> dict[str, Any]:
    words: dict[str, Any] = msgspec.json.decode(resources.files("flink_jobs").joinpath("vocabulary.json").read_bytes())
    return words


# --- sessions ---------------------------------------------------------------------------------------------------------


class _Visits(NamedTuple):
    """Sessions that begin at `start` (epoch ms) by `who`; no later visit begins before `until`."""

    who: Ints
    start: Ints
    until: int


def _visits(world: _World, rng: np.random.Generator, start_ms: int) -> Iterator[_Visits]:
    """Blocks of visits without end. A shopper comes in the rounds in which activity · rounds passes a whole number."""
    at_once = max(1, int(SESSIONS_A_BLOCK / world.activity.sum()))
    for turn in itertools.count(step=at_once):
        visits = np.floor(np.arange(turn, turn + at_once + 1)[:, None] * world.activity + world.offset)
        rounds, who = np.nonzero(np.diff(visits, axis=0))
        opens = start_ms + (turn + rounds) * ROUND_MS + world.phase[who]  # ascending, as phases are
        nexts = np.append(opens, start_ms + (turn + at_once) * ROUND_MS)
        for at in range(0, len(who), SESSIONS_A_BLOCK):
            block = slice(at, at + SESSIONS_A_BLOCK)
            start = opens[block] + rng.integers(0, JITTER_MS, len(opens[block]))
            yield _Visits(who[block], start, int(nexts[min(block.stop, len(who))]))


def _walk(world: _World, rng: np.random.Generator, who: Ints, start: Ints) -> Rows:
    """The events of the sessions, all sessions step by step together; in order of time."""
    n = len(who)
    order = rng.permutation(n)
    session, who, clock = order, who[order], start[order].astype(float)
    length = np.sort(np.minimum(rng.geometric(1 / 10, n), 60))[::-1]  # longest first: those still going are a prefix
    last = np.full(n, len(EVENT_TYPES))
    kind = np.where(rng.random(n) < 0.8, world.likes[who, rng.integers(0, 4, n)], world.kind[world.any_item(rng, n)])
    item = world.item_like(rng, kind, who, world.any_item(rng, n))
    quantity = np.ones(n, np.int64)
    cart, carried, held = np.zeros((n, CART), np.int64), np.ones((n, CART), np.int64), np.zeros(n, np.int64)
    steps = []
    for step in range(length[0]):
        m = int(np.searchsorted(-length, -step))
        before = last[:m]
        now = (rng.random((m, 1)) >= _NEXT[before]).sum(axis=1)
        now = np.minimum(now, IMPRESSION)
        leaves = (now == PURCHASE) | (now == REMOVE)
        cannot_add = (now == ADD) & ((held[:m] == CART) | ~world.in_stock[item[:m]])
        now[(leaves & (held[:m] == 0)) | cannot_add] = VIEW

        fresh = (now == IMPRESSION) | (now == SEARCH)
        fresh |= ((now == CLICK) & (before != IMPRESSION)) | ((now == VIEW) & (before != CLICK))
        new = np.flatnonzero(fresh)
        kind[new] = _next_kind(world, rng, kind[new], who[new], before[new])
        item[new] = world.item_like(rng, kind[new], who[new], item[new])

        add = np.flatnonzero(now == ADD)
        cart[add, held[add]] = item[add]
        quantity[add] = carried[add, held[add]] = np.minimum(rng.geometric(0.8, len(add)), 9)
        held[add] += 1
        out = np.flatnonzero((now == PURCHASE) | (now == REMOVE))
        held[out] -= 1
        item[out], quantity[out] = cart[out, held[out]], carried[out, held[out]]
        kind[out] = world.kind[item[out]]

        pause = np.clip(_PAUSE_S[now] * np.exp(rng.normal(0, 0.8, m)) * 1000, 200, 600_000)
        rows = np.zeros(m, _ROW)
        rows["session"], rows["who"], rows["item"], rows["type"] = session[:m], who[:m], item[:m], now
        rows["time"], rows["dwell"], rows["quantity"] = clock[:m], pause, quantity[:m]
        rows["query"] = rng.integers(0, 3, m)
        rows["rating"] = np.clip(np.rint(world.quality[item[:m]] + rng.normal(0, 0.7, m)), 1, 5)
        steps.append(rows[clock[:m] - start[session[:m]] < LONGEST_MS])
        clock[:m] += pause
        last[:m] = now
    walked: Rows = np.concatenate(steps)
    return _sorted(walked, "time")


def _sorted(rows: Rows, by: str) -> Rows:
    ordered: Rows = rows[np.argsort(rows[by], kind="stable")]
    return ordered


def _next_kind(world: _World, rng: np.random.Generator, kind: Ints, who: Ints, before: Ints) -> Ints:
    """What to look at next: mostly the same kind, or what goes with it (more so from the cart), or a whim."""
    n = len(kind)
    spin = rng.random(n)
    beside = world.companions[kind, rng.integers(0, world.companion_count[kind])]
    goes_on = np.where((before == ADD) | (before == PURCHASE), 0.6, 0.2)
    whim = world.likes[who, rng.integers(0, 4, n)]
    moved = np.where(spin < goes_on, beside, np.where(spin > 0.95, whim, kind))
    return np.where(before == SEARCH, kind, moved)  # a search finds what was searched for


# --- records ----------------------------------------------------------------------------------------------------------


def _records(
    world: _World, stream: int, sessions: int | None, events: int | None, start_ms: int, shares: Mapping[str, float]
) -> Iterator[Record]:
    rng = np.random.default_rng([world.seed, stream])
    name = f"{world.seed}/{stream}/{start_ms}/{len(world.phase)}"
    tag = hashlib.blake2b(name.encode(), digest_size=5).hexdigest()  # other arguments, other event ids
    carried = np.zeros(0, _ROW)
    known = world.known.copy()
    begun = numbered = 0
    for who, start, until in _visits(world, rng, start_ms):
        room = len(who) if sessions is None else sessions - begun
        rows = _walk(world, rng, who[:room], start[:room])
        returning = known[who]
        returning[np.setdiff1d(np.arange(len(who)), np.unique(who, return_index=True)[1])] = True
        known[who] = True
        rows["returning"] = returning[rows["session"]]
        rows["number"] = numbered + np.arange(len(rows))
        rows["session"] += begun
        begun, numbered = begun + len(who[:room]), numbered + len(rows)
        rows = _sorted(np.concatenate([carried, _transport(rng, rows, shares)]), "emit")
        ended = begun == sessions
        ready = len(rows) if ended else int(np.searchsorted(rows["emit"], until))
        rows, carried = rows[:ready], rows[ready:]
        if events is not None:
            valid = np.cumsum(rows["fault"] == 0)
            ended |= bool(len(rows) and valid[-1] >= events)
            rows = rows[: int(np.searchsorted(valid, events)) + 1]
            events -= int(valid[len(rows) - 1]) if len(rows) else 0
        yield from _encoded(world, rows, tag)
        if ended:
            return


def _transport(rng: np.random.Generator, rows: Rows, shares: Mapping[str, float]) -> Rows:
    """The way to Kafka: some events late, some sent twice (fault -1), and broken ones (fault = 1 + index in FAULTS)."""
    n = len(rows)
    rows["emit"] = rows["time"] + (rng.random(n) < shares["disorder_share"]) * rng.integers(1, LATE_MS, n)
    twice = rows[rng.random(n) < shares["duplicate_share"]]
    twice["emit"] += rng.integers(1, LATE_MS, len(twice))
    twice["fault"] = -1
    bad = rows[rng.random(n) < shares["bad_share"]]
    bad["fault"] = rng.integers(1, len(FAULTS) + 1, len(bad))
    return np.concatenate([rows, twice, bad])


def _encoded(world: _World, rows: Rows, tag: str) -> Iterator[Record]:
    types, who, item = rows["type"], rows["who"], rows["item"]
    times = rows["time"].astype(object)
    zoned = world.device[who] == DEVICES.index("tablet")
    times[zoned] = np.datetime_as_string(rows["time"][zoned].astype("M8[ms]"), timezone="UTC").astype(object)
    priced = np.isin(types, (VIEW, CLICK, ADD, REMOVE, PURCHASE))
    counted = np.isin(types, (ADD, REMOVE, PURCHASE))

    def only(where: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> list[Any]:
        kept = values.astype(object)
        kept[~where] = None
        return list(kept)

    ids, queries, reasons, encode = world.ids, world.queries, list(FAULTS), msgspec.json.Encoder().encode
    properties = [
        {"device": device, "locale": locale, "timezone": zone, "returning": returning}
        for device in DEVICES
        for locale, zone in zip(LOCALES, ZONES, strict=True)
        for returning in ("false", "true")
    ]
    columns = (
        rows["fault"].tolist(),
        rows["number"].tolist(),
        rows["time"].tolist(),
        rows["session"].tolist(),
        types.tolist(),
        who.tolist(),
        item.tolist(),
        rows["query"].tolist(),
        times.tolist(),
        only(priced, world.price[item]),
        only(counted, rows["quantity"]),
        only(types == RATE, rows["rating"]),
        only(types == VIEW, rows["dwell"]),
        ((world.device[who] * len(LOCALES) + world.locale[who]) * 2 + rows["returning"]).tolist(),
    )
    # Records are made one by one: a Kafka producer takes them so. Some 4 µs each.
    for fault, number, ms, session, kind, w, i, q, time, price, quantity, rating, dwell, setting in zip(
        *columns, strict=True
    ):
        user = f"u{w:06}"
        event = _Event(
            f"{tag}-{number}x" if fault > 0 else f"{tag}-{number}",
            EVENT_TYPES[kind],
            user,
            time,
            f"{user}-{session}",
            properties[setting],
            None if kind == SEARCH else ids[i],
            queries[i][q] if kind == SEARCH else None,
            price,
            quantity,
            rating,
            dwell,
        )
        if fault > 0:
            reason = reasons[fault - 1]
            value = FAULTS[reason](msgspec.to_builtins(event))
            yield Record(None if reason == "no user_id" else user.encode(), value, ms, "bad", reason)
        else:
            yield Record(user.encode(), encode(event), ms, "duplicate" if fault else "valid")


def _with(**changed: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda event: msgspec.json.encode(event | changed)


def _without(field: str, event_type: str) -> Callable[[dict[str, Any]], bytes]:
    def drop(event: dict[str, Any]) -> bytes:
        whole = {"item_id": "P000001", "query": "mug"} | event | {"event_type": event_type}
        return msgspec.json.encode({name: value for name, value in whole.items() if name != field})

    return drop


# Ways in which a record breaks the contract, and what makes its bytes of a sound event.
FAULTS: Mapping[str, Callable[[dict[str, Any]], bytes | None]] = {
    "null value": lambda _: None,
    "empty value": lambda _: b"",
    "invalid UTF-8": lambda event: msgspec.json.encode(event).replace(b'"user_id":"', b'"user_id":"\xff\xfe'),
    "truncated JSON": lambda event: msgspec.json.encode(event)[:-40],
    "not an object": lambda event: msgspec.json.encode([event]),
    "no event_id": _without("event_id", "view"),
    "no event_type": _without("event_type", "view"),
    "no user_id": _without("user_id", "view"),
    "no event_time": _without("event_time", "view"),
    "no item_id": _without("item_id", "view"),
    "search without query": _without("query", "search"),
    "unknown event_type": _with(event_type="hover"),
    "user_id is an object": _with(user_id={"id": 1}),
    "event_time is no time": _with(event_time="yesterday"),
    "event_time without zone": _with(event_time="2026-01-01T00:00:00"),
    "price is text": _with(price="cheap"),
    "price below 0": _with(price=-1.0),
    "quantity below 1": _with(quantity=0),
    "rating above 5": _with(rating=9),
    "dwell_ms below 0": _with(dwell_ms=-5),
}
