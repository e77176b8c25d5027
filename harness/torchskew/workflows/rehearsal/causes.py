"""Why ranks did not end well: one cause for each distinct error, the root first, its consequences counted; pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from torchskew.judging.stacks import waiting_in
from torchskew.model.facts import RankFacts
from torchskew.model.outcomes import Outcome
from torchskew.workflows.rehearsal.observed import Generation

# A line that names an exception. WeightsUnpickler's is announced by a page of advice.
NAMED = re.compile(r"((\w+\.)*\w*(Error|Exception)|WeightsUnpickler error): ")
# What a rank reports whose peer left: by itself it says nothing about why.
PEER_GONE = re.compile(
    r"closed by peer|reset by peer|closed by remote|broken pipe|connection (was likely )?closed|pair closure"
    r"|connection refused|failed to recv|recvValue failed",
    re.IGNORECASE,
)
NUMBERS = re.compile(r"0x[0-9a-f]+|\d+")
# Longer than any error that a person can use; what is cut is in the logs.
MOST = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One distinct error. ranks: on which it was seen first to last; outcome: their class; consequence: of a peer."""

    text: str
    outcome: Outcome
    ranks: list[int] = field(default_factory=list)
    consequence: bool = False


def core(text: str) -> str:
    """The line of an error that says what went wrong, whole: the exception inside a traceback, else the first line."""
    rows = [row.strip() for row in text.splitlines() if row.strip()]
    named = [row for row in rows[1:] if NAMED.match(row)]
    line = [*named, *rows, "no text"][0]
    return line if len(line) <= MOST else f"{line[:MOST]} … and {len(line) - MOST} more characters"


def ending(facts: RankFacts) -> str:
    """How a rank ended that did not end well: its error, its signal, or where it hung."""
    if facts.prevented is not None:
        return f"the machine failed: {facts.prevented}"
    if facts.error is not None:
        kind, line = facts.error.type.rpartition(".")[2], core(facts.error.text)
        return line if NAMED.match(line) else f"{kind}: {line}"
    if facts.machine is not None:
        return f"the machine failed: {facts.machine}"
    if facts.killed:
        place = waiting_in(facts.stacks)
        return f"it hung{f' at {place}' if place else ''}, and was killed"
    if facts.signal is not None:
        return f"it was ended by {facts.signal}"
    return f"it left without a report, with exit code {facts.exit}"


def causes(facts: Sequence[RankFacts], outcomes: Sequence[Outcome]) -> tuple[Cause, ...]:
    """Every distinct error of a group, the one that came first first; what only reports a lost peer comes last."""
    bad = [(fact, outcome) for fact, outcome in zip(facts, outcomes, strict=False) if outcome is not Outcome.OK]
    bad.sort(key=lambda each: math.inf if each[0].error_after is None else each[0].error_after)
    texts = [ending(fact) for fact, _ in bad]
    of_itself = any(not PEER_GONE.search(text) for text in texts)
    found: dict[str, Cause] = {}
    for text, (fact, outcome) in zip(texts, bad, strict=True):
        lost = of_itself and PEER_GONE.search(text) is not None
        cause = found.setdefault(
            NUMBERS.sub("#", text), Cause(text=text, outcome=outcome, consequence=lost)
        )  # fmt: skip
        cause.ranks.append(fact.rank)
    return tuple(sorted(found.values(), key=lambda cause: cause.consequence))


def root(generation: Generation) -> str | None:
    """The first error of a generation; None where every rank ended well."""
    return next((cause.text for cause in causes(generation.facts, generation.outcomes)), None)


def sentence(facts: Sequence[RankFacts], outcomes: Sequence[Outcome]) -> str:
    """What happened to a group, the root first; empty where every rank ended well."""
    found = causes(facts, outcomes)
    versions = {fact.rank: fact.declared for fact in facts}
    parts = [
        f"{cause.text} ({cause.outcome} on {_where(cause.ranks, versions)})" for cause in found if not cause.consequence
    ]
    lost = sorted(rank for cause in found if cause.consequence for rank in cause.ranks)
    if lost:
        parts.append(f"{_ranks(lost)} then lost a peer")
    return "; ".join(parts)


def _where(ranks: Sequence[int], versions: dict[int, str]) -> str:
    """`ranks 0, 1 on 2.6.0 and rank 3 on 2.13.0`."""
    by_version: dict[str, list[int]] = {}
    for rank in sorted(ranks):
        by_version.setdefault(versions[rank], []).append(rank)
    return " and ".join(f"{_ranks(each)} on {version}" for version, each in by_version.items())


def _ranks(ranks: Sequence[int]) -> str:
    return ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(map(str, ranks))
