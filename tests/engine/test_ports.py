"""A leased port is nobody else's: not another thread's, not another process's, and free again afterwards."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest
from torchskew.engine import ports
from torchskew.engine.ports import Ports, bind_exclusively, leasable_ports
from torchskew.errors import MachineError

TAKE = (
    "import sys; from torchskew.engine.ports import bind_exclusively; "
    "sys.exit(0 if bind_exclusively(int(sys.argv[1])) is None else 1)"
)


def test_many_leases_at_once_are_all_different() -> None:
    first, second = Ports(), Ports()
    with ExitStack() as stack:
        taken = [stack.enter_context(source.lease()) for source in (first, second) for _ in range(200)]
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(leasable_ports())


def test_the_port_after_a_leased_one_is_no_other_cells() -> None:
    """Where a cell's own port is taken, its guard uses the next one."""
    with ExitStack() as stack:
        source = Ports()
        taken = {stack.enter_context(source.lease()) for _ in range(50)}
    assert not taken & {port + 1 for port in taken}


def test_another_process_finds_a_leased_port_taken() -> None:
    with Ports().lease() as port:
        assert subprocess.run([sys.executable, "-c", TAKE, str(port)], check=False).returncode == 0
    assert subprocess.run([sys.executable, "-c", TAKE, str(port)], check=False).returncode == 1


def test_a_store_that_shares_its_address_may_listen_on_a_leased_port() -> None:
    with Ports().lease() as port, socket.socket() as store:
        store.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        store.bind(("127.0.0.1", port))
        store.listen()
        assert bind_exclusively(port) is None


def test_a_port_that_somebody_listens_on_is_never_leased(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setattr(ports, "leasable_ports", lambda: range(port, port + 1))
        with pytest.raises(MachineError, match=r"all 1 are in use.*-j"), Ports().lease():
            pass
