"""Ranks on three hosts with a network between them: real releases over Ray, and what one host can't show."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torchskew.model.versions import Environment

from tests.engine.fleet import hosts as made
from tests.engine.fleet.hosts import Host, ray_on, three_hosts
from tests.patience import PATIENCE

pytest.importorskip("ray")
WHY = made.unavailable()
pytestmark = [
    pytest.mark.torch,
    pytest.mark.slow,
    pytest.mark.skipif(bool(WHY), reason=WHY),
]
LONG, SHORT = PATIENCE / 5, 2.0  # seconds given to a group that is to form, and to one that can't


class Driver:
    """A process on the first host that runs cells of three ranks when it is asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, interface: str = "", **timeouts: float) -> Mapping[str, Mapping[str, Any]]:
        """How the group with each placement ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"interface": interface, "cells": timeouts}) + "\n")
        self._process.stdin.flush()
        answer: Mapping[str, Mapping[str, Any]] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> int:
        """Let it leave the cluster; its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(PATIENCE)


@contextmanager
def driving(hosts: tuple[Host, ...], address: str, python: str) -> Iterator[Driver]:
    words = hosts[0].command(sys.executable, "-m", "tests.engine.fleet.hosts_driver", address, python)
    with subprocess.Popen(
        words, env=hosts[0].environ, cwd=made.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Driver(process)
        finally:
            process.kill()


def test_the_ranks_of_a_group_meet_over_the_network_and_what_is_wrong_with_it_is_judged(
    torch_environment: Environment,
) -> None:
    """One cluster for all of it: to start Ray on three hosts takes far longer than the cells."""
    # Ray's sockets need a short path: pytest's own folder is too long in a worker of xdist.
    with (
        tempfile.TemporaryDirectory(prefix="skew", dir="/tmp") as name,
        three_hosts(folder := Path(name)) as hosts,
        ray_on(hosts, folder) as address,
    ):
        _wait_for_nodes(hosts, folder)
        with driving(hosts, address, torch_environment.handle) as driver:
            healthy = driver.run(together=LONG, spread=LONG)
            assert {name: each["verdict"] for name, each in healthy.items()} == {"together": "PASS", "spread": "PASS"}
            assert len(set(healthy["together"]["hosts"])) == 1
            assert set(healthy["spread"]["hosts"]) == {host.name for host in hosts}

            hosts[2].names_itself("127.0.1.1")  # as some installers write it into /etc/hosts
            misnamed = driver.run(together=LONG, spread=SHORT)
            assert {name: each["verdict"] for name, each in misnamed.items()} == {"together": "PASS", "spread": "FAIL"}
            assert misnamed["spread"]["faults"] == [None]
            assert "remote=[127.0.1.1]" in "".join(misnamed["spread"]["errors"])

            chosen = driver.run("eth7", spread=LONG)  # the name is as wrong as before
            assert chosen["spread"]["verdict"] == "PASS"

            hosts[1].filters(made.ALLOWED)
            filtered = driver.run("eth7", together=LONG, spread=SHORT)
            assert {name: each["verdict"] for name, each in filtered.items()} == {"together": "PASS", "spread": "FAIL"}
            assert filtered["spread"]["faults"] == [None]
            assert driver.end() == 0


def _wait_for_nodes(hosts: tuple[Host, ...], folder: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not all("block forever" in (folder / f"{host.name}.txt").read_text() for host in hosts):
        assert time.monotonic() < until, [(folder / f"{host.name}.txt").read_text()[-2000:] for host in hosts]
        time.sleep(0.1)
