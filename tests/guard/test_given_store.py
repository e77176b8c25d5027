"""A group that meets through a store that it is given is compared through that store."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from torchskew.guard import exchange, pace
from torchskew.guard.errors import ProtocolVersionError, Unverified
from torchskew.guard.exchange import exchange_in
from torchskew.guard.install import install
from torchskew.guard.pace import Pace

from tests.guard.ranks import FAR, PATIENCE, hello_of
from tests.guard.stub import Stub


class Store:
    """A store as torch has it, for threads of one process; get() of a key that is not there would block."""

    def __init__(self) -> None:
        self.lock, self.values = threading.Lock(), {}  # type: threading.Lock, dict[str, Any]

    def set(self, key: str, value: str) -> None:
        assert type(value) is str  # all that stores up to 2.0 take
        with self.lock:
            self.values[key] = value.encode()

    def get(self, key: str) -> bytes:
        with self.lock:
            return self.values[key]

    def add(self, key: str, amount: int) -> int:
        with self.lock:
            self.values[key] = self.values.get(key, 0) + amount
            return self.values[key]


class Broken(Store):
    """A store whose server is gone."""

    def add(self, key: str, amount: int) -> int:
        raise RuntimeError("Connection reset by peer")


class Parting(Store):
    """A store of rank 0 that ends as soon as it has counted that rank 1 read the roster: not even a reply comes."""

    def __init__(self) -> None:
        super().__init__()
        self.rank_0 = threading.get_ident()
        self.ended = False

    def set(self, key: str, value: str) -> None:
        if key.endswith("/roster"):
            self.rank_0 = threading.get_ident()
        super().set(key, value)

    def add(self, key: str, amount: int) -> int:
        count = super().add(key, amount)
        self.ended = self.ended or (key.endswith("/read") and amount > 0)
        if self.ended and threading.get_ident() != self.rank_0:
            raise RuntimeError("Failed to recv, got 0 bytes. Connection was likely closed.")
        return count


def meet(store: Any, *hellos: dict[str, Any], mode: str = "enforce", seconds: float = FAR) -> list[Any]:
    """One exchange with each rank in a thread; what it got."""
    results: list[Any] = [None] * len(hellos)

    def rank(index: int, hello: dict[str, Any]) -> None:
        try:
            results[index] = exchange_in(store, hello, seconds, mode)
        except (ProtocolVersionError, Unverified, RuntimeError, ValueError) as problem:
            results[index] = problem

    threads = [threading.Thread(target=rank, args=each, daemon=True) for each in enumerate(hellos)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return results


def hello(rank: int, torch: str = "2.6.0", world: int = 2, **more: Any) -> dict[str, Any]:
    return hello_of(rank, torch, world, method="store", **more)


def test_every_rank_gets_the_roster_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rosters = meet(Store(), *[hello(rank, world=3) for rank in range(3)])
    assert [roster["groups"][0]["ranks"] for roster in rosters] == ["0-2"] * 3


def test_a_group_that_can_not_work_is_refused_on_every_rank(stub: Stub) -> None:
    lazy = hello(1, settings="TORCH_GLOO_LAZY_INIT=1")
    assert [error.kind for error in meet(Store(), hello(0), lazy)] == ["settings"] * 2
    assert [error.kind for error in meet(Store(), hello(0), hello(1, "2.1.2"))] == ["version"] * 2
    install()
    store, others = Store(), []  # type: Store, list[Any]
    other = threading.Thread(target=lambda: others.extend(meet(store, hello(1, "2.1.2"), seconds=8.0)), daemon=True)
    other.start()
    with pytest.raises(ProtocolVersionError, match="gloo era differs since 2.2"):
        stub.dist.init_process_group("gloo", store=store, world_size=2, rank=0)
    other.join(PATIENCE)
    assert [error.kind for error in others] == ["version"]
    assert stub.calls == []


def test_a_rank_that_has_the_roster_needs_no_store_any_more() -> None:
    """Rank 0 parts as soon as it sees that all have read; where the store is its own, that is the store's end."""
    for mode in ("enforce", "strict"):
        errors = meet(Parting(), hello(0), hello(1, "2.1.2"), mode=mode)
        assert [getattr(error, "kind", error) for error in errors] == ["version"] * 2
        assert [type(each) for each in meet(Parting(), hello(0), hello(1), mode=mode)] == [dict, dict]


def test_what_an_earlier_init_left_never_counts() -> None:
    store = Store()
    assert [type(each) for each in meet(store, hello(0), hello(1))] == [dict, dict]
    errors = meet(store, hello(0), hello(1, settings="TORCH_GLOO_LAZY_INIT=1"))
    assert [error.kind for error in errors] == ["settings"] * 2
    assert [type(each) for each in meet(store, hello(0), hello(1))] == [dict, dict]


@pytest.mark.parametrize(("mode", "result"), [("enforce", Unverified), ("strict", ProtocolVersionError)])
def test_a_rank_that_leaves_no_hello_is_never_an_accusation(
    mode: str, result: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "MOST_APART", 0.2)

    def soon(_seconds: float, mode: str) -> Pace:
        now = time.monotonic()
        return Pace(now + 0.3, now + 0.1, 0.1, now + PATIENCE, mode)

    monkeypatch.setattr(exchange, "pace", soon)
    results = meet(Store(), hello(0, world=3), hello(1, world=3), mode=mode)
    assert [type(each) for each in results] == [result] * 2
    assert "rank 2 never said hello at the given store" in str(results[0])


@pytest.mark.parametrize("left", ["", "zz", "00", "ff" * 40])
def test_what_no_guard_left_is_an_error_of_the_comparison_only(left: str) -> None:
    store = Store()
    store.set("torchskew/1/1", left)
    store.add("torchskew/1/1/set", 1)
    (result,) = meet(store, hello(0))
    assert isinstance(result, (Unverified, ValueError))


def test_an_init_with_a_store_is_compared_and_a_broken_store_costs_one_line(
    stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    install()
    stub.dist.init_process_group("gloo", store=Broken(), world_size=2, rank=0)
    stub.dist.init_process_group("fake", store=Broken(), world_size=2, rank=0)
    stub.dist.init_process_group("gloo", store=Broken(), world_size=1, rank=0)
    assert [call[0] for call in stub.calls] == ["init"] * 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("torchskew guard, rank 0: RuntimeError: Connection reset by peer. The init goes on")
