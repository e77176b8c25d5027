"""Tries a cell on this machine until an attempt says something about its versions; every attempt is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tenacity import Retrying, retry_if_result, stop_after_attempt

from torchskew.engine.agents import Agents
from torchskew.engine.attempt import CellAttempt
from torchskew.engine.ports import Ports
from torchskew.model.cells import Cell
from torchskew.model.facts import Attempt
from torchskew.planning.scenario import Scenario

ATTEMPTS = 3


@dataclass(slots=True, kw_only=True)
class Trial:
    """The attempts at one cell. waits: called once an attempt merely waits; skip: case -> why, filled by `run`.

    earlier: attempts that another machine lost; they count like those made here. again: called with each attempt that
    another one follows.
    """

    cell: Cell
    scenario: Scenario
    agents: Agents
    ports: Ports
    seed: int
    waits: Callable[[], None]
    earlier: tuple[Attempt, ...] = ()
    again: Callable[[Attempt], None] = lambda _: None
    skip: dict[str, str] = field(default_factory=dict)
    _kept: CellAttempt | None = None

    def run(self) -> tuple[Attempt, ...]:
        """Every attempt, the earlier ones first; at least one is made here.

        Raises:
            MachineError: no attempt could be made at all (no port is free).
        """
        attempts = list(self.earlier)

        def attempt() -> Attempt:
            attempts.append(self._attempt(len(attempts) + 1))
            return attempts[-1]

        # Only the machine's faults are tried again; a result of the code under test is final.
        retrying = Retrying(
            stop=stop_after_attempt(max(1, ATTEMPTS - len(self.earlier))),
            retry=retry_if_result(lambda done: done.fault is not None),
            before_sleep=lambda state: self.again(state.outcome.result()) if state.outcome else None,
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        retrying(attempt)
        return tuple(attempts)

    def let_go(self) -> None:
        """End the ranks that the last attempt kept alive, where its scenario keeps them."""
        if self._kept is not None:
            self._kept.let_go()
            self._kept = None

    def _attempt(self, number: int) -> Attempt:
        running = CellAttempt(
            cell=self.cell,
            scenario=self.scenario,
            agents=self.agents,
            ports=self.ports,
            seed=self.seed,
            number=number,
            waits=self.waits,
            alone=number == ATTEMPTS,
        )
        self.let_go()
        self._kept = running if self.scenario.place.keep else None
        done = running.run()
        self.skip.update(running.skip)
        return done
