"""[gate] of the declaration: what the command line of `torchskew gate` may leave open."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from torchskew.declaration.declare import check_requirement
from torchskew.declaration.fields import Document, Problems, Table, join, parse
from torchskew.declaration.local import located
from torchskew.errors import ConfigError
from torchskew.model.outcomes import Store, Tier

# What a gate allows a candidate more than a release: parameters of the scenarios that measure.
BOUNDS = ("slower", "larger")
_FIELDS = ("candidate", "package", "against", "baseline", "tier", "store", "runtime", "requires", "snapshots", *BOUNDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateTable:
    """What [gate] says; None or empty where it says nothing. baseline: a path relative to the declaration.

    package: a library that is the candidate, in every environment; a path in it is absolute.
    snapshots: files with state-dict keys, beside the declaration. bounds: shares by name, 0.05 for "5 %".
    """

    candidate: str = ""
    package: str = ""
    against: tuple[str, ...] = ()
    baseline: str = ""
    tier: Tier | None = None
    store: tuple[Store, ...] = ()
    runtime: str | None = None
    requires: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    bounds: Mapping[str, float] = field(default_factory=dict)


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
        store=table.choices("store", Store, Store, ()),
        runtime=table.choice("runtime", str, runtimes, "") or None,
        requires=requires,
        snapshots=table.texts("snapshots", ()),
        bounds=dict(_bounds(table)),
    )
    if problems.texts:
        raise ConfigError(*problems.texts)
    return read


def _bounds(table: Table) -> Iterator[tuple[str, float]]:
    """Each bound that is given, as a share."""
    for name in BOUNDS:
        text = table.get(name, str, "")
        percent = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", text)
        if percent:
            yield name, float(percent[1]) / 100
        elif text:
            table.problems.add(join(table.path, name), f'must be a share like "5 %", got {text!r}.')
