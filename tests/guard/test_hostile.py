"""Every peer is hostile until proven: mutated bytes and structures harm nobody.

`python -m tests.guard.hostile` runs the same for longer.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchskew.guard.hello import read_hello
from torchskew.guard.roster import pack_roster, roster_of, unpack_roster
from torchskew.guard.sockets import deliver

from tests.guard import hostile
from tests.guard.ranks import hello_of


@pytest.mark.parametrize("drive", hostile.READ, ids=lambda each: each.__name__)
@settings(max_examples=300, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_whatever_is_read_only_the_documented_errors_come_out(drive: Callable[[Random], None], rng: Random) -> None:
    drive(rng)


@pytest.mark.slow
@pytest.mark.parametrize("drive", hostile.MET, ids=lambda each: each.__name__)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32))
def test_whoever_is_met_honest_ranks_are_unharmed_and_nothing_is_left(
    drive: Callable[[Random], None], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD_SECRET", "")
    drive(Random(seed))


@pytest.mark.parametrize(
    "change",
    [
        {"knocks": {"2.5": "text"}}, {"knocks": {"9.9": 1}}, {"knocks": {"2.5": True}}, {"missing": "x"},
        {"twice": "1-"}, {"outside": "9" * 20}, {"aside": 2}, {"aside": True}, {"where": "a\nb"}, {"policy": "exakt"},
        {"world": -1}, {"more": -1}, {"groups": {}},
    ],
)  # fmt: skip
def test_every_field_of_a_table_is_read_to_the_bottom(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no roster"):
        unpack_roster(pack_roster({**roster_of([hello_of(0), hello_of(1)], "era"), **change}))


@pytest.mark.parametrize(
    "change",
    [
        {"ranks": ""}, {"ranks": "x"}, {"hosts": {}}, {"hosts": {"h": ""}}, {"hosts": {"h": 1}}, {"torch": "\x1b[31m"},
        {"store": "x"}, {"method": "mpi"}, {"order": "middle"}, {"serves": "all"}, {"known": 2}, {"guess": 0},
    ],
)  # fmt: skip
def test_every_field_of_a_build_is_read_to_the_bottom(change: dict[str, Any]) -> None:
    table = roster_of([hello_of(0), hello_of(1)], "era")
    with pytest.raises(ValueError, match="no roster"):
        unpack_roster(pack_roster({**table, "groups": [{**table["groups"][0], **change}]}))


@pytest.mark.parametrize(
    "change", [{"host": "a\nb"}, {"torch": "\x1b[31m"}, {"store": "x"}, {"method": "mpi"}, {"host": "\ud800"}]
)
def test_a_hello_has_no_field_that_can_not_be_shown(change: dict[str, Any]) -> None:
    assert read_hello(json.dumps({**hello_of(1), **change}).encode()) is None


def test_a_connection_that_is_closed_already_is_passed_over_when_all_are_answered() -> None:
    ours, theirs = socket.socketpair()
    closed, other = socket.socketpair()
    closed.close()
    other.close()
    with ours, theirs:
        deliver([(closed, b"x"), (ours, b"the roster")], time.monotonic() + 5.0)
        assert theirs.recv(100) == b"the roster"
