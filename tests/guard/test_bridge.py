"""TORCHSKEW_GUARD=bridge: who is led to a bridge, who is refused and why, and that no bridge outlives its rank 0."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torchskew.bridge.ask import status
from torchskew.guard import bridge, install
from torchskew.guard.errors import ProtocolVersionError
from torchskew.guard.notes import bridge_note
from torchskew.guard.place import Place
from torchskew.guard.roster import READY, pack_roster, roster_of, unpack_roster
from torchskew.guard.sockets import claim, listens
from torchskew.guard.table import ABOVE

from tests.conftest import ROOT
from tests.guard.ranks import Group, hello_of
from tests.guard.stub import Stub
from tests.patience import PATIENCE, happens


@pytest.fixture(autouse=True)
def no_bridge_left() -> Iterator[None]:
    yield
    bridge.end_bridges()


def results(group: Group, *releases: str, **more: Any) -> list[Any]:
    """What ranks of these releases get, all in bridge mode and ready for one unless more says otherwise of a rank."""
    group.mode = "bridge"
    for rank, torch in enumerate(releases):
        fields = {"bridge": READY, **more.get(f"rank_{rank}", {})}
        group.start(rank, hello_of(rank, torch, world=len(releases), **fields))
    found = group.join()
    return [found[rank] for rank in range(len(releases))]


@pytest.mark.parametrize(
    "releases",
    [
        ("2.1.2", "2.2.2"),
        ("2.2.2", "2.1.2"),
        ("2.2.2", "2.6.0"),
        ("2.13.0", "2.1.2", "2.6.0", "2.2.2"),
        ("2.0.1", "2.1.2"),
        ("2.13.0", "2.0.1"),
        ("1.13.1", "2.0.1"),
        ("2.6.0", "1.13.1", "2.0.1", "2.1.2"),
    ],
)
def test_ranks_whose_stores_can_not_mix_get_a_bridge_at_the_port_of_their_exchange(
    group: Group, capsys: pytest.CaptureFixture[str], releases: tuple[str, ...]
) -> None:
    rosters = results(group, *releases)
    assert [roster["bridge"] for roster in rosters] == [str(group.port)] * len(releases)
    assert status("127.0.0.1", group.port) == 0
    assert "status: " in capsys.readouterr().out
    bridge.end_bridges()
    assert not listens(group.port)


@pytest.mark.parametrize("releases", [("2.6.0", "2.2.2"), ("2.13.0", "2.6.0"), ("2.1.2", "2.1.2"), ("2.0.1", "2.0.1")])
def test_ranks_that_mix_by_themselves_get_no_bridge(group: Group, releases: tuple[str, str]) -> None:
    assert [roster["bridge"] for roster in results(group, *releases)] == ["", ""]
    assert bridge._CHILDREN == []


REFUSED = [
    ({"bridge": ""}, ("2.2.2", "2.6.0"), "no bridge: rank 1: TORCHSKEW_GUARD is not bridge there"),
    ({"bridge": "its backend is nccl"}, ("2.2.2", "2.6.0"), "no bridge: rank 1: its backend is nccl"),
    ({}, ("2.13.0", "1.12.1"), "no bridge: rank 1: torch 1.12 and older don't use one"),
    ({}, ("1.12.1", "2.1.2"), "no bridge: rank 0: torch 1.12 and older don't use one"),
    ({"settings": "TORCH_GLOO_LAZY_INIT=1"}, ("2.2.2", "2.6.0"), "it does not help against this: settings that change"),
    (
        {"guess": "store"},
        ("2.2.2", "1.13.0b1", "2.1.2"),
        "no bridge: rank 1: a build between releases may be too old for one",
    ),
]


@pytest.mark.parametrize(("odd", "releases", "why"), REFUSED)
def test_where_a_bridge_does_not_help_every_rank_is_refused_and_told_why(
    group: Group, odd: dict[str, str], releases: tuple[str, ...], why: str
) -> None:
    errors = results(group, *releases, rank_1=odd)
    assert [type(error) for error in errors] == [ProtocolVersionError] * len(releases)
    assert all(why in str(error) for error in errors)
    assert bridge._CHILDREN == []


def test_workers_of_2_0_under_torchrun_are_not_led_to_a_bridge(group: Group) -> None:
    errors = results(group, "2.2.2", "2.0.1", rank_0={"method": "agent"}, rank_1={"method": "agent"})
    why = "no bridge: it does not help against this: keys era differs since 2.1"
    assert [why in str(error) for error in errors] == [True, True], errors
    assert bridge._CHILDREN == []


def test_rank_0s_policy_is_above_a_bridge(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD_POLICY", "minor")
    errors = results(group, "2.2.2", "2.6.0")
    assert all("no bridge: it does not help against this: rank 0's policy" in str(error) for error in errors)


@pytest.mark.parametrize("broken", ["absent", "no Python", "ends"])
def test_where_rank_0_can_not_start_a_bridge_every_rank_is_refused_and_told_why(
    group: Group, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    if broken == "absent":
        monkeypatch.setattr(bridge.importlib.util, "find_spec", lambda _name: None)  # type: ignore[attr-defined]
    if broken == "no Python":
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
    if broken == "ends":
        monkeypatch.setattr(bridge, "_RUN", "raise SystemExit(3)")
    why = {"absent": "rank 0's Python can't import torchskew.bridge", "no Python": "rank 0 can't start it: ",
           "ends": "rank 0's bridge did not start: its process ended with 3"}[broken]  # fmt: skip
    errors = results(group, "2.2.2", "2.6.0")
    assert all(isinstance(error, ProtocolVersionError) and "no bridge: " + why in str(error) for error in errors)
    assert not listens(group.port)
    assert bridge._CHILDREN == []


def test_a_refusal_says_nothing_of_bridges_where_no_rank_asks_for_one(group: Group) -> None:
    for rank, torch in enumerate(("2.2.2", "2.6.0")):
        group.start(rank, hello_of(rank, torch))
    assert all("bridge" not in str(error) for error in group.join().values())
    assert bridge._CHILDREN == []


ALONE = """
import os, sys, time
from torchskew.guard.bridge import host_bridge
from torchskew.guard.sockets import claim
server = claim(0)
port = host_bridge(server, 300.0)
server.close()
if os.fork() == 0:
    raise SystemExit  # a child of a rank that ends as Python does
os.wait()
print(port, flush=True)
sys.stdin.read(1)
"""


@pytest.mark.parametrize("how", ["killed", "returns"])
def test_a_bridge_ends_with_its_rank_0_however_that_ends_and_not_with_its_children(how: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "harness")}
    with subprocess.Popen(
        [sys.executable, "-c", ALONE], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as rank:
        assert rank.stdout is not None
        assert rank.stdin is not None
        port = int(rank.stdout.readline())
        assert status("127.0.0.1", port) == 0
        if how == "killed":
            rank.send_signal(signal.SIGKILL)
        else:
            rank.stdin.close()
        rank.wait(PATIENCE)
    assert happens(lambda: not listens(port))


@pytest.mark.parametrize("killed", [True, False])
def test_rank_0_names_a_bridge_that_was_killed_under_its_job(killed: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """No release names the store that it lost."""
    with claim(0) as server:
        port = int(bridge.host_bridge(server, PATIENCE))
    process = bridge._CHILDREN[-1][1]
    if killed:
        process.kill()
        process.wait(PATIENCE)
    bridge.end_bridges()
    text = f"the bridge at port {port} of this host has ended before this process, with -9: new groups failed since"
    assert (text in capsys.readouterr().err) is killed


def hello(backend: str = "gloo", method: str = "tcp") -> Any:
    return hello_of(0, "2.6.0", backend=backend, method=method)


def test_a_rank_says_whether_it_can_be_a_bridges_client(stub: Stub) -> None:
    assert [bridge.readiness(hello(), mode, led=True) for mode in ("enforce", "warn", "strict")] == [""] * 3
    assert bridge.readiness(hello(), "bridge", led=True) == READY
    assert bridge.readiness(hello("cpu:gloo"), "bridge", led=True) == READY
    assert bridge.readiness(hello("nccl"), "bridge", led=True) == "its backend is nccl"
    assert bridge.readiness(hello(method="file"), "bridge", led=True) == "it meets by file"
    assert "guard.install()" in bridge.readiness(hello(), "bridge", led=False)
    assert bridge.readiness(hello(""), "bridge", led=True) == READY
    stub.dist.is_nccl_available = lambda: True  # type: ignore[attr-defined]
    assert bridge.readiness(hello(""), "bridge", led=True) == "its backend is not named, and may be NCCL"


def test_the_inits_store_is_a_client_of_the_bridge_and_a_check_alone_leads_nobody(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def exchanged(_place: Place, mine: Any, *_: Any) -> Any:
        said.append(mine["bridge"])
        hellos = [hello_of(0, "2.2.2", bridge=READY), hello_of(1, "2.6.0", bridge=READY)]
        return {**roster_of(hellos, "era"), "bridge": "29501"}

    stores: list[Any] = []
    monkeypatch.setenv("TORCHSKEW_GUARD", "bridge")
    monkeypatch.setattr(install, "exchange", exchanged)
    stub.dist.TCPStore = lambda *where, **more: (where, more)  # type: ignore[attr-defined]
    rendezvous = install.guarded_rendezvous(stub.c10d.rendezvous)
    stub.c10d.rendezvous = lambda *a, **k: stores.extend(rendezvous(*a, **k))  # type: ignore[attr-defined]
    stub.c10d.rendezvous.torchskew_guard = rendezvous  # type: ignore[attr-defined]
    started = install.guarded_init(stub.stock)
    seconds = dt.timedelta(seconds=9)
    with pytest.warns(RuntimeWarning, match="meet at a bridge, port 29501"):
        started("gloo", "tcp://node0:29500", seconds, 2, 1)
    assert stores == [((("node0", 29501, 2, False), {"timeout": seconds}), 1, 2)]
    assert [call[0] for call in stub.calls] == ["init"]  # the stock rendezvous was not asked
    with pytest.warns(RuntimeWarning):
        install.check("gloo", "tcp://node0:29500", 9, 2, 1)
    assert said == [READY, "guard.check() only compares: guard.install() is needed, too"]
    stub.c10d.rendezvous("tcp://node0:29500", 1, 2)
    assert len(stores) == 2  # as RPC meets, and nothing of the check is left
    assert said[2:] == [READY]


def test_a_client_does_without_libuv_where_torch_lacks_it(stub: Stub) -> None:
    def store(*where: Any, **more: Any) -> Any:
        if more.get("use_libuv", True):
            raise RuntimeError("use_libuv was requested but PyTorch was built without libuv support")
        return where

    stub.dist.TCPStore = store  # type: ignore[attr-defined]
    assert bridge.bridge_client(bridge.Crossing("node0", 1, 0, 2), None) == ("node0", 1, 2, False)


def test_a_second_init_ends_the_first_ones_bridge_unless_a_group_may_need_it(stub: Stub) -> None:
    alive = [True]
    stub.dist.is_initialized = lambda: alive[0]  # type: ignore[attr-defined]
    server = claim(0)
    port = int(bridge.host_bridge(server, PATIENCE))
    server.close()
    bridge.end_idle_bridges()
    assert listens(port)
    alive[0] = False
    bridge.end_idle_bridges()
    assert not listens(port)


@pytest.mark.parametrize("value", ["0", "65536", "999999", "²", "no\nline", 29500, None])
def test_a_stranger_can_name_no_bridge_that_is_none(value: Any) -> None:
    roster: dict[str, Any] = {**roster_of([hello_of(0), hello_of(1)], "era"), "bridge": value}
    with pytest.raises(ValueError, match="no roster: bridge"):
        unpack_roster(pack_roster(roster))


def test_a_roster_of_an_earlier_guard_has_no_bridge() -> None:
    roster = {name: each for name, each in roster_of([hello_of(0)], "era").items() if name != "bridge"}
    assert unpack_roster(pack_roster(roster))["bridge"] == ""


def test_a_rank_that_is_not_ready_follows_no_roster() -> None:
    place = Place("tcp", "node0", 29500, "", 1, 2)
    roster: Any = {"bridge": "29501"}
    assert bridge.crossing(place, hello_of(1), roster) is None  # type: ignore[arg-type]
    assert bridge.crossing(place, hello_of(1, bridge=READY), roster) == ("node0", 29501, 1, 2)  # type: ignore[arg-type]


def test_the_note_names_what_stays_broken_between_these_releases_and_nothing_else() -> None:
    roster = roster_of([hello_of(0, "2.2.2"), hello_of(1, "2.6.0")], "era")
    roster["bridge"] = "29500"
    note = bridge_note(roster)
    assert [since for since, what in ABOVE.items() if f"{what} (changed" in note] == [(2, 3), (2, 4), (2, 5), (2, 6)]


def test_a_bridges_process_needs_only_what_every_python_has() -> None:
    """It runs isolated and without site packages."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import torchskew.bridge.hosted; print('torch' in sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code, str(Path(bridge._bridge_folder()))]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout == "False\n"
