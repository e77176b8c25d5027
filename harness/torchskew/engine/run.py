"""Run: cells go concurrently through warm agents, the ones that will wait first; results come back one by one."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torchskew.engine.agents import Agents, Place, place_of
from torchskew.engine.ports import Ports
from torchskew.engine.trial import Trial
from torchskew.engine.waiting import taken
from torchskew.judging.judge import SharedInputs, judge
from torchskew.model.cells import Cell, Plan
from torchskew.model.facts import Attempt, RankFacts
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import CellResult
from torchskew.model.versions import EnvironmentFailure, Version
from torchskew.planning.plan import lacking
from torchskew.planning.scenario import Scenario
from torchskew.planning.schedule import Schedule, chain_seconds

# Cells that merely wait cost memory, and all their timeouts end in work at about the same time: with more than this
# for a processor, ends overlap so much that a slow exit could look like a hang.
MOST_OPEN = 48 * (os.cpu_count() or 1)
# A forked rank of a CUDA build dirtied 60 MB here, a world of two 120 MB; keep that much times a few free.
FREE_BYTES = 1 << 30
MEMORY_FILE = Path("/proc/meminfo")


def default_jobs() -> int:
    """Cells that work at once: each is mostly system calls and short computations of two processes."""
    return max(4, 3 * (os.cpu_count() or 1))


@dataclass(slots=True, kw_only=True)
class Tally:
    """How far the cells of one engine are, for progress. waiting: cells of which every rank waits for a timeout.

    unrun: those of `done` that took no time here: known before (cached, resumed) or blocked. longest: seconds that
    the slowest chain of cells is predicted to wait. begun: when the first cell could start, by the monotonic clock.
    """

    planned: int
    done: int = 0
    running: int = 0
    waiting: int = 0
    unrun: int = 0
    longest: float = 0.0
    begun: float = 0.0


@dataclass(slots=True, kw_only=True)
class Engine:
    """Runs the cells of a plan that have no result yet.

    versions: as the runtime gets them; jobs: cells that work at once; observe: called when the tally changes.
    """

    plan: Plan
    scenarios: Mapping[str, Scenario]
    versions: Mapping[str, Version]
    agents: Agents
    jobs: int
    observe: Callable[[Tally], None]
    ports: Ports = field(default_factory=Ports)
    _slots: threading.Semaphore = field(init=False)
    _tally: Tally = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _done: queue.SimpleQueue[CellResult | BaseException] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        """Derive the bounds."""
        self._slots = threading.Semaphore(self.jobs)
        self._tally = Tally(planned=len(self.plan.cells))

    def run(self, known: Mapping[CellId, CellResult]) -> Iterator[CellResult]:
        """Yield each new result as it comes; known results (cached, resumed) only unlock what needs them.

        Raises:
            MachineError: the machine can't go on (no port, no daemon); what was yielded is valid.
        """
        schedule = Schedule(self.plan.cells, {cell_id: result.verdict for cell_id, result in known.items()})
        self._tally.done = self._tally.unrun = sum(cell.id in known for cell in self.plan.cells)
        left = [cell for cell in self.plan.cells if cell.id not in known]
        self._warm(left)
        self._tally.longest = max(chain_seconds([cell for cell in left if cell.predicted]).values(), default=0.0)
        self._tally.begun = time.monotonic()
        open_cells = 0
        while True:
            for result in schedule.blocked():
                self._count(done=1, unrun=1)
                yield result
            if schedule.ready and open_cells < MOST_OPEN and self._done.empty():
                # Results that came while this waited for a slot may let a cell start that is more urgent.
                self._slots.acquire()
                if not self._done.empty():
                    self._slots.release()
                    continue
                cell = schedule.pop()
                if self.scenarios[cell.scenario].alone:
                    self._take_all()
                self._begin(cell)
                open_cells += 1
            elif open_cells:
                result = self._ended()
                open_cells -= 1
                schedule.done(result.cell.id, result.verdict)
                yield result
            else:
                return

    def _warm(self, cells: Sequence[Cell]) -> None:
        """Start every agent that these cells need, each with what its scenarios import."""
        imports: dict[str, list[str]] = {}
        for name in dict.fromkeys(cell.scenario for cell in cells):
            imports.setdefault(self.scenarios[name].agent, []).extend(self.scenarios[name].warm)
        places = (place for cell in cells for place in _places(cell, self.scenarios[cell.scenario]))
        self.agents.warm(dict.fromkeys(places), imports)

    def _take_all(self) -> None:
        """Wait until no other cell works and none can start; the slot that is taken already is the first."""
        for _ in range(1, self.jobs):
            self._slots.acquire()

    def _ended(self) -> CellResult:
        result = taken(self._done)
        if isinstance(result, BaseException):
            raise result
        return result

    def _begin(self, cell: Cell) -> None:
        """Start a cell's thread, whose slot is taken, as soon as memory is there."""
        self._await_memory()
        self._count(running=1)
        threading.Thread(target=self._cell_thread, args=(cell,), name=cell.id, daemon=True).start()

    def _await_memory(self) -> None:
        """Hold back while memory is short and other cells will give theirs back."""
        while available_bytes() < FREE_BYTES and self._tally.running + self._tally.waiting > 0:
            time.sleep(0.1)

    def _cell_thread(self, cell: Cell) -> None:
        slot = _Slot(self._slots, self._count, self.jobs if self.scenarios[cell.scenario].alone else 1)
        result: CellResult | BaseException
        try:
            try:
                result = self._run_cell(cell, slot)
            finally:
                slot.free()
                self._count(done=1)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that runs the plan, which waits for it
            result = error
        self._done.put(result)

    def _run_cell(self, cell: Cell, slot: _Slot) -> CellResult:
        scenario = self.scenarios[cell.scenario]
        versions = [self.versions[name] for name in cell.provided]
        if why := lacking(scenario, versions):
            return unsupported(cell, why)
        seed = self.plan.seed
        trial = Trial(cell=cell, scenario=scenario, agents=self.agents, ports=self.ports, seed=seed, waits=slot.wait)
        attempts = trial.run()
        result = judge(cell, scenario, versions, attempts, SharedInputs(seed=seed, skip=trial.skip))
        if result.verdict is Verdict.PASS:
            trial.let_go()
        return result

    def _count(self, *, done: int = 0, unrun: int = 0, running: int = 0, waiting: int = 0) -> None:
        with self._lock:
            self._tally.done += done
            self._tally.unrun += unrun
            self._tally.running += running
            self._tally.waiting += waiting
        self.observe(self._tally)


class _Slot:
    """A cell's share of the machine: given back when it waits, at the latest when it ends. size: slots it has."""

    def __init__(self, slots: threading.Semaphore, count: Callable[..., None], size: int) -> None:
        self._slots, self._count, self._size = slots, count, size
        self._working = True

    def wait(self) -> None:
        """The cell merely waits from now on."""
        if self._working:
            self._working = False
            self._slots.release(self._size)
            self._count(running=-1, waiting=1)

    def free(self) -> None:
        """The cell has ended."""
        if self._working:
            self._slots.release(self._size)
            self._count(running=-1)
        else:
            self._count(waiting=-1)


def _places(cell: Cell, scenario: Scenario) -> list[Place]:
    """The agents a cell needs: its version, and which of that version's ranks this is."""
    names = cell.provided
    return [place_of(scenario, name, names[:rank].count(name)) for rank, name in enumerate(names)]


def unsupported(cell: Cell, why: str) -> CellResult:
    """The result of a cell that does not apply to its version."""
    ranks = tuple(Outcome.UNSUPPORTED for _ in cell.skew)
    return CellResult(cell=cell, verdict=Verdict.UNSUPPORTED, outcomes=ranks, reason=why)


def unprovisioned(cell: Cell, failure: EnvironmentFailure) -> CellResult:
    """The result of a cell whose environment could not be made."""
    why = str(failure)
    facts = tuple(RankFacts(rank=rank, declared=name, machine=why) for rank, name in enumerate(cell.skew))
    outcomes = tuple(Outcome.NOT_RUN for _ in cell.skew)
    attempt = Attempt(number=1, ranks=facts, seconds=0.0, fault=why)
    return CellResult(
        cell=cell, verdict=Verdict.UNKNOWN, outcomes=outcomes, reason=why, attempts=(attempt,), unprovisioned=failure
    )


def available_bytes() -> int:
    """Memory the kernel would give without swapping; no bound where it doesn't say."""
    try:
        text = MEMORY_FILE.read_text()
    except OSError:
        return FREE_BYTES
    line = next((line for line in text.splitlines() if line.startswith("MemAvailable:")), None)
    return int(line.split()[1]) * 1024 if line else FREE_BYTES
