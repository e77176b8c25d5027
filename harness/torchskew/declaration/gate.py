"""[gate] of the declaration: what the command line of `torchskew gate` may leave open."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from torchskew.declaration.declare import check_requirement
from torchskew.declaration.fields import Document, Problems, Table, parse
from torchskew.declaration.local import located
from torchskew.errors import ConfigError
from torchskew.model.outcomes import Tier

_FIELDS = ("candidate", "package", "against", "baseline", "tier", "runtime", "requires")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateTable:
    """What [gate] says; None or empty where it says nothing. baseline: a path relative to the declaration.

    package: a library that is the candidate, in every environment; a path in it is absolute.
    """

    candidate: str = ""
    package: str = ""
    against: tuple[str, ...] = ()
    baseline: str = ""
    tier: Tier | None = None
    runtime: str | None = None
    requires: tuple[str, ...] = ()


def read_gate(document: Document, runtimes: Iterable[str]) -> GateTable:
    """The table out of a declaration; ConfigError with every problem of it. runtimes: those that it may name."""
    problems = Problems(document.name)
    table = Table(problems, "gate", Table(problems, "", parse(document)).get("gate", dict, {}))
    table.unknown(_FIELDS)
    folder, package = posixpath.dirname(document.path), table.get("package", str, "")
    requires = tuple(located(text, folder) for text in table.texts("requires", ()))
    if package and (problem := check_requirement(package, torch=False)):
        problems.add("gate.package", problem)
    for problem in filter(None, (check_requirement(text, torch=False) for text in requires)):
        problems.add("gate.requires", problem)
    tier = table.choice("tier", str, [tier.value for tier in Tier], "")
    read = GateTable(
        candidate=table.get("candidate", str, ""),
        package=located(package, folder) if package else "",
        against=table.texts("against", ()),
        baseline=table.get("baseline", str, ""),
        tier=Tier(tier) if tier else None,
        runtime=table.choice("runtime", str, runtimes, "") or None,
        requires=requires,
    )
    if problems.texts:
        raise ConfigError(*problems.texts)
    return read
