"""Several faults at once: a kill last, everything that was begun healed, one restart, evidence of each."""

from __future__ import annotations

import pytest
from torchskew.errors import MachineError
from torchskew.faults import FAULTS, fault, parts
from torchskew.faults.together import Together

from tests.faults.test_faults import HOLDS, Node


class Log:
    """A fault that writes down what is done with it."""

    def __init__(self, name: str, log: list[str], *, broken: str = "", shows: bool = True) -> None:
        self.name, self.log, self.broken, self.shows = name, log, broken, shows

    def _do(self, what: str) -> None:
        self.log.append(f"{what} {self.name}")
        if self.broken == what:
            raise MachineError(f"{self.name} can't {what}")

    def inject(self, target) -> None:
        del target
        self._do("inject")

    def heal(self, target) -> None:
        del target
        self._do("heal")

    def observed(self, target, lasts: float) -> str | None:
        del target, lasts
        return "came" if self.shows else None

    def healed(self, target, seconds: float) -> str | None:
        del target, seconds
        return "went" if self.shows else None


def test_a_kill_comes_last_and_the_job_starts_again_once_when_everything_else_is_healed() -> None:
    log: list[str] = []
    several = Together([(Log(name, log), Node()) for name in ("kill", "pause", "kill", "loss")])
    several.inject()
    several.heal()
    assert log == [
        "inject pause", "inject loss", "inject kill", "inject kill", "heal pause", "heal loss", "heal kill",
    ]  # fmt: skip


def test_what_was_begun_is_healed_and_nothing_else_where_an_injection_fails() -> None:
    log: list[str] = []
    several = Together([
        (Log("pause", log), Node()), (Log("loss", log, broken="inject"), Node()), (Log("kill", log), Node())
    ])  # fmt: skip
    with pytest.raises(MachineError, match="loss can't inject"):
        several.inject()
    several.heal()
    assert log == ["inject pause", "inject loss", "heal pause", "heal loss"]


def test_a_heal_that_fails_does_not_keep_the_others_from_theirs() -> None:
    log: list[str] = []
    several = Together([(Log("pause", log, broken="heal"), Node()), (Log("loss", log), Node())])
    several.inject()
    with pytest.raises(MachineError, match="pause can't heal"):
        several.heal()
    assert log[-1] == "heal loss"


def test_each_has_to_be_seen_to_come_and_to_go() -> None:
    seen, unseen = Log("pause", []), Log("loss", [], shows=False)
    both = Together([(seen, Node()), (Log("loss", []), Node())])
    assert both.observed(1.0) == "pause: came; loss: came"
    assert both.healed(1.0) == "pause: went; loss: went"
    assert Together([(seen, Node()), (unseen, Node())]).observed(1.0) is None
    assert Together([(seen, Node()), (unseen, Node())]).healed(1.0) is None


@pytest.mark.parametrize("name", FAULTS)
def test_one_fault_alone_is_as_it_is_without_others(name: str) -> None:
    during, after = (Node(**script) for script in HOLDS[name])
    alone = Together([(fault(name), during)])
    assert alone.observed(1.0) == fault(name).observed(during, 1.0)
    assert Together([(fault(name), after)]).healed(1.0) == fault(name).healed(after, 1.0)


def test_parts_of_a_name() -> None:
    assert parts("pause+kill") == ("pause", "kill")
    assert parts("pause") == ("pause",)
