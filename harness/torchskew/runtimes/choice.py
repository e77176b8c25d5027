"""Chooses the runtime of a run, and says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torchskew.errors import ConfigError, MachineError
from torchskew.model.runtimes import AUTO, RUNTIMES, RuntimeRow, provides
from torchskew.model.versions import Version
from torchskew.runtimes import runtime
from torchskew.runtimes.base import Runtime

_NAMED = 3  # versions that a sentence names before it only counts them

# Runtime name -> the versions that a run would use with it, as declared.
Wanted = Mapping[str, Sequence[Version]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The runtime of a run. why: the reason, for the first line of the terminal and every report."""

    runtime: Runtime
    why: str


def silence_here(name: str) -> str | None:
    """Why a runtime can't be used on this machine; None where it answers."""
    return runtime(name).answers()


def choose(
    asked: str, versions: Wanted, decided_by: str = "asked for", silence: Callable[[str], str | None] = silence_here
) -> Chosen:
    """The runtime named by `asked`; for `auto` the first that can provide every version and answers.

    versions: those that a run would use, by runtime (`Declaration.by_runtime`, `for_every`).
    silence: why a runtime can't be used, by its name; None where it answers.
    decided_by: who named the runtime; the reason, unless `auto` decides.

    Raises:
        ConfigError: no runtime can provide every version.
        MachineError: no runtime that could be used answers.
    """
    if asked != AUTO:
        if problem := silence(asked):
            raise MachineError(_silence(RUNTIMES[asked], problem))
        return Chosen(runtime=runtime(asked), why=decided_by)
    lacking = {row.name: [v for v in versions.get(row.name, ()) if not provides(row, v)] for row in RUNTIMES.values()}
    if all(lacking.values()):
        raise ConfigError(_nothing_fits(lacking))
    return _first_answering(lacking, silence)


def for_every(versions: Sequence[Version]) -> Wanted:
    """The same versions for every runtime."""
    return dict.fromkeys(RUNTIMES, versions)


def _first_answering(lacking: Wanted, silence: Callable[[str], str | None]) -> Chosen:
    passed_over: list[str] = []
    problems: list[str] = []
    for row in RUNTIMES.values():
        if lacking[row.name]:
            passed_over.append(_cannot(row.name, lacking[row.name]))
            continue
        problem = silence(row.name)
        if problem is None:
            return Chosen(runtime=runtime(row.name), why="; ".join(passed_over) or f"a {row.engine} answers")
        passed_over.append(f"no {row.engine}: {problem}")
        problems.append(_silence(row, problem))
    unfit = [f"{_cannot(name, versions)}." for name, versions in lacking.items() if versions]
    raise MachineError("\n".join([*problems, *unfit]))


def _silence(row: RuntimeRow, problem: str) -> str:
    return f"{row.name}: no {row.engine} answers: {problem} {row.fix}"


def _cannot(name: str, versions: Sequence[Version]) -> str:
    """`docker can't use here (interpreter)`."""
    shown = [f"{each.name} ({', '.join(source.kind for source in each.sources)})" for each in versions[:_NAMED]]
    more = len(versions) - len(shown)
    return f"{name} can't use {', '.join(shown)}" + (f" and {more} more" if more else "")


def _nothing_fits(lacking: Wanted) -> str:
    whys = "; ".join(_cannot(name, versions) for name, versions in lacking.items())
    # The runtime that loses least; of equals the last, which needs least of the machine.
    best = min(reversed(list(lacking)), key=lambda name: len(lacking[name]))
    left_out = ", ".join(each.name for each in lacking[best])
    return (
        f'no runtime can use every declared version: {whys}. Set runtime = "{best}" in [matrix] and leave out '
        f"{left_out}, or add a source to each version that one runtime can use."
    )
