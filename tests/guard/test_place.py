"""Where a group meets is read as torch reads it."""

from __future__ import annotations

from typing import Any

import pytest
from torchskew.guard.place import locate


@pytest.mark.parametrize(
    ("method", "place"),
    [
        ("tcp://10.0.0.1:2222", ("tcp", "10.0.0.1", 2222, "")),
        ("tcp://[::1]:2222", ("tcp", "::1", 2222, "")),
        ("tcp://host:2222?rank=1&world_size=4", ("tcp", "host", 2222, "")),
        ("file:///share/init", ("file", "master", 3333, "/share/init")),
        (None, ("tcp", "master", 3333, "")),
    ],
)
def test_the_address_is_read_as_torch_reads_it(
    method: str | None, place: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"MASTER_ADDR": "master", "MASTER_PORT": "3333", "RANK": "1", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    given = (-1, -1) if method and "rank=" in method else (4, 1)
    assert locate(method, *given) == (*place, 1, 4)


@pytest.mark.parametrize("method", ["tcp://host", "mpi://", "tcp://host:x", "file://", None])
def test_what_torch_will_complain_of_is_left_to_torch(method: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert locate(method, 2, 0) is None


def test_an_agents_store_on_the_port_moves_the_hello_to_the_spare_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("TORCHSKEW_GUARD_PORT", "4444")
    place = locate("tcp://host:2222", 2, 0)
    assert place
    assert (place.method, place.spares[0]) == ("agent", 4444)
