"""What the guard waits in vain counts against the init's own timeout, whichever way the ranks meet."""

from __future__ import annotations

import datetime as dt
import functools
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torchskew.guard import agents, install
from torchskew.guard.budget import left_of, restorable
from torchskew.guard.errors import Unverified

from tests.guard.stub import Stub
from tests.guard.test_given_store import Store
from tests.guard.waiting import WaitingClock, put_in_place

SLOW = pytest.mark.slow
WHOLE, LEFT = dt.timedelta(seconds=8), dt.timedelta(seconds=5)
WAYS = ["tcp", "agent", "file", "store"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> WaitingClock:
    clock = WaitingClock()
    put_in_place(clock, monkeypatch)
    return clock


@pytest.fixture
def vain(clock: WaitingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every comparison waits for three seconds, and nobody comes."""

    def nobody(*_args: Any) -> None:
        clock.wait(3.0)
        raise Unverified("nobody came")

    for module, name in ((install, "exchange"), (install, "exchange_in"), (agents, "exchange")):
        monkeypatch.setattr(module, name, nobody)


@pytest.fixture
def start(stub: Stub, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """One rank of two begins its init, by the way in which the ranks meet."""

    def init(way: str, timeout: dt.timedelta = WHOLE, rank: int = 0, backend: str | None = "gloo") -> None:
        monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", str(way == "agent"))
        method = f"file://{tmp_path}/init" if way == "file" else where
        more = {"store": Store()} if way == "store" else {"init_method": method}
        install.install()
        stub.dist.init_process_group(backend, timeout=timeout, world_size=2, rank=rank, **more)

    return init


@pytest.mark.usefixtures("vain")
@pytest.mark.parametrize("way", WAYS)
def test_the_stock_init_gets_what_is_left_and_its_group_the_whole(
    stub: Stub, start: Callable[..., None], way: str
) -> None:
    stub.adjustable()
    start(way)
    assert stub.timeouts.pop("init") == LEFT
    assert stub.timeouts == {"group": WHOLE} | ({} if way == "store" else {"store": WHOLE})


@pytest.mark.usefixtures("vain")
@pytest.mark.parametrize("way", WAYS)
def test_before_2_13_the_waits_get_what_is_left_and_the_group_the_whole(
    stub: Stub, start: Callable[..., None], way: str
) -> None:
    stub.with_gloo()
    start(way)
    assert (stub.timeouts["init"], stub.timeouts["group"]) == (WHOLE, WHOLE)
    assert stub.keys.waited == [LEFT]
    assert stub.timeouts["barrier"] == stub.timeouts.get("store", LEFT) == LEFT
    assert stub.keys.values == {"0": b"an address"}


@pytest.mark.usefixtures("vain")
def test_once_the_group_has_formed_nothing_is_cut(stub: Stub, start: Callable[..., None]) -> None:
    stub.with_gloo()
    gloo, barrier, groups = stub.c10d.ProcessGroupGloo, stub.c10d._store_based_barrier, []

    def look(group: Any) -> None:
        """What torch's own code asks of the class while it forms a group."""
        groups.append(group)
        assert stub.c10d.ProcessGroupGloo is not gloo
        assert issubclass(type(group), stub.c10d.ProcessGroupGloo)
        assert isinstance(group, stub.c10d.ProcessGroupGloo)
        assert stub.c10d.ProcessGroupGloo.options == "gloo's own"

    stub.while_forming = look
    start("agent")
    assert (stub.c10d.ProcessGroupGloo, stub.c10d._store_based_barrier) == (gloo, barrier)
    assert type(groups[0]) is gloo
    groups[0].store.wait(["later"], WHOLE)
    assert stub.keys.waited == [LEFT, WHOLE]


@pytest.mark.usefixtures("vain")
def test_what_came_in_front_of_gloo_meanwhile_stays_and_cuts_nothing(stub: Stub, start: Callable[..., None]) -> None:
    stub.with_gloo()

    def put_in_front(_group: Any) -> None:
        cover = stub.c10d.ProcessGroupGloo
        stub.c10d.ProcessGroupGloo = functools.partial(cover)  # type: ignore[attr-defined]

    stub.while_forming = put_in_front
    start("agent")
    stub.c10d.ProcessGroupGloo(stub.keys, 0, 2, timeout=WHOLE)
    assert stub.keys.waited == [LEFT, WHOLE]


@pytest.mark.usefixtures("vain")
def test_where_torch_allows_no_store_in_between_the_group_gets_its_own(stub: Stub, start: Callable[..., None]) -> None:
    stub.with_gloo()
    stub.dist.Store.__init__ = lambda self: self.missing  # type: ignore[attr-defined]
    start("agent")
    assert stub.keys.waited == [WHOLE]


@pytest.mark.usefixtures("vain")
def test_a_backend_that_nobody_has_tried_keeps_its_timeout(stub: Stub, start: Callable[..., None]) -> None:
    stub.adjustable()
    start("tcp", backend="cpu:gloo,xpu:xccl")
    assert stub.timeouts["init"] == WHOLE  # what of it is gloo ends earlier all the same, as before 2.13
    assert restorable("cpu:gloo,cuda:nccl")
    assert restorable(None)
    stub.torch.xpu = types.SimpleNamespace(is_available=lambda: True)  # type: ignore[attr-defined]
    assert not restorable(None)


@pytest.mark.usefixtures("vain")
def test_a_rendezvous_without_init_process_group_gets_what_is_left(stub: Stub, where: str) -> None:
    """RPC's, or that of a reference to init_process_group that was taken before."""
    install.install()
    stub.stock("gloo", where, WHOLE, 2, 0)
    assert stub.timeouts["store"] == LEFT


@pytest.mark.usefixtures("vain", "stub")
def test_a_static_agents_store_gets_what_is_left() -> None:
    seen: list[Any] = []
    handler = types.SimpleNamespace(
        master_addr="127.0.0.1", master_port=1, rank=0, world_size=2, run_id="", timeout=WHOLE
    )
    agents.guarded_static(lambda each: seen.append(each.timeout))(handler)
    assert (seen, handler.timeout) == ([LEFT], WHOLE)


@pytest.mark.usefixtures("vain")
def test_a_group_whose_timeout_can_not_be_restored_goes_on_with_one_line(
    stub: Stub, start: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    stub.adjustable()

    def broken() -> Any:
        raise RuntimeError("no such group")

    stub.c10d._get_default_group = broken  # type: ignore[attr-defined]
    start("tcp")
    assert "torchskew guard, rank 0: the group's timeout is shorter than asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("whole", "spent", "left"), [(8.0, 3.0, 5.0), (8.0, 7.5, 1.0), (8.0, 9.0, 1.0), (0.5, 1.0, 0.5)]
)
def test_a_second_is_left_where_the_timeout_had_one(whole: float, spent: float, left: float) -> None:
    assert left_of(dt.timedelta(seconds=whole), spent) == dt.timedelta(seconds=left)


@SLOW
@pytest.mark.parametrize("meeting", [(way, rank) for way in ("agent", "file", "store") for rank in (0, 1)])
@pytest.mark.parametrize("since_2_13", [True, False])
def test_waiting_in_vain_and_the_stock_init_together_take_the_timeout(  # noqa: PLR0917 - fixtures
    stub: Stub, clock: WaitingClock, start: Callable[..., None], tmp_path: Path, meeting: tuple[str, int],
    since_2_13: bool,
) -> None:  # fmt: skip
    """The real wait of each way; by file it ends early where a stock rank has been there."""
    stub.with_gloo()
    if since_2_13:
        stub.adjustable()
    way, rank = meeting
    (tmp_path / "init").write_bytes(b"a key of a FileStore")
    start(way, dt.timedelta(seconds=4), rank)
    together = clock.waited + stub.keys.waited[0].total_seconds()
    assert 0.6 < clock.waited < 3.0
    assert together == pytest.approx(4.0, abs=0.01)
