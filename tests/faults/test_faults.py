"""Faults against a scripted target: each is seen to come and to go, and says so when it is not."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

import pytest
from torchskew.faults import FAULTS, delay, fault, slow, unsupported
from torchskew.faults.base import INTERFACE
from torchskew.runtimes.docker import netns

from tests.patience import PATIENCE


class Node:
    """A target that does what its script says, and remembers what was done to it."""

    def __init__(self, **script) -> None:
        self.script, self.done = script, []

    def signal(self, name: str) -> None:
        self.done.append(name)

    def ended(self, seconds: float) -> str | None:
        del seconds
        return self.script.get("ended")

    def stalls(self, seconds: float) -> str | None:
        del seconds
        return "no step for 1.0 s" if self.script.get("stalls", True) else None

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
    "pause": {"stalls": False},
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
    assert all(name == row.name == fault(name).name for name, row in FAULTS.items())


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_holds_is_observed_and_its_heal_as_well(name: str) -> None:
    during, after = (Node(**script) for script in HOLDS[name])
    fault(name).inject(during)
    assert during.done
    assert fault(name).observed(during, 1.0)
    fault(name).heal(after)
    assert after.done
    assert fault(name).healed(after, 1.0)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_never_came_is_not_observed(name: str) -> None:
    assert fault(name).observed(Node(**NEVER_CAME[name]), 1.0) is None


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_never_went_is_not_healed(name: str) -> None:
    assert fault(name).healed(Node(**NEVER_WENT[name]), 1.0) is None


class Lucky(Node):
    """Through this node's rule two transfers pass before one loses a packet."""

    transfers = 0

    def crossing(self, size: int, seconds: float, *, outward: bool = False) -> float | None:
        del size, seconds, outward
        self.transfers += 1
        return 0.1

    def network(self, command: Sequence[str]) -> str:
        del command
        return DROPPED if self.transfers > 2 else "Chain INPUT\n"


def test_transfers_that_lose_no_packet_by_chance_are_tried_again() -> None:
    node = Lucky()
    assert fault("loss").observed(node, 1.0) == "12 packets were dropped"
    assert node.transfers == 3


@pytest.mark.parametrize("name", ["partition", "loss", "slow", "delay"])
def test_what_is_injected_into_a_network_is_taken_out_again(name: str) -> None:
    node = Node()
    fault(name).inject(node)
    added = len(node.done)
    fault(name).heal(node)
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


# What tc 6.1 said on a kernel 6.18 without sch_netem, with exit code 2; its own mistakes of grammar have exit code 1.
REFUSAL = (2, "Error: Specified qdisc kind is unknown.\n")
KERNEL_SAID = 2


def test_a_delay_that_the_kernel_refuses_is_left_out_with_the_command_and_the_kernels_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    monkeypatch.setattr(netns.os, "geteuid", lambda: 0)
    monkeypatch.setattr(netns.shutil, "which", lambda tool: f"/bin/{tool}")
    monkeypatch.setattr(netns, "_run", lambda command: asked.append(list(command)) or REFUSAL)
    why = fault("delay").available("docker")
    assert why == (
        "this machine's kernel refuses `tc qdisc add dev lo root netem delay 200ms`: "
        "Error: Specified qdisc kind is unknown. (sch_netem)"
    )
    assert asked == [["unshare", "--net", *["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "200ms"]]]


@pytest.mark.parametrize(("tool", "code"), [("tc", 1), ("iptables", 2)])
def test_a_tool_that_does_not_understand_is_not_mistaken_for_a_kernel_that_refuses(
    monkeypatch: pytest.MonkeyPatch, tool: str, code: int
) -> None:
    monkeypatch.setattr(netns.os, "geteuid", lambda: 0)
    monkeypatch.setattr(netns.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(netns, "_run", lambda _: (code, 'What is "x"?\n'))
    assert netns.why_not([tool, "x"]) == f'this machine\'s {tool} does not know `{tool} x`: What is "x"?'


def test_a_kernel_with_netem_offers_the_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netns.os, "geteuid", lambda: 0)
    monkeypatch.setattr(netns.shutil, "which", lambda tool: f"/bin/{tool}")
    monkeypatch.setattr(netns, "_run", lambda _: (0, ""))
    assert fault("delay").available("docker") is None


def test_the_delay_is_put_on_what_the_node_sends_and_taken_from_there() -> None:
    node = Node()
    fault("delay").inject(node)
    fault("delay").heal(node)
    assert node.done == [
        f"tc qdisc add dev {INTERFACE} root netem delay 200ms",
        f"tc qdisc del dev {INTERFACE} root",
    ]


def _said(shape: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """What the real tc makes of a shape, in a network that nobody else sees."""
    command = ["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", *shape]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


needs_tc = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("tc", "unshare"))), reason="needs root, tc and unshare"
)


@needs_tc
@pytest.mark.parametrize("shape", [delay.SHAPE, slow.SHAPE], ids=["delay", "slow"])
def test_the_real_tc_understands_the_shape_and_only_a_kernel_may_refuse_it(shape: Sequence[str]) -> None:
    done = _said(shape)
    assert done.returncode in (0, KERNEL_SAID), done.stderr
    assert done.returncode == 0 or done.stderr.startswith("Error: Specified qdisc kind is unknown"), done.stderr


@needs_tc
@pytest.mark.parametrize(("right", "wrong"), [("200ms", "200parsecs"), ("delay", "dely")])
def test_the_real_tc_tells_a_mistake_in_the_shape_from_a_kernel_that_lacks_it(right: str, wrong: str) -> None:
    done = _said([wrong if word == right else word for word in delay.SHAPE])
    assert done.returncode == 1
    assert wrong in done.stderr or "latency" in done.stderr
