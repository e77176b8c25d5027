"""What to expect of an upgrade from one release to another, from the facts alone; nothing is run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from torchskew.guard.table import known, parse
from torchskew.model.outcomes import Outcome
from torchskew.releases import bridged, eras
from torchskew.releases.breaks import Break, Catalogue, Side, surfaces
from torchskew.releases.measured import RELEASES

ALIASES = {"dcp": "checkpoint", "extensions": "extension", "mesh": "subgroups", "reduce_scatter": "collectives"}
ALWAYS = ("store", "process_group", "nccl")  # every group uses these
FILES = ("checkpoint", "optimizer", "export", "extension")
ONE_RELEASE = ("settings", "imports")  # not a matter of two releases


class Order(StrEnum):
    """Which of two releases may run rank 0 of a mixed group."""

    ANY = "any"
    NEW_HOSTS = "new hosts"
    OLD_HOSTS = "old hosts"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One step of a rolling upgrade. order: who may host while both run. breaks: what a mixed group then meets."""

    old: str
    new: str
    order: Order
    breaks: tuple[Break, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked. uses: surfaces that the job uses; () means all."""

    old: str
    new: str
    uses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The answer. direct: the upgrade in one hop. way: hops of a rolling upgrade that meets nothing; () where none.

    border: where every rolling way ends, as two neighbouring releases. at_a_bridge: where only a bridge makes the
    upgrade a rolling one, what is not known to be right there; else None. forward, back: breaks of files that the old
    release wrote and the new one reads, and the other way. silent: changes without an error. gaps: what is assumed
    rather than measured.
    """

    question: Question
    direct: Hop
    way: tuple[Hop, ...]
    border: tuple[str, str] | None
    at_a_bridge: tuple[str, ...] | None
    forward: tuple[Break, ...]
    back: tuple[Break, ...]
    silent: tuple[Break, ...]
    guard_refuses: bool
    gaps: tuple[str, ...]

    @property
    def conditional(self) -> bool:
        """Nobody said what the job uses: a mixed group forms, and breaks only where the job uses what breaks."""
        return not self.way and not self.question.uses and self.direct.order is not Order.NONE


def surface_names(catalogue: Catalogue) -> tuple[str, ...]:
    """What `uses` may name."""
    every = [name for name in surfaces(catalogue.breaks) if name not in (*ALWAYS, *ONE_RELEASE)]
    return tuple(sorted({*every, *ALIASES}))


def advise(question: Question, catalogue: Catalogue) -> Advice:
    """Everything that the facts say about an upgrade. Both releases are known to `eras`."""
    old, new = question.old, question.new
    used = _used(question, catalogue)
    direct = _hop(old, new, used)
    way = _way(old, new, used)
    files = [entry for entry in used if set(entry.surfaces) & set(FILES)]
    return Advice(
        question=question,
        direct=direct,
        way=way,
        border=None if way else _border(old, new, used),
        at_a_bridge=_at_a_bridge(direct, way),
        forward=tuple(_unreadable(files, writer=old, reader=new)),
        back=tuple(_unreadable(files, writer=new, reader=old)),
        silent=tuple(entry for entry in used if entry.silent and _changes(entry, old, new)),
        guard_refuses=not _compatible(new, old) and not _compatible(old, new),
        gaps=tuple(_gaps(old, new)),
    )


def _used(question: Question, catalogue: Catalogue) -> tuple[Break, ...]:
    """The breaks of two releases that touch what the job uses."""
    wanted = {ALIASES.get(name, name) for name in question.uses}
    if wanted & {"checkpoint"}:
        wanted |= {"optimizer", "checkpoint_group"}
    return tuple(
        entry
        for entry in catalogue.breaks
        if not set(entry.surfaces) & set(ONE_RELEASE) and (not wanted or set(entry.surfaces) & (wanted | set(ALWAYS)))
    )


def _hop(old: str, new: str, used: Iterable[Break]) -> Hop:
    """What a mixed group of two releases meets, in the order of hosts that works best."""
    order = _order(old, new)
    hosted_by_new, hosted_by_old = (Side(new), Side(old)), (Side(old), Side(new))
    ways = {Order.NEW_HOSTS: (hosted_by_new,), Order.OLD_HOSTS: (hosted_by_old,)}.get(
        order, (hosted_by_new, hosted_by_old)
    )
    met = [
        entry
        for entry in used
        if not set(entry.surfaces) & set(FILES)
        and not entry.silent
        and any(entry.between(*way) for way in ways)
        and (order is Order.NONE or not set(entry.surfaces) & set(ALWAYS) or _in_the_way(entry, ways))
    ]
    return Hop(old=old, new=new, order=order, breaks=tuple(met))


def _in_the_way(entry: Break, ways: Sequence[tuple[Side, Side]]) -> bool:
    """Whether a break of the group itself shows in every order of hosts that would form."""
    return all(entry.between(*way) for way in ways)


def _order(old: str, new: str) -> Order:
    if parse(old) == parse(new):
        return Order.ANY
    forms = {host: _forms(host, joiner) for host, joiner in ((new, old), (old, new))}
    if all(forms.values()):
        return Order.ANY
    if forms[new]:
        return Order.NEW_HOSTS
    return Order.OLD_HOSTS if forms[old] else Order.NONE


def _forms(host: str, joiner: str) -> bool:
    """Whether a stock group of these two forms."""
    return set(eras.predict(eras.Situation(torch=(host, joiner), scenario="rendezvous_tcp"))) == {Outcome.OK}


def _compatible(host: str, joiner: str) -> bool:
    ranks = [eras.release(each) for each in (host, joiner)]
    return eras.compatible(tuple(each for each in ranks if each is not None))


def _way(old: str, new: str, used: Sequence[Break]) -> tuple[Hop, ...]:
    """The shortest sequence of rolling upgrades in which every mixed group works; () where there is none."""
    steps = _between(old, new)
    ways: dict[str, tuple[Hop, ...]] = {old: ()}
    queue = [old]
    for release in queue:
        for further in steps[steps.index(release) + 1 :]:
            if further not in ways and _works(hop := _hop(release, further, used)):
                ways[further] = (*ways[release], hop)
                queue.append(further)
    return ways.get(new, ())


def _works(hop: Hop) -> bool:
    return hop.order is not Order.NONE and not hop.breaks


def _between(old: str, new: str) -> list[str]:
    """The two releases and the measured ones between them, in the order of the way."""
    low, high = sorted((parse(old) or (), parse(new) or ()))
    names = [name for name in RELEASES if low < (parse(name) or ()) < high]
    return [old, *(names if low == parse(old) else reversed(names)), new]


def _border(old: str, new: str, used: Sequence[Break]) -> tuple[str, str] | None:
    """The first two neighbours on the way that no mixed group gets across."""
    return next((pair for pair in pairwise(_between(old, new)) if not _works(_hop(*pair, used))), None)


def _at_a_bridge(direct: Hop, way: tuple[Hop, ...]) -> tuple[str, ...] | None:
    """What a bridge leaves broken, where stock stores keep the releases apart and a bridge does not."""
    if way or direct.order is not Order.NONE or not bridged.brought_together(direct.old, direct.new):
        return None
    return bridged.uncovered(direct.old, direct.new)


def _unreadable(files: Iterable[Break], *, writer: str, reader: str) -> Iterator[Break]:
    """Breaks between a writer and a reader; what a reader can't read of its own either is no matter of two releases."""
    for entry in files:
        own = entry.between(Side(reader), Side(reader))
        if entry.between(Side(writer), Side(reader)) and not own and not entry.silent:
            yield entry


def _changes(entry: Break, old: str, new: str) -> bool:
    """Whether two releases meet it, in either order, and the old one does not have it already."""
    met = entry.between(Side(old), Side(new)) or entry.between(Side(new), Side(old))
    return met and not entry.between(Side(old), Side(old))


def _gaps(old: str, new: str) -> Iterable[str]:
    for release in dict.fromkeys((old, new)):
        if not known(release):
            yield f"{release} is newer than this table; it is taken to speak as 2.15 does"
        elif release not in RELEASES:
            yield f"{release} was not measured itself; what is said of it follows from the releases around it"
