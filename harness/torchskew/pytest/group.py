"""People's own tests over mixed versions: a function or script becomes a group's ranks, its outcomes a value."""

from __future__ import annotations

import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchskew.errors import ConfigError
from torchskew.judging.stacks import rank_first
from torchskew.model.cells import Cell, Variant
from torchskew.model.facts import ErrorFacts, RankFacts
from torchskew.model.outcomes import Guard, Json, Kind, Outcome, Verdict
from torchskew.model.results import CellResult
from torchskew.planning.scenario import Report, Scenario, World
from torchskew.pytest.project import Project
from torchskew.report.columns import aligned

# What a rank runs: a function of the test, or the path of a script.
Work = Callable[[Any], Any] | str | Path
Oracle = Callable[[Sequence[Report], World], Mapping[int, str]]
LOG_LINES = 12
# The environment that a launcher would give, then the script as the main module; it makes its own process group.
SCRIPT = """
import importlib, os, sys

def rank(job):
    os.environ.update(
        RANK=str(job.rank), LOCAL_RANK=str(job.rank), WORLD_SIZE=str(job.world_size), LOCAL_WORLD_SIZE="1",
        MASTER_ADDR=job.host, MASTER_PORT=str(job.port),
    )
    if job.guard:
        importlib.import_module("torchskew_guard").install()
    sys.argv = [job.params["path"], *job.params["args"]]
    job.phase("run")
    code = compile(job.params["text"], job.params["path"], "exec")
    try:
        exec(code, {"__name__": "__main__", "__file__": job.params["path"], "__builtins__": __builtins__})
    except SystemExit as end:
        if end.code not in (None, 0):
            raise RuntimeError("the script ended with exit code %r" % (end.code,)) from None
    return {}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How a group runs. env: settings of every rank; rank_env: of one, over it; timeout: of the group, seconds."""

    guard: Guard = Guard.OFF
    env: Mapping[str, str] = field(default_factory=dict)
    rank_env: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    timeout: float = 10.0
    params: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class Rank:
    """What one rank did."""

    facts: RankFacts
    outcome: Outcome

    @property
    def ok(self) -> bool:
        """It reached the end, and what it returned was right."""
        return self.outcome is Outcome.OK

    @property
    def error(self) -> ErrorFacts | None:
        """The exception it ended with: type (qualified name) and text; None when there was none."""
        return self.facts.error

    @property
    def torch(self) -> str | None:
        """What `torch.__version__` said in it."""
        return self.facts.torch

    @property
    def payload(self) -> Mapping[str, Json]:
        """What its function returned."""
        return self.facts.payload

    @property
    def log(self) -> str:
        """What it printed."""
        return self.facts.log

    def __repr__(self) -> str:
        return f"<rank {self.facts.rank} of {self.facts.declared}: {self.outcome}>"


@dataclass(frozen=True, slots=True, repr=False)
class Group:
    """A group that ran: its ranks, its verdict, and assertions whose failure shows every rank."""

    result: CellResult

    @property
    def verdict(self) -> Verdict:
        """The verdict on the group as a whole."""
        return self.result.verdict

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The class of each rank, rank 0 first."""
        return self.result.outcomes

    def rank(self, number: int) -> Rank:
        """One rank."""
        return Rank(self.result.ranks[number], self.result.outcomes[number])

    def right(self) -> bool:
        """True when every rank reached the end and was right; AssertionError otherwise, the report shows each rank."""
        return self._hold("every rank right", [{Outcome.OK}])

    def refused(self) -> bool:
        """True when every rank was refused with an error that names both versions; AssertionError otherwise."""
        return self._hold("refused clearly on every rank", [{Outcome.CLEAR}])

    def right_or_refused(self) -> bool:
        """True when every rank was right, or every rank refused; AssertionError otherwise."""
        return self._hold("right or refused", [{Outcome.OK}, {Outcome.CLEAR}])

    def _hold(self, promise: str, good: Sequence[set[Outcome]]) -> bool:
        if set(self.outcomes) not in good:
            __tracebackhide__ = True
            raise AssertionError(f"not {promise}: {self.result.reason}")
        return True

    def __repr__(self) -> str:
        return f"<group {','.join(self.result.cell.skew)}: {self.verdict}, {'/'.join(self.outcomes)}>"

    def __str__(self) -> str:
        return table(self.result)


def table(result: CellResult) -> str:
    """Every rank of a cell: outcome, how far it got, its error, the end of what the failed ones printed."""
    rows = [("rank", "version", "torch", "outcome", "phase", "seconds", "error")]
    for facts, outcome in zip(result.ranks, result.outcomes, strict=False):
        error = f"{facts.error.type}: {facts.error.headline[:200]}" if facts.error else ""
        error = error or facts.machine or facts.unsupported or (facts.signal or "")
        cells = (str(facts.rank), facts.declared, facts.torch or "-", str(outcome), str(facts.phase))
        rows.append((*cells, f"{facts.seconds:.2f}", error))
    logs = [_log(facts) for facts, out in zip(result.ranks, result.outcomes, strict=False) if out is not Outcome.OK]
    return "\n".join([f"{result.cell.id}: {result.verdict}: {result.reason}", *aligned(rows), *filter(None, logs)])


def _log(facts: RankFacts) -> str:
    """The innermost calls of a rank that hung, or the last lines that another rank printed."""
    if facts.stacks:
        title, lines = "was stopped in", rank_first(facts.stacks).strip().splitlines()[:LOG_LINES]
    else:
        title, lines = "printed at last", facts.log.strip().splitlines()[-LOG_LINES:]
    return "\n".join([f"rank {facts.rank} {title}:", *(f"  {line}" for line in lines)]) if lines else ""


def run_group(
    project: Project,
    versions: Sequence[str],
    work: Callable[[Any], Any] | str | Path,
    how: Conditions,
    judge: Oracle | None,
) -> Group:
    """Run a function of the test, or a script, on ranks of these versions, rank 0 first, and say what happened.

    Raises:
        ConfigError: a version nobody knows, or a function that can't travel.
    """
    names = tuple(versions)
    for name in names:
        project.version(name)
    scenario, params = _from_function(work, judge) if callable(work) else _from_script(Path(work), judge)
    variant = Variant(name="", params={**params, **how.params}, env=how.env, rank_env=how.rank_env)
    cell = Cell(
        scenario=scenario.name,
        skew=names,
        runtime=project.runtime,
        kind=Kind.GROUP if len(names) > 1 else Kind.SOLO,
        variant=variant,
        guard=how.guard,
        timeout=how.timeout,
    )
    (result,) = project.run([cell], {scenario.name: scenario})
    return Group(result)


def nothing_wrong(reports: Sequence[Report], world: World) -> Mapping[int, str]:
    """The oracle of who has none: a rank that reaches its end is right; its own assertions are what fails it."""
    del reports, world
    return {}


def _from_function(function: Callable[[Any], Any], judge: Oracle | None) -> tuple[Scenario, Mapping[str, Json]]:
    """The function's own text travels, so it brings its imports along and closes over nothing."""
    code = getattr(function, "__code__", None)
    name = getattr(function, "__name__", "")
    if code is None or not name.isidentifier():
        raise ConfigError("the rank function must be a plain function (def), because its source is sent to the rank.")
    if code.co_freevars:
        names = ", ".join(code.co_freevars)
        raise ConfigError(
            f"{name} uses {names} of the enclosing function, which is not sent to the rank. Pass values in params."
        )
    text = textwrap.dedent(inspect.getsource(function))
    start = next(index for index, line in enumerate(text.splitlines()) if line.startswith("def "))
    source = "\n".join([*text.splitlines()[start:], "", f"rank = {name}", ""])
    return _scenario(name, source, inspect.getsourcefile(function) or name, judge), {}


def _from_script(path: Path, judge: Oracle | None) -> tuple[Scenario, Mapping[str, Json]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the script {path} can't be read: {error.strerror}.") from None
    params: dict[str, Json] = {"path": path.name, "text": text, "args": []}
    return _scenario(path.stem, SCRIPT, str(path), judge), params


def _scenario(name: str, source: str, path: str, judge: Oracle | None) -> Scenario:
    digest = hashlib.sha256(json.dumps([source, path]).encode()).hexdigest()[:6]
    return Scenario(
        name=f"{name}-{digest}", promise=name, doc=name, source=source, path=path, world=(1, None),
        judge=judge or nothing_wrong,
    )  # fmt: skip
