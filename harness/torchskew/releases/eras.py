"""What each release speaks, asked as features, and the outcomes that follow for every rank of a group.

The table of eras belongs to the guard, which travels alone; this module adds the facts that only predictions need.
Every fact has its first release and its source. Facts without a source, known only because a run showed them, are in
observed.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

from torchskew.guard import table
from torchskew.model.outcomes import Guard, Kind, Outcome, Store
from torchskew.releases import observed

OK = Outcome.OK
SOURCES = {
    "store": "opcodes in TCPStore's sources 1.7.1-2.15.0; first bytes of real clients of thirteen releases",
    "serves": "answers of 19 real server builds, 1.13.1 to 2.15.0, to each release's greeting",
    "libuv": "rendezvous.py: use_libuv by default since 2.4; the wheels of 2.1.2 and Debian's builds lack it",
    "retries": "a client whose connection is closed: up to 2.4 it gives up, since 2.5 it retries until its timeout "
    "(real clients, 12 s take 12-16 s, 6 s take 8-10 s, 3 s take 3-5 s)",
    "waits": "a host left alone, eight releases: up to 2.1 waitForWorkers continues silently, since 2.2 it raises",
    "gloo": "pytorch/gloo 31b1f02 and 6d8b511, mapped to releases by symbols in the wheels",
    "addresses": "gloo/rendezvous/context.cc at 31b1f02 (waits for rank_<i> of lower ranks, then stores its addresses) "
    "and at 6d8b511 (stores one record per rank at once)",
    "checkpoint": "metadata.py of twelve releases: 2.3, 2.4 and 2.15 write a format that earlier releases can't read",
    "rendezvous_state": "dynamic_rendezvous.py of 21 releases: 2.0 renamed the classes, 2.3 reads redundancy_list",
    "keys": "distributed_c10d.py of each release, and the keys that real clients wrote",
    "settings": "two ranks of 2.13.0, with the setting on one of them",
    "lookups": "servers of 2.6 to 2.15: a reverse look-up for each accepted connection, in the store's thread",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """The TCPStore of a release: its wire era, and how its server and client behave."""

    era: str
    serves: tuple[str, ...]
    validates_on_connect: bool
    pings_on_connect: bool
    has_libuv: bool
    libuv_by_default: bool
    retries_when_closed: bool
    host_raises_at_timeout: bool
    looks_up_names: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesFacts:
    """The formats of files and pickles that a release writes and reads, each named by its first release."""

    checkpoint: str
    rendezvous_state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One release and what it speaks. number: (major, minor, patch)."""

    number: tuple[int, int, int]
    store: StoreFacts
    gloo: str
    keys: str
    barrier_after_init: bool
    files: FilesFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a prediction needs: torch release and settings of each rank, rank 0 (the host) first.

    torch: None for an unknown release. rendezvous: "tcp", "file", "none", or "store" (no process group).
    scenario: its name with the variant, for facts about that scenario. python, numpy: of each rank, "" where unknown.
    """

    torch: tuple[str | None, ...]
    env: tuple[Mapping[str, str], ...] = ()
    rendezvous: str = "tcp"
    guard: Guard = Guard.OFF
    store: Store = Store.STOCK
    kind: Kind = Kind.GROUP
    scenario: str = ""
    python: tuple[str, ...] = ()
    numpy: tuple[str, ...] = ()


@cache
def release(text: str) -> Release | None:
    """The facts about the release in any torch version string; None when that names no release since 1.7."""
    number = table.parse(text)
    if number is None or number[:2] < (1, 7):
        return None
    minor = number[:2]
    return Release(
        number=number,
        store=_store(text, minor),
        gloo=table.era("gloo", text) or "",
        keys=table.era("keys", text) or "",
        barrier_after_init=(1, 8) <= minor < (2, 1),
        files=FilesFacts(
            checkpoint=_since(minor, (1, 7), (2, 0), (2, 3), (2, 4), (2, 15)),
            rendezvous_state=_since(minor, (1, 7), (1, 9), (2, 0), (2, 3)),
        ),
    )


def _store(text: str, minor: tuple[int, int]) -> StoreFacts:
    """The facts about the store; Debian's builds have no libuv."""
    wire = table.era("store", text) or ""
    has_libuv = minor >= (2, 2) and "debian" not in text
    return StoreFacts(
        era=wire,
        serves=table.SERVES[wire],
        validates_on_connect=minor >= (2, 2),
        pings_on_connect=minor >= (2, 5),
        has_libuv=has_libuv,
        libuv_by_default=has_libuv and minor >= (2, 4),
        retries_when_closed=minor >= (2, 5),
        host_raises_at_timeout=minor >= (2, 2),
        looks_up_names=minor >= (2, 6),
    )


def _since(minor: tuple[int, int], *changes: tuple[int, int]) -> str:
    """The last change not above this release, as text."""
    first = max(change for change in changes if change <= minor)
    return f"{first[0]}.{first[1]}"


def predict(situation: Situation) -> tuple[Outcome, ...]:
    """One outcome per rank, from the tables alone; () where a release is unknown, or where it is not known on which
    side of a border it is.

    The label of a build between two releases is the later one, but it may still be as the earlier one is.
    """
    labels = sorted({text for text in situation.torch if text and table.before(text)})
    outcomes = set()
    for sides in product(*((text, table.before(text)) for text in labels)):
        meant = dict(zip(labels, sides, strict=True))
        outcomes.add(_predict(replace(situation, torch=tuple(meant.get(text or "", text) for text in situation.torch))))
    return outcomes.pop() if len(outcomes) == 1 else ()


def _predict(situation: Situation) -> tuple[Outcome, ...]:
    """As predict(), every label taken for the release that it names."""
    releases = tuple(release(text) if text else None for text in situation.torch)
    known = tuple(each for each in releases if each is not None)
    if len(known) != len(releases):
        return ()
    sourced = _sourced(known, situation)
    if set(sourced) != {OK}:
        return sourced
    numbers = tuple(each.number for each in known)
    seen = observed.outcomes(situation.scenario, numbers, situation.python, situation.numpy, situation.store)
    return seen or sourced


def _sourced(known: tuple[Release, ...], situation: Situation) -> tuple[Outcome, ...]:
    """What follows from sources and protocols alone, without what only runs have shown."""
    world = len(known)
    if situation.kind is Kind.HANDOVER:
        return _handed_over(known, situation.scenario)
    if situation.kind is Kind.SOLO or situation.rendezvous == "none" or world < 2:
        return (Outcome.OK,) * world
    env = situation.env or ({},) * world
    if situation.store is Store.BRIDGE:
        return _bridged(known, env, situation)
    if situation.guard is Guard.OFF:
        outcomes = _unguarded(known, env, situation.rendezvous)
        hangs = situation.scenario.partition(".")[0] in _NO_TIMEOUT
        return tuple(Outcome.HANG if hangs and each is Outcome.TIMEOUT else each for each in outcomes)
    return _guarded(known, env, situation)


def _handed_over(known: tuple[Release, ...], scenario: str) -> tuple[Outcome, ...]:
    """One after another: no rank starts after a reader that failed."""
    failed = next((rank for rank, reader in enumerate(known) if not _reads(scenario, known[0], reader)), len(known))
    after = (Outcome.NOT_RUN,) * (len(known) - failed - 1)
    return (Outcome.OK,) * failed + (Outcome.OPAQUE,) * (failed < len(known)) + after


# Scenarios whose groups of 2.1.2 and 2.2.2, 2.6.0, 2.13.0 or 2.15.0 were right at a bridge in both orders, or did what
# observed.py says (docs/bridge.md). What varied, and what has not run, has no prediction.
_ACROSS_2_2 = frozenset({
    "all_gather", "all_reduce", "all_to_all", "barrier", "broadcast", "coalesced", "ddp", "debug_detail",
    "functional_collectives", "gather", "init_barrier", "monitored_barrier", "new_group.counter",
    "new_group.destroyed", "object_collectives", "reduce", "rendezvous_tcp", "scatter", "send_recv",
    "shutdown_order", "stopped_peer",
})  # fmt: skip
# init_rpc gives its store no timeout: it has the default, half an hour (torch/distributed/rpc/__init__.py).
_NO_TIMEOUT = ("rpc", "rpc_objects")
# The changes of 2.3 and 2.15 are in what a distributed checkpoint says of each tensor.
_DISTRIBUTED = ("checkpoint_dcp", "checkpoint_resume", "sharded_state")
_WITHOUT_TENSORS = ("checkpoint_resume.stateful", "checkpoint_resume.nested", "pickles.dcp", "pickles.dcp_alias")
_NOT_DISTRIBUTED = (
    "checkpoint_resume.adamw_plain",
    *("sharded_state.local", "sharded_state.full", "sharded_state.optim", "sharded_state.tensor"),
)


def _reads(scenario: str, writer: Release, reader: Release) -> bool:
    """Whether a release can read what another wrote: these are pickles of private classes."""
    what = scenario.partition(".")[0]
    if scenario in _WITHOUT_TENSORS or (what in _DISTRIBUTED and scenario not in _NOT_DISTRIBUTED):
        written, read = (table.parse(each.files.checkpoint) or () for each in (writer, reader))
        if scenario in _WITHOUT_TENSORS:  # only that 2.4 renamed a class of the file itself matters
            return written < (2, 4) or read >= (2, 4)
        return written <= read
    if what != "rendezvous_state" or writer.files.rendezvous_state == reader.files.rendezvous_state:
        return True
    return reader.files.rendezvous_state == "2.0" and writer.files.rendezvous_state == "2.3"


def _unguarded(ranks: tuple[Release, ...], env: tuple[Mapping[str, str], ...], rendezvous: str) -> tuple[Outcome, ...]:
    """Stock PyTorch: the store decides first, then gloo's wire format and the keys, then one-sided settings."""
    if rendezvous in ("tcp", "store") and not all(serves(ranks[0], joiner) for joiner in ranks[1:]):
        return _store_refuses(ranks, env)
    if rendezvous == "store":
        return (Outcome.OK,) * len(ranks)
    if not _same_wire(ranks):
        return tuple(_mixed_wire(ranks, rank) for rank in range(len(ranks)))
    return _settings(ranks, env)


def serves(host: Release, joiner: Release) -> bool:
    """Whether the host's store understands this joiner's client."""
    return joiner.store.era in host.store.serves


def _same_wire(ranks: tuple[Release, ...]) -> bool:
    """Whether all ranks write the same keys and speak the same gloo wire format."""
    return len({(rank.gloo, rank.keys) for rank in ranks}) == 1


def _mixed_wire(ranks: tuple[Release, ...], rank: int) -> Outcome:
    """What a rank sees when the store works but the wire differs: which peer it waits for, or whose bytes it reads.

    Under different keys no rank finds another: TIMEOUT. From 2.0 on the keys agree, and the values decide. Up to 2.1 a
    rank waits for each lower rank's `rank_<i>`, which 2.2 no longer writes, before it stores its own addresses. A rank
    that reads addresses of the other form fails on their length at once: OPAQUE. Peers are read in ascending order. 2.0
    and 2.1 store the same form, and then wait for bytes that the other never sends.
    """
    newer = [each.gloo == "2.2" for each in ranks]
    same_keys = all(each.keys in ("2.0", "2.1") for each in ranks)
    if not same_keys or len(set(newer)) == 1:
        return Outcome.TIMEOUT
    silent = [not newer[peer] and any(newer[:peer]) for peer in range(len(ranks))]
    if silent[rank]:
        return Outcome.TIMEOUT
    decisive = (peer for peer in range(len(ranks)) if peer != rank and (silent[peer] or newer[peer] != newer[rank]))
    return Outcome.TIMEOUT if silent[next(decisive)] else Outcome.OPAQUE


def _store_refuses(ranks: tuple[Release, ...], env: tuple[Mapping[str, str], ...]) -> tuple[Outcome, ...]:
    """What each rank sees when the host's store cannot serve one of the joiners.

    The host waits for a rank that never counts itself in: TIMEOUT (since 2.2 the store raises; earlier stores
    continue, and gloo waits once more). A joiner that the host can serve waits for the missing rank's key: TIMEOUT. For
    one that it can't serve, a closed connection ends a client up to 2.4 at once, OPAQUE, and makes a client since 2.5
    retry until its timeout. A silent libuv server holds it until the host gives up and exits, which closes the
    connection, at about the timeout as well.
    """
    silent = hosts_libuv(ranks[0], env[0])
    outcomes = [Outcome.TIMEOUT]
    for joiner in ranks[1:]:
        closed_at_once = not serves(ranks[0], joiner) and not joiner.store.retries_when_closed
        # A libuv server closes the connection of a client that opened properly and then sent an opcode it lacks.
        hears_nothing = silent and not joiner.store.validates_on_connect
        outcomes.append(Outcome.OPAQUE if closed_at_once and not hears_nothing else Outcome.TIMEOUT)
    return tuple(outcomes)


def hosts_libuv(host: Release, env: Mapping[str, str]) -> bool:
    """Whether rank 0 serves its store with libuv, under its settings."""
    asked = env.get("USE_LIBUV")
    if not host.store.has_libuv:
        return False
    return host.store.libuv_by_default if asked is None else asked == "1"


def _bridged(
    ranks: tuple[Release, ...], env: tuple[Mapping[str, str], ...], situation: Situation
) -> tuple[Outcome, ...]:
    """At a bridge the store is no obstacle: as where the ranks meet over a file. () where nobody has looked.

    Between 2.1 and later releases it rewrites gloo's addresses too. Beside 2.0 and older ones it carries gloo's
    connections (docs/bridge.md), of which too little has been measured for a prediction.
    """
    if any(rank.number[:2] < (2, 1) for rank in ranks):
        return ()
    if situation.rendezvous == "store":
        return (Outcome.OK,) * len(ranks)
    measured = {situation.scenario, situation.scenario.partition(".")[0]} & _ACROSS_2_2
    return _settings(ranks, env) if measured or _same_wire(ranks) else ()


def bridgeable(rank: Release) -> bool:
    """Whether a bridge can bring this release together with the others that it can."""
    return rank.number[:2] >= (1, 13)


# Setting -> outcome of the rank that has it, outcome of the ranks that don't (seen on one release).
_ONE_SIDED = {
    "TORCH_GLOO_LAZY_INIT": (Outcome.HANG, Outcome.CRASH),
    "GLOO_ENABLE_RANK_AS_SEQUENCE_NUMBER": (Outcome.OPAQUE, Outcome.CRASH),
    "TORCH_DISTRIBUTED_DEBUG": (Outcome.TIMEOUT, Outcome.TIMEOUT),
    "TORCH_DIST_INIT_BARRIER": (Outcome.TIMEOUT, Outcome.CRASH),
}


def _settings(ranks: tuple[Release, ...], env: tuple[Mapping[str, str], ...]) -> tuple[Outcome, ...]:
    """What a setting that only some ranks have does to a group that would form without it."""
    for name, (with_it, without) in _ONE_SIDED.items():
        on = _has(ranks, env, name)
        if len(set(on)) > 1:
            return tuple(with_it if has else without for has in on)
    return (Outcome.OK,) * len(ranks)


def _has(ranks: tuple[Release, ...], env: tuple[Mapping[str, str], ...], name: str) -> tuple[bool, ...]:
    """Per rank: the setting is on and the release reads it."""
    return tuple(
        table.setting(name, settings) != "" and rank.number[:2] >= table.WIRE_SETTINGS[name]
        for rank, settings in zip(ranks, env, strict=True)
    )


def compatible(ranks: tuple[Release, ...], env: tuple[Mapping[str, str], ...] = (), rendezvous: str = "tcp") -> bool:
    """Whether the table admits this group: store in this direction, gloo, keys and settings."""
    settings = env or ({},) * len(ranks)
    store = rendezvous != "tcp" or all(serves(ranks[0], joiner) for joiner in ranks[1:])
    same = all(len(set(_has(ranks, settings, name))) == 1 for name in table.WIRE_SETTINGS)
    return store and same and _same_wire(ranks)


def _guarded(
    ranks: tuple[Release, ...], env: tuple[Mapping[str, str], ...], situation: Situation
) -> tuple[Outcome, ...]:
    """With the guard on every rank: CLEAR on every rank or OK on every rank. One-sided: only a store era is seen.

    Where that era works, the guard steps aside. Where it does not, the guarded side reports it. It learns an era, not
    a release, so its text names every version only where all run the same one: CLEAR there, OPAQUE otherwise.
    """
    world = len(ranks)
    if situation.guard is Guard.ON:
        admitted = compatible(ranks, env, situation.rendezvous) and _policy_admits(ranks, env[0])
        return (Outcome.OK if admitted else Outcome.CLEAR,) * world
    if all(serves(ranks[0], joiner) for joiner in ranks[1:]):
        return _stepped_aside(ranks, env, situation)
    same = len({table.parse(text or "") for text in situation.torch}) == 1
    guarded = Outcome.CLEAR if same else Outcome.OPAQUE
    if situation.guard is Guard.HOST:
        return (guarded, *(_without_host(joiner, situation.rendezvous) for joiner in ranks[1:]))
    # The stock host waits until its timeout for ranks that never come.
    return (Outcome.TIMEOUT, *(guarded for _ in ranks[1:]))


def _stepped_aside(
    ranks: tuple[Release, ...], env: tuple[Mapping[str, str], ...], situation: Situation
) -> tuple[Outcome, ...]:
    """As stock PyTorch does, except that a stock joiner up to 2.4 does not survive that the guard let it go."""
    lost = [situation.guard is Guard.HOST and _lost(joiner, situation.rendezvous) for joiner in ranks[1:]]
    if any(lost):
        return (Outcome.TIMEOUT, *(Outcome.OPAQUE if each else Outcome.TIMEOUT for each in lost))
    return _unguarded(ranks, env, situation.rendezvous)


def _lost(joiner: Release, rendezvous: str) -> bool:
    """Whether a stock joiner ends when the connection that a guard held for it closes."""
    return rendezvous == "tcp" and not joiner.store.retries_when_closed


def _policy_admits(ranks: tuple[Release, ...], env: Mapping[str, str]) -> bool:
    """Whether rank 0's policy, which can be stricter than the table, admits these releases."""
    policy = env.get("TORCHSKEW_GUARD_POLICY", "era")
    parts = {"exact": 3, "minor": 2}.get(policy, 0)
    return len({rank.number[:parts] for rank in ranks}) == 1


def _without_host(joiner: Release, rendezvous: str) -> Outcome:
    """A stock joiner whose guarded host gave up: up to 2.4 it ends when its connection closes, since 2.5 it retries."""
    return Outcome.OPAQUE if _lost(joiner, rendezvous) else Outcome.TIMEOUT
