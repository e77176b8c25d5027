"""What a user's function, script or handover becomes: the scenario whose source travels into each version."""

from __future__ import annotations

import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchskew.errors import ConfigError
from torchskew.model.outcomes import Json, Kind
from torchskew.planning.scenario import Report, Scenario, Surroundings, World

Function = Callable[[Any], Any]
Oracle = Callable[[Sequence[Report], World], Mapping[int, str]]
# Each is all of a scenario's source: the module travels with every agent.
_SCRIPT = "import torchskew_program\n\nrank = torchskew_program.{function}\n"
_DISPATCH = """
def rank(job):
    text, name = {texts!r}[job.rank], {names!r}[job.rank]
    scope = {{"__name__": "torchskew_scenario"}}
    exec(compile(text, {path!r}, "exec", dont_inherit=True), scope)
    return scope[name](job)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Travelling:
    """A scenario, and the parameters that its function needs besides the user's."""

    scenario: Scenario
    params: Mapping[str, Json]


def nothing_wrong(reports: Sequence[Report], world: World) -> Mapping[int, str]:
    """The oracle of who has none: a rank that reaches its end is right; its own assertions are what fails it."""
    del reports, world
    return {}


def from_functions(functions: Sequence[Function], judge: Oracle | None, place: Surroundings, kind: Kind) -> Travelling:
    """Functions of a test: one for all ranks, or one for each rank.

    A function's own text travels, at its own lines of its file. It brings its imports along and closes over nothing.

    Raises:
        ConfigError: a function that can't travel.
    """
    texts = [_text(function) for function in functions]
    names = [function.__name__ for function in functions]
    source = f"{texts[0]}\nrank = {names[0]}\n"
    if len(functions) > 1:
        # Each function keeps the lines of its file: all are compiled by themselves.
        source = _DISPATCH.format(texts=texts, names=names, path=inspect.getsourcefile(functions[0]))
    path = inspect.getsourcefile(functions[0]) or names[0]
    return Travelling(scenario=_scenario("-".join(dict.fromkeys(names)), source, path, (judge, place, kind)), params={})


def from_script(path: Path, launcher: str, judge: Oracle | None, place: Surroundings) -> Travelling:
    """A script, run in the rank itself as `python script.py` would, or by the release's own torchrun.

    Raises:
        ConfigError: the script can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the script {path} can't be read: {error.strerror}.") from None
    params: dict[str, Json] = {"path": str(path), "text": text, "args": []}
    source = _SCRIPT.format(function="run_torchrun" if launcher else "run_script")
    scenario = _scenario(path.stem, source, f"{path}.torchskew", (judge, place, Kind.GROUP))
    return Travelling(scenario=scenario, params=params)


def _text(function: Function) -> str:
    """The function's source without its decorators, on the line that it has in its file."""
    code = getattr(function, "__code__", None)
    name = getattr(function, "__name__", "")
    if code is None or not name.isidentifier():
        raise ConfigError("the rank function must be a plain function (def), because its source is sent to the rank.")
    if code.co_freevars:
        names = ", ".join(code.co_freevars)
        raise ConfigError(
            f"{name} uses {names} of the enclosing function, which is not sent to the rank. Pass values in params."
        )
    lines, first = inspect.getsourcelines(function)
    lines = textwrap.dedent("".join(lines)).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("def "))
    # What annotations name is not sent either, so they are not evaluated.
    return "from __future__ import annotations" + "\n" * max(1, first + start - 1) + "\n".join(lines[start:]) + "\n"


def _scenario(name: str, source: str, path: str, rest: tuple[Oracle | None, Surroundings, Kind]) -> Scenario:
    judge, place, kind = rest
    digest = hashlib.sha256(json.dumps([source, path]).encode()).hexdigest()[:6]
    return Scenario(
        name=f"{name}-{digest}", promise=name, doc=name, source=source, path=path, kind=kind, world=(1, None),
        place=place, judge=judge or nothing_wrong,
    )  # fmt: skip
