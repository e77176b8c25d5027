"""Several faults at once: a kill last, everything that was begun healed, one restart, evidence of each."""

from __future__ import annotations

import pytest
from torchskew.errors import MachineError
from torchskew.faults import FAULTS, fault, parts
from torchskew.faults.together import SHORTEST, Together, stopped_seconds

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
    several.inject(1.0)
    several.heal()
    assert log == [
        "inject loss", "inject pause", "inject kill", "inject kill", "heal loss", "heal pause", "heal kill",
    ]  # fmt: skip


def test_what_was_begun_is_healed_and_nothing_else_where_an_injection_fails() -> None:
    log: list[str] = []
    several = Together([
        (Log("loss", log), Node()), (Log("pause", log, broken="inject"), Node()), (Log("kill", log), Node())
    ])  # fmt: skip
    with pytest.raises(MachineError, match="pause can't inject"):
        several.inject(1.0)
    several.heal()
    assert log == ["inject loss", "inject pause", "heal loss", "heal pause"]


def test_a_heal_that_fails_does_not_keep_the_others_from_theirs() -> None:
    log: list[str] = []
    several = Together([(Log("loss", log, broken="heal"), Node()), (Log("pause", log), Node())])
    several.inject(1.0)
    with pytest.raises(MachineError, match="loss can't heal"):
        several.heal()
    assert log[-2:] == ["heal loss", "heal pause"]


def test_each_has_to_be_seen_to_come_and_to_go() -> None:
    seen, unseen = Log("pause", []), Log("loss", [], shows=False)
    both = Together([(seen, Node()), (Log("loss", []), Node())])
    assert both.observed(1.0) == "loss: came; pause: came"
    assert both.healed(1.0) == "loss: went; pause: went"
    assert Together([(seen, Node()), (unseen, Node())]).observed(1.0) is None
    assert Together([(seen, Node()), (unseen, Node())]).healed(1.0) is None


class Watched(Log):
    """A fault that writes down for how long it was looked for."""

    def observed(self, target, lasts: float) -> str | None:
        self.log.append(f"look for {self.name} for {lasts}")
        return super().observed(target, lasts)


@pytest.mark.parametrize("hindering", ["loss", "slow", "delay"])
def test_what_a_stopping_fault_would_hide_is_seen_before_that_begins_and_holds_as_long(hindering: str) -> None:
    log: list[str] = []
    both = Together([(Watched("partition", log), Node()), (Watched(hindering, log), Node())])
    both.inject(1.5)
    assert both.observed(1.5) == f"{hindering}: came; partition: came"
    both.heal()
    assert log == [
        f"inject {hindering}", f"look for {hindering} for 1.5", "inject partition", "look for partition for 1.5",
        f"heal {hindering}", "heal partition",
    ]  # fmt: skip


def test_what_was_not_seen_before_a_stopping_fault_is_not_looked_for_behind_it() -> None:
    log: list[str] = []
    both = Together([(Log("partition", []), Node()), (Watched("loss", log, shows=False), Node())])
    both.inject(1.0)
    assert both.observed(1.0) is None
    assert log == ["inject loss", "look for loss for 1.0"]


def test_faults_that_stop_the_job_share_the_time_that_they_are_watched() -> None:
    log: list[str] = []
    several = Together([(Watched(name, log), Node()) for name in ("pause", "partition")])
    several.inject(2.0)
    several.observed(2.0)
    assert log[-2:] == ["look for pause for 1.0", "look for partition for 1.0"]
    assert stopped_seconds(("pause", "partition", "loss"), 2.0) == 2.0
    assert stopped_seconds(("pause",) * 4, 1.0) == 4 * SHORTEST
    assert stopped_seconds(("loss", "kill"), 2.0) == 0.0


@pytest.mark.parametrize("name", FAULTS)
def test_one_fault_alone_is_as_it_is_without_others(name: str) -> None:
    during, after = (Node(**script) for script in HOLDS[name])
    alone = Together([(fault(name), during)])
    assert alone.observed(1.0) == fault(name).observed(during, 1.0)
    assert Together([(fault(name), after)]).healed(1.0) == fault(name).healed(after, 1.0)


def test_parts_of_a_name() -> None:
    assert parts("pause+kill") == ("pause", "kill")
    assert parts("pause") == ("pause",)
