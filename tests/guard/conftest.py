"""A group of ranks on a port of their own, and a torch of a few lines."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from torchskew.guard import exchange
from torchskew.guard.pace import Pace
from torchskew.guard.table import WIRE_SETTINGS

from tests.guard.ranks import FAR, PATIENCE, Group
from tests.guard.stub import Stub


@pytest.fixture
def group() -> Iterator[Group]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = Group(port)
    yield found
    found.join()
    for thread in threading.enumerate():
        if thread.name == "torchskew-guard":
            thread.join(PATIENCE)


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side's lack of a guard is believed soon, and the deadline is FAR: pace() ties both to one timeout."""

    def pace(_seconds: float, mode: str) -> Pace:
        now = time.monotonic()
        return Pace(now + FAR, now + 0.6, 0.12, now + FAR, mode)

    monkeypatch.setattr(exchange, "pace", pace)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    torch = Stub()
    modules = {"torch": torch.torch, "torch.version": torch.version, "torch.distributed": torch.dist}
    for name, module in {**modules, "torch.distributed.distributed_c10d": torch.c10d}.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("TORCHSKEW_GUARD", "TORCHSKEW_GUARD_POLICY", "TORCHELASTIC_USE_AGENT_STORE", *WIRE_SETTINGS):
        monkeypatch.delenv(name, raising=False)
    finders = list(sys.meta_path)
    yield torch
    sys.meta_path[:] = finders


@pytest.fixture
def where() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    yield address
    for thread in threading.enumerate():
        if thread.name == "torchskew-guard":
            thread.join(4)
