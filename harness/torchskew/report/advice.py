"""An advice about an upgrade, for a terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torchskew.releases.advice import Advice, Hop, Order
from torchskew.releases.breaks import Break
from torchskew.report.columns import labelled

ORDERS = {
    Order.ANY: "yes, whichever runs rank 0",
    Order.NEW_HOSTS: "only where rank 0 runs {new}",
    Order.OLD_HOSTS: "only where rank 0 runs {old}",
    Order.NONE: "no, whichever runs rank 0",
}


def advice_as_text(advice: Advice, ranks: int) -> str:
    """The answer of `torchskew advise`. ranks: how many nodes the job has."""
    old, new = advice.question.old, advice.question.new
    lines = [f"{old} to {new}" + (f", uses {', '.join(advice.question.uses)}" if advice.question.uses else ""), ""]
    for line in advice_lines(advice, ranks):
        lines.append(labelled(line.name, line.text, indent=0, gutter=11))
        lines += _entries(line.breaks)
    lines.append(f"{'proof':11}{command(advice)}")  # whole, to be copied
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class AdviceLine:
    """One part of an answer: its name, a sentence, and the breaks that it speaks of."""

    name: str
    text: str
    breaks: tuple[Break, ...] = ()


def advice_lines(advice: Advice, ranks: int) -> Iterator[AdviceLine]:
    """The answer in parts. ranks: how many nodes the job has."""
    old, new = advice.question.old, advice.question.new
    yield AdviceLine("one group", ORDERS[advice.direct.order].format(old=old, new=new))
    yield AdviceLine("rolling", _rolling(advice, ranks), advice.direct.breaks)
    if advice.at_a_bridge is not None:
        yield AdviceLine("bridge", _at_a_bridge(advice.at_a_bridge))
    yield AdviceLine("forward", _files(writer=old, reader=new, breaks=advice.forward), advice.forward)
    yield AdviceLine("back", _files(writer=new, reader=old, breaks=advice.back), advice.back)
    silent = "other values, without an error:" if advice.silent else "nothing known changes"
    yield AdviceLine("silently", silent, advice.silent)
    yield AdviceLine("guard", _guard(advice))
    for gap in advice.gaps:
        yield AdviceLine("assumed", f"{gap}. This cell shows it: rendezvous_tcp/{old},{new}/guard-off/venv")


def _entries(breaks: Iterable[Break]) -> Iterator[str]:
    for entry in dict.fromkeys(breaks):
        yield labelled(entry.id, f"{entry.title}. {entry.remedy.now}", indent=11, gutter=10)


def _rolling(advice: Advice, ranks: int) -> str:
    if len(advice.way) == 1:
        return f"works: {_in_words(advice.way[0], ranks)}"
    if advice.way:
        return "works in steps: " + "; then ".join(_in_words(hop, ranks) for hop in advice.way)
    if advice.conditional:
        works = _in_words(advice.direct, ranks)
        return f"works where the job uses none of what follows ({works}); else stop the job to cross it:"
    if advice.direct.order is not Order.NONE and advice.direct.breaks:
        return "a mixed group forms, and then breaks; stop the job, upgrade every node, resume from a checkpoint:"
    if advice.border is None:
        return "nothing to upgrade: both are the same release"
    first, second = advice.border
    stop = "stop the job there, upgrade every node, resume from a checkpoint"
    without = "" if advice.at_a_bridge is None else "without a bridge, "
    return f"stops between {first} and {second}: {without}{stop}"


def _at_a_bridge(uncovered: Sequence[str]) -> str:
    works = "works without a stop for gloo, nodes in any order: until all run one release, ranks meet at a bridge"
    return f"{works} (docs/bridge.md). Not known to be right there: {', '.join(uncovered)}"


def _in_words(hop: Hop, ranks: int) -> str:
    rest = f"the other {ranks - 1} nodes" if ranks > 2 else "the others"
    if hop.order is Order.NEW_HOSTS:
        return f"{hop.old} to {hop.new}, the node of rank 0 first, then {rest} in any order; back: rank 0 last"
    if hop.order is Order.OLD_HOSTS:
        return f"{hop.old} to {hop.new}, the node of rank 0 last"
    return f"{hop.old} to {hop.new}, nodes in any order"


def _files(*, writer: str, reader: str, breaks: Sequence[Break]) -> str:
    if not breaks:
        return f"{reader} reads what {writer} wrote, as far as it was tried"
    return f"{reader} does not read all that {writer} wrote:"


def _guard(advice: Advice) -> str:
    if advice.guard_refuses:
        led = advice.at_a_bridge is not None
        bridge = "; with TORCHSKEW_GUARD=bridge it leads the ranks to a bridge" if led else ""
        return f"refuses such a group on every rank within a second, and names every version{bridge}"
    if advice.direct.order in (Order.NEW_HOSTS, Order.OLD_HOSTS):
        return "admits the order that works, and refuses the other on every rank within a second"
    return "admits such a group"


def command(advice: Advice) -> str:
    """The rehearsal that proves it, with checkpoints of the kind that the job writes."""
    words = ["torchskew rehearse", f"--from {advice.question.old}", f"--to {advice.question.new}"]
    if advice.question.uses:
        distributed = {"dcp", "checkpoint", "optimizer"} & set(advice.question.uses)
        words.append(f"--checkpoint {'dcp' if distributed else 'plain'}")
    if advice.at_a_bridge is not None:
        words.append("--strategy bridged")
    elif not advice.way and not advice.conditional:
        words.append("--strategy stop-the-world")
    elif advice.direct.order is Order.NEW_HOSTS:
        words.append("--strategy host-first")
    return " ".join([*words, "--rollback"])


def advice_as_json(advice: Advice) -> str:
    """The same for a program: one JSON object."""
    return json.dumps({
        "schema": "1.1", "from": advice.question.old, "to": advice.question.new, "uses": list(advice.question.uses),
        "order": advice.direct.order, "rolling": bool(advice.way), "conditional": advice.conditional,
        "way": [{"from": hop.old, "to": hop.new, "order": hop.order} for hop in advice.way],
        "border": list(advice.border) if advice.border else None,
        "bridge": None if advice.at_a_bridge is None else {"not_known_right": list(advice.at_a_bridge)},
        "mixed": _ids(advice.direct.breaks), "forward": _ids(advice.forward), "back": _ids(advice.back),
        "silent": _ids(advice.silent), "guard_refuses": advice.guard_refuses, "gaps": list(advice.gaps),
        "proof": command(advice),
    }, indent=2)  # fmt: skip


def _ids(breaks: Iterable[Break]) -> list[str]:
    return [entry.id for entry in breaks]
