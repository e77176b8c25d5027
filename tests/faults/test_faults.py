"""Faults against a scripted target: each is seen to come and to go, and says so when it is not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.faults import FAULTS, unsupported
from harness.runtimes import netns


class Node:
    """A target that does what its script says, and remembers what was done to it."""

    def __init__(self, **script) -> None:
        self.script, self.done = script, []

    def signal(self, name: str) -> None:
        self.done.append(name)

    def ended(self, seconds: float) -> str | None:
        del seconds
        return self.script.get("ended")

    def stands(self, seconds: float) -> str | None:
        del seconds
        return "no step for 1.0 s" if self.script.get("stands", True) else None

    def advances(self, seconds: float) -> str | None:
        del seconds
        return "step 9 was completed" if self.script.get("advances", True) else None

    def restart(self) -> None:
        self.done.append("restart")

    def network(self, command: Sequence[str]) -> str:
        self.done.append(" ".join(command))
        return self.script.get("said", "")

    def crossing(self, size: int, seconds: float, *, outward: bool = False) -> float | None:
        del size, seconds, outward
        return self.script.get("took")


DROPPED = "    pkts      bytes target\n      12      900 DROP  0 -- eth0 *\n"
# fault -> what a target shows while it holds, and once it is healed.
HOLDS = {
    "kill": ({"ended": "SIGKILL"}, {}),
    "pause": ({}, {}),
    "partition": ({"took": None}, {"took": 0.01}),
    "slow": ({"took": 1.5}, {"took": 0.01}),
    "loss": ({"took": 0.5, "said": DROPPED}, {"said": "Chain INPUT\n"}),
    "delay": ({"took": 0.4}, {"took": 0.01}),
}
# What a target shows where the fault never came, and where it never went.
NEVER_CAME = {
    "kill": {"ended": "exit 0"},
    "pause": {"stands": False},
    "partition": {"took": 0.01},
    "slow": {"took": 0.01},
    "loss": {"said": "Chain INPUT\n"},
    "delay": {"took": 0.01},
}
NEVER_WENT = {
    "kill": {"advances": False},
    "pause": {"advances": False},
    "partition": {"took": None},
    "slow": {"took": 1.5},
    "loss": {"said": DROPPED},
    "delay": {"took": 0.4},
}


def test_each_row_of_the_table_is_tried_here() -> None:
    assert set(FAULTS) == set(HOLDS) == set(NEVER_CAME) == set(NEVER_WENT)
    assert all(name == fault.name for name, fault in FAULTS.items())


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_holds_is_observed_and_its_heal_as_well(name: str) -> None:
    during, after = (Node(**script) for script in HOLDS[name])
    FAULTS[name].inject(during)
    assert during.done
    assert FAULTS[name].observed(during, 1.0)
    FAULTS[name].heal(after)
    assert after.done
    assert FAULTS[name].healed(after, 1.0)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_never_came_is_not_observed(name: str) -> None:
    assert FAULTS[name].observed(Node(**NEVER_CAME[name]), 1.0) is None


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_never_went_is_not_healed(name: str) -> None:
    assert FAULTS[name].healed(Node(**NEVER_WENT[name]), 1.0) is None


@pytest.mark.parametrize("name", ["partition", "loss", "slow", "delay"])
def test_what_is_injected_into_a_network_is_taken_out_again(name: str) -> None:
    node = Node()
    FAULTS[name].inject(node)
    added = len(node.done)
    FAULTS[name].heal(node)
    assert len(node.done) == 2 * added


def test_signals_work_everywhere_and_networks_only_where_nodes_have_one() -> None:
    lacking = unsupported("venv")
    assert set(lacking) == {"partition", "slow", "loss", "delay"}
    assert all("no network of their own" in why for why in lacking.values())


def test_a_machine_that_may_not_enter_networks_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netns.os, "geteuid", lambda: 1000)
    assert "needs root" in unsupported("docker")["partition"]


def test_a_machine_without_the_tool_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netns.os, "geteuid", lambda: 0)
    monkeypatch.setattr(netns.shutil, "which", lambda tool: None if tool == "tc" else f"/bin/{tool}")
    assert netns.why_not(["tc", "qdisc"]) == "this machine lacks tc"


def test_a_kernel_that_refuses_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netns.os, "geteuid", lambda: 0)
    monkeypatch.setattr(netns.shutil, "which", lambda tool: f"/bin/{tool}")
    monkeypatch.setattr(netns, "_run", lambda _: (2, "\nError: Specified qdisc kind is unknown.\n"))
    why = unsupported("docker")["delay"]
    assert "Specified qdisc kind is unknown" in why
    assert "sch_netem" in why
