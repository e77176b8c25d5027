"""The declared plan as pytest items: each cell a test, while the engine runs all of them concurrently underneath."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from torchskew.errors import HarnessError
from torchskew.judging.decide import decide, stale
from torchskew.model.cells import Cell, Plan
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Verdict
from torchskew.model.results import CellResult, Checked, Status
from torchskew.model.runs import Unmatched
from torchskew.planning.plan import plan_of
from torchskew.planning.scenario import Scenario
from torchskew.pytest.group import table
from torchskew.pytest.project import Project
from torchskew.workflows.cell_steps import with_own
from torchskew.workflows.inputs import read_scenarios

BAD = {
    Status.REGRESSION: "regression",
    Status.UNEXPECTED_PASS: "unexpected pass: remove its entry from the expectations",
    Status.FAILS_DIFFERENTLY: "a known failure fails differently",
    Status.EXPIRED: "its expectation has expired",
}


class NotAsExpectedError(Exception):
    """A cell is not what its expectation says; the text is all that a person needs."""


class UnknownError(Exception):
    """The machine kept a cell from running: an error, never a failure of the versions."""


def scenarios_of(project: Project) -> Mapping[str, Scenario]:
    """The scenarios that come with torchskew, and the project's own."""
    return with_own(read_scenarios(), project.declaration).by_name


class Source(Protocol):
    """Where an item gets its cell's result from."""

    def result(self, cell: Cell) -> CellResult:
        """Wait for it."""

    def stop(self) -> None:
        """Nobody asks any more."""


class AllAtOnce:
    """Runs every selected cell concurrently in a thread of its own; items wait for theirs."""

    def __init__(self, project: Project, cells: Sequence[Cell]) -> None:
        """Begin with the first question."""
        self._project, self._cells = project, cells
        self._results: dict[CellId, CellResult] = {}
        self._news = threading.Condition()
        self._error: BaseException | None = None
        self._stopped = False
        self._thread: threading.Thread | None = None

    def result(self, cell: Cell) -> CellResult:
        """Wait for the cell's result; raises what kept the run from going on."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="torchskew cells", daemon=True)
            self._thread.start()
        with self._news:
            # Woken now and then, so that Ctrl-C is heard.
            while cell.id not in self._results and self._error is None:
                self._news.wait(0.2)
            if cell.id in self._results:
                return self._results[cell.id]
        raise UnknownError(f"the run ended before this cell: {self._error}") from self._error

    def stop(self) -> None:
        """Take no more results; closing the project ends the ranks."""
        self._stopped = True

    def _run(self) -> None:
        error: BaseException = HarnessError("the run gave no result for it")
        try:
            for result in self._project.run(self._cells, scenarios_of(self._project)):
                with self._news:
                    self._results[result.cell.id] = result
                    self._news.notify_all()
                if self._stopped:
                    break
        except Exception as problem:  # noqa: BLE001 - every item that waits raises it
            error = problem
        with self._news:
            self._error = error
            self._news.notify_all()


class OneByOne:
    """Runs a cell when its item runs, and first what it needs: for a worker that gets only some of the items."""

    def __init__(self, project: Project, cells: Sequence[Cell]) -> None:
        """Run nothing yet."""
        self._project, self._cells = project, {cell.id: cell for cell in cells}
        self._results: dict[CellId, CellResult] = {}

    def result(self, cell: Cell) -> CellResult:
        """The cell's result, run now unless another cell needed it before."""
        wanted = [self._cells[need] for need in cell.needs if need in self._cells]
        for result in self._project.run([*wanted, cell], scenarios_of(self._project), dict(self._results)):
            self._results[result.cell.id] = result
        return self._results[cell.id]

    def stop(self) -> None:
        """Nothing runs between two items."""


class CellFile(pytest.File):
    """A torchskew.toml: its cells are the tests in it."""

    opened: Callable[[], Project]
    project: Project
    source: Source | None = None

    def collect(self) -> Iterator[CellItem]:
        """Every cell of the plan for this machine's runtime; a stale expectation is an error of the collection."""
        try:
            self.project = self.opened()
            plan = self.project.plan(scenarios_of(self.project))
        except HarnessError as error:
            raise self.CollectError(str(error)) from None
        if problems := stale(self.project.declaration.expectations, plan.cells, plan.runtime):
            raise self.CollectError("\n".join(problems))
        for cell in plan.cells:
            yield CellItem.from_parent(self, name=str(cell.id), cell=cell, plan=plan)


class CellItem(pytest.Item):
    """One cell as a test."""

    def __init__(self, *, cell: Cell, plan: Plan, **more: Any) -> None:
        """Keep the cell; `-k` also finds it by its versions joined with a plus: 2.6.0+2.13.0."""
        super().__init__(**more)
        self.cell, self.plan = cell, plan
        self.extra_keyword_matches.update({"+".join(cell.skew), f"world-{cell.world_size}", f"guard-{cell.guard}"})
        self.extra_keyword_matches.add(f"store-{cell.store}")

    @property
    def file(self) -> CellFile:
        """The declaration it comes from."""
        assert isinstance(self.parent, CellFile)
        return self.parent

    def runtest(self) -> None:
        """Wait for the result and hold it against its expectation."""
        assert self.file.source is not None
        result = self.file.source.result(self.cell)
        checked = _checked(self.file.project, self.plan, result)
        self.user_properties += [("verdict", str(result.verdict)), ("outcomes", ",".join(result.outcomes))]
        self.user_properties += [("seconds", f"{result.seconds:.3f}"), ("status", str(checked.status))]
        _conclude(checked)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The text as it is: a traceback through the plugin helps nobody."""
        if isinstance(excinfo.value, (NotAsExpectedError, UnknownError, HarnessError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the item is from, and the heading above its failure."""
        return self.path, None, f"cell {self.cell.id}"  # as a suffix of the id pytest would rewrite its dots


def _checked(project: Project, plan: Plan, result: CellResult) -> Checked:
    today = dt.datetime.now(dt.UTC).date()
    alone = plan_of([result.cell], plan.runtime, plan.seed)
    expectations = project.declaration.expectations
    return decide(alone, [result], expectations, today=today, unmatched=Unmatched(problems=())).checked[0]


def _conclude(checked: Checked) -> None:
    """Pass, fail, skip or expected failure, in pytest's words."""
    result, entry = checked.result, checked.expectation
    if checked.status is Status.UNKNOWN:
        raise UnknownError(f"not run, the machine's fault: {table(result)}")
    if checked.status in BAD:
        why = f"\nexpected {entry.verdict}: {entry.reason}" if entry else ""
        raise NotAsExpectedError(f"{BAD[checked.status]}\n{table(result)}{why}")
    if checked.status in (Status.KNOWN_FAILURE, Status.KNOWN_FLAKY):
        pytest.xfail(f"{entry.reason if entry else 'known'}: {result.reason}")
    if result.verdict in (Verdict.UNSUPPORTED, Verdict.BLOCKED):
        pytest.skip(f"{result.verdict.lower()}: {result.reason}")


def sources(items: Sequence[pytest.Item], *, worker: bool) -> Mapping[CellFile, Source]:
    """Give the selected cells of each declaration one source of results."""
    cells: dict[CellFile, list[Cell]] = {}
    for item in items:
        if isinstance(item, CellItem):
            cells.setdefault(item.file, []).append(item.cell)
    kind = OneByOne if worker else AllAtOnce
    found: dict[CellFile, Source] = {}
    for file, chosen in cells.items():
        file.source = found[file] = kind(file.project, chosen)
    return found
