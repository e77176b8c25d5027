"""Turns declared checks into cells: one for each check and version, each with the environment that it runs in. Pure."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from torchskew.declaration.local import local
from torchskew.errors import NothingSelectedError
from torchskew.model.cells import Cell, Variant
from torchskew.model.checks import DEFAULT_TAG, Check, Command
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Json, Kind
from torchskew.model.versions import Grants, Version
from torchskew.planning.scenario import Scenario

# What the agent of a version takes besides the checks in it.
_AGENT_BYTES, _AGENT_PROCESSES = 1 << 30, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the checks of one run are. root: folder of the declaration; inputs: digest of each check's files, by name.

    until: no package newer than this instant is taken (ISO 8601, UTC). extra: words appended to every command.
    """

    root: str
    runtime: str
    until: str
    extra: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChecks:
    """Cells in the order of declaration. versions: by the name of the environment; scenarios: by the check's name."""

    cells: tuple[Cell, ...]
    versions: Mapping[str, Version]
    scenarios: Mapping[str, Scenario]


def select(checks: Sequence[Check], names: Iterable[str], tags: Iterable[str]) -> tuple[Check, ...]:
    """The checks that are named (a name may be a pattern), else those that run on one of the tags.

    Raises:
        NothingSelectedError: a name without a match, with the nearest ones; no check runs on any of the tags.
    """
    patterns, wanted = tuple(names), tuple(tags)
    known = [check.name for check in checks]
    problems = [_unmatched(each, known) for each in patterns if not any(fnmatchcase(name, each) for name in known)]
    if problems:
        raise NothingSelectedError(*problems)
    if patterns:
        checks = [check for check in checks if any(fnmatchcase(check.name, each) for each in patterns)]
    if wanted or not patterns:
        tags_of_run = wanted or (DEFAULT_TAG,)
        chosen = tuple(check for check in checks if set(check.run_on) & set(tags_of_run))
        if not chosen:
            has = "; ".join(f"{check.name}: {', '.join(check.run_on)}" for check in checks)
            raise NothingSelectedError(f"no check runs on {' or '.join(tags_of_run)}. The checks run on: {has}.")
        return chosen
    return tuple(checks)


def _unmatched(pattern: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(pattern, known, n=3)
    nearest = f" Near: {', '.join(near)}." if near else ""
    return f"no check is called {pattern!r}.{nearest} Declared: {', '.join(known)}."


def plan_checks(
    checks: Sequence[Check], versions: Mapping[str, Version], scenario: Scenario, place: Place
) -> PlannedChecks:
    """Every check in every version, also where it does not apply: `skip` says why, and its cell is UNSUPPORTED.

    versions: as the runtime gets them. scenario: what runs a command inside a version.
    """
    cells: list[Cell] = []
    needed: dict[str, Version] = dict(versions)
    for check in checks:
        for version in versions.values():
            prepared = _prepared(version, check, place)
            needed[prepared.name] = _granted(needed.get(prepared.name, prepared), prepared, check)
            cells.append(_cell(check, version, prepared.name, place))
    return PlannedChecks(
        cells=tuple(cells),
        versions=needed,
        scenarios={check.name: _scenario(check, scenario) for check in checks},
    )


def skip(check: Check, version: Version) -> str | None:
    """Why a check does not run on a version, or None. A release that is not known yet is no reason."""
    if check.on_versions and version.name not in check.on_versions:
        return f"{check.name} runs on {', '.join(check.on_versions)} only"
    allowed = SpecifierSet(check.on_releases)
    if check.on_releases and version.torch and not allowed.contains(version.torch, prereleases=True):
        return f"{check.name} runs on releases {check.on_releases}, {version.name} is {version.torch}"
    return None


def ordered(
    cells: Sequence[Cell], checks: Sequence[Check], skipped: Mapping[CellId, str], *, stop: bool
) -> tuple[Cell, ...]:
    """The cells with what each waits for. stop: every cell waits for the one before it, so the first failure ends all.

    Without `stop`, a check waits for those before it that have stop_on_fail, in its version.
    """
    stoppers = {check.name for check in checks if check.stop_on_fail}
    done: list[Cell] = []
    for cell in cells:
        run = [each for each in done if each.id not in skipped]
        before = [each.id for each in run if each.skew == cell.skew and each.scenario in stoppers]
        needs = tuple(each.id for each in run[-1:]) if stop else tuple(before)
        done.append(cell if cell.id in skipped else replace(cell, needs=needs))
    return tuple(done)


def requirement_set(texts: Iterable[str]) -> tuple[str, ...]:
    """Requirements as a set: equal sets give equal tuples, whatever their order and spelling."""
    return tuple(sorted({_normalised(text) for text in texts}))


def _normalised(text: str) -> str:
    if local(text):
        return text
    requirement = Requirement(text)
    requirement.name = canonicalize_name(requirement.name)
    requirement.extras = {canonicalize_name(extra) for extra in requirement.extras}
    return str(requirement)


def _prepared(version: Version, check: Check, place: Place) -> Version:
    """The version as the check needs it, under a name that equal needs share."""
    source = version.sources[0]
    installs = source.kind.installed
    before = requirement_set(source.requires)
    every = requirement_set([*source.requires, *(check.requires if installs else ())])
    more = [each for each in every if each not in before]
    name = version.name + (f" + {', '.join(more)}" if more else "") + (" + network" if check.network else "")
    grants = Grants(root=place.root, network=check.network)
    prepared = replace(source, requires=every, until=place.until if installs else None)
    return replace(version, name=name, sources=(prepared, *version.sources[1:]), grants=grants)


def _granted(before: Version, prepared: Version, check: Check) -> Version:
    """What the environment may use is enough for all checks in it at once."""
    had = before.grants
    memory = (had.memory or _AGENT_BYTES) + check.memory
    processes = (had.processes or _AGENT_PROCESSES) + check.processes
    return replace(prepared, grants=replace(prepared.grants, memory=memory, processes=processes))


def _cell(check: Check, version: Version, environment: str, place: Place) -> Cell:
    installs = version.sources[0].kind.installed
    order: dict[str, Json] = {
        "command": _words(_extended(check.command, place.extra)),
        "pre_commands": [_words(each) for each in check.pre_commands],
        "present": [] if installs else [each for each in requirement_set(check.requires) if not local(each)],
        "root": place.root,
        "timeout": check.timeout,
        "memory": check.memory,
        "processes": check.processes,
        "network": check.network,
        "inputs": place.inputs.get(check.name, ""),
    }
    return Cell(
        scenario=check.name,
        skew=(version.name,),
        environments=(environment,),
        runtime=place.runtime,
        kind=Kind.SOLO,
        variant=Variant(name="", params=order, env=check.env, predicted=()),
        timeout=check.timeout,
    )


def _words(command: Command) -> Json:
    return command if isinstance(command, str) else list(command)


def _extended(command: Command, extra: tuple[str, ...]) -> Command:
    """The command with more words at its end; in a shell's text each of them is quoted."""
    if isinstance(command, str):
        return " ".join([command, *(shlex.quote(word) for word in extra)])
    return (*command, *extra)


def _scenario(check: Check, scenario: Scenario) -> Scenario:
    words = check.command if isinstance(check.command, str) else " ".join(check.command)
    return replace(
        scenario,
        name=check.name,
        promise=f"`{words}` ends with exit code 0.",
        works=True,
        applies=SpecifierSet(check.on_releases),
    )
