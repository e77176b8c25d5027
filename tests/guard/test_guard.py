"""The guard admits or refuses the same on every rank, over a port that takes bytes from anyone."""

from __future__ import annotations

import json
import os
import pickle
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from torchskew.guard import torchskew_guard as guard
from torchskew.guard.torchskew_guard import Place, ProtocolVersionError, decide, exchange, greeting_era, spans, tabulate

BUILD = {"git": "abc", "python": "3.11.7", "backend": "gloo", "job": "", "order": "little", "nccl": "", "settings": ""}
SLOW = pytest.mark.slow
# Seconds until a missing rank is given up, where a test shows that nothing waited for that.
FAR = 600.0
# Seconds that a test allows for what must happen at once, on a machine that is busy with other work.
PATIENCE = 60.0


def said(rank: int, torch: str = "2.6.0", world: int = 2, **more: Any) -> dict[str, Any]:
    """A hello as a rank of this release would say it."""
    eras = {kind: guard.era(kind, torch) or "" for kind in guard.TABLE}
    facts = {"rank": rank, "world": world, "pid": 100 + rank, "port": 0, "host": f"node{rank}", "torch": torch,
             "method": "tcp", "serves": " ".join(guard.SERVES[eras["store"]]), "known": int(guard.known(torch)),
             "last": "2.15"}  # fmt: skip
    return {**BUILD, **facts, **eras, **more}


def objections(*hellos: dict[str, Any], policy: str = "era") -> list[dict[str, str]]:
    return decide(tabulate(list(hellos), policy))


def kinds(*hellos: dict[str, Any], policy: str = "era") -> list[str]:
    return [one["kind"] for one in objections(*hellos, policy=policy)]


# -- what a table comes to -----------------------------------------------------------------------------------


def test_releases_of_one_era_are_admitted() -> None:
    assert objections(said(0, "2.6.0+cu124"), said(1, "2.13.0+cpu")) == []


def test_an_era_that_differs_is_named_with_the_release_it_came_with() -> None:
    found = objections(said(0, "2.1.2"), said(1, "2.2.2"))
    assert [(one["era"], one["since"]) for one in found] == [("store", "2.2"), ("gloo", "2.2")]


def test_the_store_has_a_direction() -> None:
    assert objections(said(0, "2.6.0"), said(1, "2.2.2")) == []
    assert [one["era"] for one in objections(said(0, "2.2.2"), said(1, "2.6.0"))] == ["store"]


def test_files_carry_no_store() -> None:
    assert objections(said(0, "2.2.2", method="file"), said(1, "2.6.0", method="file")) == []


def test_where_only_the_direction_fails_the_remedy_is_to_run_rank_0_on_the_newest() -> None:
    table = tabulate([said(0, "2.2.2"), said(1, "2.6.0")], "era")
    error = guard.refusal(table, decide(table), 1)
    assert error.remedy.startswith("run rank 0 on the newest release (2.6.0)")


def test_a_backend_without_gloo_is_not_refused_for_gloos_wire() -> None:
    pair = (said(0, "2.0.1", backend="nccl"), said(1, "2.1.2", backend="nccl"))
    assert {one["era"] for one in objections(*pair)} == {"keys"}


@pytest.mark.parametrize(
    ("policy", "releases", "admitted"),
    [
        ("minor", ("2.6.0", "2.6.1"), True),
        ("minor", ("2.6.0", "2.7.0"), False),
        ("exact", ("2.6.0", "2.6.1"), False),
        ("exact", ("2.6.0+cpu", "2.6.0+cu124"), True),
        ("allow:2.2.2,2.6.0", ("2.2.2", "2.6.0"), True),
        ("allow:2.2.2,2.6.0;2.7.0", ("2.6.0", "2.7.0"), False),
        ("allow:", ("2.7.0", "2.7.0"), True),
    ],
)
def test_a_policy_decides_on_the_mix(policy: str, releases: tuple[str, str], admitted: bool) -> None:
    assert (objections(*(said(rank, name) for rank, name in enumerate(releases)), policy=policy) == []) is admitted


def test_exactly_one_build_means_one_commit_too() -> None:
    assert kinds(said(0), said(1, git="def"), policy="exact") == ["version"]


@pytest.mark.parametrize(
    "odd",
    [
        {"world": 3},
        {"backend": "nccl"},
        {"method": "agent"},
        {"job": "other"},
        {"order": "big"},
        {"rank": 5},
    ],
    ids=lambda odd: next(iter(odd)),
)
def test_ranks_that_are_no_group_are_told(odd: dict[str, Any]) -> None:
    assert "group" in kinds(said(0, job="mine"), {**said(1, job="mine"), **odd})


def test_two_processes_with_one_number_are_told() -> None:
    found = objections(said(0, world=3), said(1, world=3), said(1, world=3, pid=7))
    assert "more than one process says it is rank 1" in found[0]["text"]


def test_settings_that_change_the_wire_must_be_the_same() -> None:
    found = objections(said(0, settings="TORCH_GLOO_LAZY_INIT=1"), said(1))
    assert found == [{"kind": "settings", "text": "settings that change the wire differ: "
                      "rank 0 TORCH_GLOO_LAZY_INIT=1; rank 1 no such setting"}]  # fmt: skip


def test_the_text_names_every_differing_rank_with_version_and_host() -> None:
    hellos = [said(rank, "2.1.2" if rank in (1, 5, 6, 7) else "2.2.2", world=9) for rank in range(9)]
    table = tabulate(hellos, "era")
    text = str(guard.refusal(table, decide(table), 8))
    assert "rank 8" in text.splitlines()[0]
    assert "ranks 1, 5-7: torch 2.1.2 on node1, node5, node6 and more" in text
    assert "Remedy: install the same PyTorch release on every rank." in text


def test_the_error_carries_data_and_survives_a_pickle() -> None:
    table = tabulate([said(0, "2.1.2"), said(1, "2.2.2")], "era")
    error = guard.refusal(table, decide(table), 1)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, RuntimeError)
    assert (str(again), again.kind, again.rank, again.eras) == (str(error), "version", 1, error.eras)
    assert [one["torch"] for one in again.groups] == ["2.1.2", "2.2.2"]


def test_an_emptied_table_admits_what_must_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative proof: the refusal comes from the table and from nothing else."""
    monkeypatch.setattr(guard, "TABLE", dict.fromkeys(guard.TABLE, (((1, 7), "all"),)))
    monkeypatch.setattr(guard, "SERVES", {"1.7": ("1.7",)})
    assert objections(said(0, "2.1.2"), said(1, "2.2.2")) == []


def test_ten_thousand_ranks_of_two_builds_make_a_small_table() -> None:
    hellos = [said(rank, "2.6.0" if rank % 2 else "2.2.2", world=10000) for rank in range(10000)]
    table = tabulate(hellos, "era")
    assert len(guard.pack_table(table)) < 30_000
    assert decide(table)


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([0, 5, 6, 7, 9], "0, 5-7, 9"), ([2, 1, 1], "1-2")]
)
def test_numbers_are_shown_as_spans(numbers: list[int], text: str) -> None:
    assert spans(numbers) == text


# -- bytes from anyone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "era"),
    [
        ("020500000000000000696e69742f0100", "1.7"),
        ("030500000000000000696e69742f0100", "1.9"),
        ("00cef7853c040500", "2.2"),
        ("00cef7853c0d01020304", "2.5"),
        ("00cef7853c07070707", ""),
        ("00cef785", None),
        ("03050000", None),
        ("474554202f", ""),
        ("0306", ""),
    ],
)
def test_a_stock_client_is_known_by_its_first_bytes(first: str, era: str | None) -> None:
    assert greeting_era(bytes.fromhex(first)) == era


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[" * 4000,
        b"{}",
        b"[1]",
        json.dumps({**said(1), "more": 1}).encode(),
        json.dumps({**said(1), "rank": True}).encode(),
        json.dumps({**said(1), "rank": -1}).encode(),
        json.dumps({**said(1), "rank": "1"}).encode(),
        json.dumps({**said(1), "host": "h" * 256}).encode(),
        json.dumps({**said(1), "known": 2}).encode(),
    ],
)
def test_only_exactly_a_hello_is_read_as_one(body: bytes) -> None:
    assert guard.read_hello(body) is None
    assert guard.read_hello(json.dumps(said(1)).encode()) == said(1)


@pytest.mark.parametrize("size", [guard.MOST_HELLO + 1, 2**32 - 1])
def test_an_oversize_frame_is_refused_by_its_length_alone(size: int) -> None:
    with pytest.raises(ValueError, match="too long"):
        guard._unframe(b"", b"", struct.pack("!I", size), guard.MOST_HELLO)


def test_a_table_that_explodes_when_unpacked_is_refused() -> None:
    import zlib

    bomb = zlib.compress(b"[" + b"0," * (8 << 20) + b"0]")
    with pytest.raises(ValueError):  # noqa: PT011 - any ValueError is the contract
        guard.unpack_table(bomb)


# -- the exchange --------------------------------------------------------------------------------------------


class Group:
    """Ranks as threads of this process, each with its own hello."""

    def __init__(self, port: int, seconds: float = FAR) -> None:
        self.port, self.seconds, self.host = port, seconds, "127.0.0.1"
        self.results: dict[int, Any] = {}
        self.ended: dict[int, float] = {}
        self.threads: list[threading.Thread] = []

    def start(self, number: int, hello: dict[str, Any], path: str = "", *, named: bool = False) -> None:
        """named: the environment of a rank that meets by file names the address as well."""
        where = ("file", self.host * named, self.port * named, path) if path else ("tcp", self.host, self.port, "")
        place = Place(*where, hello["rank"], hello["world"])
        arguments = (number, place, {**hello, "port": place.port})
        self.threads.append(threading.Thread(target=self._run, args=arguments, daemon=True))
        self.threads[-1].start()

    def _run(self, number: int, place: Place, hello: dict[str, Any]) -> None:
        try:
            self.results[number] = exchange(place, hello, self.seconds)
            if hello["rank"] == 0 and place.method == "tcp":
                store = guard.bind(place.port)  # the store must get the port right after
                store.listen()
                self.results["store"] = store
        except ProtocolVersionError as error:
            self.results[number] = error
        self.ended[number] = time.monotonic()

    def join(self) -> dict[int, Any]:
        """Every rank's result; no rank may still wait, least of all for the deadline."""
        until = time.monotonic() + PATIENCE
        for thread in self.threads:
            thread.join(until - time.monotonic())
        store = self.results.pop("store", None)
        if store:
            store.close()
        assert [thread for thread in self.threads if thread.is_alive()] == []
        return self.results


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

    def pace(_seconds: float) -> guard.Pace:
        now = time.monotonic()
        return guard.Pace(now + FAR, now + 0.6, 0.12)

    monkeypatch.setattr(guard, "pace", pace)


def test_the_other_sides_lack_of_a_guard_is_believed_within_a_quarter_of_the_timeout() -> None:
    for seconds in (0.5, 8.0, 60.0, 1800.0):
        until = guard.pace(seconds)
        began = until.deadline - seconds
        assert 0 < until.proof + until.stands - began <= min(seconds / 4, 12.1)


def connect(port: int) -> socket.socket:
    """A connection to the hello port as soon as it listens."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            threading.Event().wait(0.005)


def test_every_rank_gets_the_same_table_and_the_store_gets_the_port(group: Group) -> None:
    for rank in range(3):
        group.start(rank, said(rank, "2.6.0" if rank else "2.13.0", world=3))
    tables = list(group.join().values())
    assert len(tables) == 3
    assert all(table == tables[0] for table in tables)


@pytest.mark.parametrize("odd", range(3))
def test_one_odd_rank_at_any_position_is_refused_on_every_rank(group: Group, odd: int) -> None:
    for rank in range(3):
        group.start(rank, said(rank, "2.1.2" if rank == odd else "2.2.2", world=3))
    errors = group.join()
    assert [type(errors[rank]) for rank in range(3)] == [ProtocolVersionError] * 3
    assert all("2.1.2" in str(error) and "2.2.2" in str(error) for error in errors.values())


def test_with_the_check_removed_the_mismatch_goes_through(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative proof: nothing but decide() refuses."""
    monkeypatch.setattr(guard, "decide", lambda table: [])
    for rank, name in enumerate(("2.1.2", "2.2.2")):
        group.start(rank, said(rank, name))
    assert [type(result) for result in group.join().values()] == [dict, dict]


@SLOW
def test_one_rank_without_the_guard_leaves_the_others_no_table(group: Group) -> None:
    """Negative proof: who says no hello is missed."""
    group.seconds = 1.0
    group.start(0, said(0, world=3))
    group.start(1, said(1, world=3))
    errors = group.join()
    assert [errors[rank].kind for rank in (0, 1)] == ["missing", "missing"]
    assert "rank 2 never said hello" in str(errors[1])


def test_a_joiner_waits_for_a_late_host(group: Group) -> None:
    group.start(1, said(1))
    threading.Event().wait(0.2)
    group.start(0, said(0))
    assert [type(result) for result in group.join().values()] == [dict, dict]


@SLOW
def test_a_late_rank_is_waited_for_until_the_deadline_and_then_only_missing(group: Group) -> None:
    group.seconds = 0.8
    began = time.monotonic()
    group.start(0, said(0))
    error = group.join()[0]
    assert (error.kind, group.ended[0] >= began + 0.8) == ("missing", True)
    assert "rank 1 never said hello" in str(error)
    assert "stock" not in str(error)


@SLOW
def test_a_joiner_that_finds_nobody_says_where_it_waited(group: Group) -> None:
    group.seconds = 0.5
    group.start(1, said(1))
    assert f"rank 0 never answered at 127.0.0.1:{group.port}: nobody listened" in str(group.join()[1])


@SLOW
@pytest.mark.parametrize(
    ("first", "release"),
    [("030500000000000000696e69742f0100000000000000", "1.9 to 2.1"), ("00cef7853c0d7f7f0102", "2.5 or later")],
)
@pytest.mark.usefixtures("early")
def test_a_stock_joiner_is_recognised_by_its_bytes_long_before_the_deadline(
    group: Group, first: str, release: str
) -> None:
    group.start(0, said(0))
    with connect(group.port) as stock:
        stock.sendall(bytes.fromhex(first))
        error = group.join()[0]
        stock.settimeout(PATIENCE)
        with pytest.raises(ConnectionResetError):  # held unanswered, and not longer than the host lives
            stock.recv(1)
    assert error.kind == "one-sided"
    assert f"1 of {release}" in str(error)


def test_two_processes_with_one_number_are_refused_without_waiting_for_the_one_that_lacks(group: Group) -> None:
    group.start(0, said(0, world=3))
    group.start(1, said(1, world=3))
    group.start(2, said(1, world=3, pid=999))
    errors = group.join()
    assert [errors[number].kind for number in range(3)] == ["group"] * 3


def test_a_rank_that_connects_again_is_not_taken_for_another(group: Group) -> None:
    group.start(0, said(0, world=3))
    connect(group.port).close()
    lost, nonces = guard._open("127.0.0.1", group.port, guard.HELLO, 5.0)
    lost.sendall(guard._frame(b"", nonces, json.dumps({**said(1, world=3), "port": group.port}).encode()))
    group.start(1, said(1, world=3))
    with lost, pytest.raises(ConnectionResetError):  # the newer one counts
        lost.recv(1)
    group.start(2, said(2, world=3))
    assert [type(result) for result in group.join().values()] == [dict] * 3


@SLOW
def test_a_joiner_at_a_port_that_keeps_silent_ends_at_its_deadline(group: Group) -> None:
    group.seconds = 1.0
    with socket.create_server(("127.0.0.1", group.port)):
        group.start(1, said(1))
        assert "no guard answered" in str(group.join()[1])


def test_a_second_exchange_on_the_same_port_starts_afresh(group: Group) -> None:
    for _ in range(3):
        for rank in range(2):
            group.start(rank, said(rank))
        assert [type(result) for result in group.join().values()] == [dict, dict]
        group.results.clear()


def test_where_the_first_port_is_taken_the_second_carries_the_hello(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other, socket.socket() as agent:
        other.bind(("127.0.0.1", 0))
        monkeypatch.setenv("TORCHSKEW_GUARD_PORT", str(other.getsockname()[1]))
        other.close()
        agent.bind(("0.0.0.0", group.port))
        agent.listen()
        threading.Thread(target=_closing, args=(agent,), daemon=True).start()
        for rank, name in enumerate(("2.1.2", "2.2.2")):
            group.start(rank, said(rank, name))
        errors = group.join()
        assert [errors[rank].kind for rank in range(2)] == ["version", "version"]
        agent.shutdown(socket.SHUT_RDWR)


def _closing(server: socket.socket) -> None:
    """Resets every client, as a legacy store does with bytes it doesn't know."""
    try:
        while True:
            conn = server.accept()[0]
            conn.recv(100)
            guard._reset(conn)
    except OSError:
        return


# -- hostile network -----------------------------------------------------------------------------------------


def _junk(port: int, how: str) -> socket.socket:
    conn = connect(port)
    conn.sendall({
        "http": b"GET / HTTP/1.1\r\n\r\n",
        "half": guard.HELLO[:7],
        "silent": b"",
        "oversize": guard.HELLO + bytes(guard.NONCE) + struct.pack("!I", 2**31) + bytes(3000),
        "garbage": guard.HELLO + bytes(guard.NONCE) + struct.pack("!I", 40) + os.urandom(72),
        "half-store": b"\x00",
    }[how])  # fmt: skip
    return conn


@pytest.mark.parametrize("how", ["http", "half", "silent", "oversize", "garbage", "half-store"])
def test_junk_does_not_disturb_an_honest_handshake(group: Group, how: str) -> None:
    group.start(0, said(0))
    junk = [_junk(group.port, how) for _ in range(20)]
    group.start(1, said(1))
    results = group.join()
    for conn in junk:
        conn.close()
    assert [type(result) for result in results.values()] == [dict, dict]


@SLOW
def test_a_flood_of_a_thousand_connections_neither_stops_the_handshake_nor_is_kept(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard.Host, "pending_limit", 64)
    kept: set[int] = set()
    expire = guard.Host._expire
    monkeypatch.setattr(guard.Host, "_expire", lambda host: (kept.add(len(host.pending)), expire(host)))
    group.start(0, said(0))
    flood = [connect(group.port) for _ in range(1000)]
    group.start(1, said(1))
    results = group.join()
    for conn in flood:
        conn.close()
    assert [type(result) for result in results.values()] == [dict, dict]
    assert 32 < max(kept) <= 64


@SLOW
def test_slow_and_silent_connections_are_dropped_in_time(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard.Host, "pending_seconds", 0.2)
    group.start(0, said(0))
    with connect(group.port) as silent:
        silent.settimeout(PATIENCE)
        with pytest.raises(ConnectionResetError):
            silent.recv(1)
    group.start(1, said(1))
    assert [type(result) for result in group.join().values()] == [dict, dict]


def test_with_a_secret_a_stranger_can_neither_join_nor_have_the_group_refused(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD_SECRET", "ours")
    group.start(0, said(0))
    knock = connect(group.port)
    knock.sendall(bytes.fromhex("030500000000000000696e69742f0100000000000000"))
    until = time.monotonic() + PATIENCE
    conn, nonces = guard._open("127.0.0.1", group.port, guard.HELLO, until)
    conn.sendall(guard._frame(b"guessed", nonces, json.dumps({**said(1, "1.7.0"), "port": group.port}).encode()))
    with pytest.raises(ConnectionResetError):
        conn.recv(1)
    conn.close()
    group.start(1, said(1))
    results = group.join()
    knock.close()
    assert [type(result) for result in results.values()] == [dict, dict]


def test_a_group_on_the_neighbouring_port_is_not_joined(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another job's guard listens where this one's second port would be."""
    group.seconds = 1.0
    monkeypatch.setenv("TORCHSKEW_GUARD_PORT", str(group.port))
    group.start(0, said(0))
    connect(group.port).close()
    place = Place("tcp", "127.0.0.1", group.port + 1, "", 1, 2)
    with pytest.raises(ProtocolVersionError, match="never answered"):
        guard.Joiner(place, {**said(1, "1.7.0"), "port": place.port}, b"").ask(guard.pace(0.4))
    assert group.join()[0].kind == "missing"


# -- the shared folder ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("joiner", "result"), [("2.13.0", dict), ("2.1.2", ProtocolVersionError)])
def test_a_file_rendezvous_is_guarded_through_its_folder(
    group: Group, tmp_path: Any, joiner: str, result: type
) -> None:
    path = str(tmp_path / "init")
    for rank, name in enumerate(("2.6.0", joiner, "2.6.0")):
        group.start(rank, said(rank, name, world=3, method="file"), path)
    assert [type(one) for one in group.join().values()] == [result] * 3
    assert list(tmp_path.iterdir()) == []


def test_files_of_an_earlier_init_never_count(group: Group, tmp_path: Any) -> None:
    """A session, its table and a hello from a crashed init lie there."""
    folder = tmp_path / "init.torchskew"
    folder.mkdir()
    old = tabulate([said(0, "1.7.0"), said(1, "1.7.0")], "era")
    (folder / "session").write_bytes(bytes(16))
    (folder / "table").write_bytes(guard._frame(b"", bytes(16), guard.pack_table({**old, "heard": ["00" * 16]})))
    name = "ab" * 16
    frame = guard._frame(b"", bytes(16) + bytes.fromhex(name), json.dumps(said(1, "1.7.0", method="file")).encode())
    (folder / name).write_bytes(frame)
    group.start(1, said(1, "2.13.0", method="file"), str(tmp_path / "init"))
    threading.Event().wait(0.1)
    (folder / name).write_bytes(frame)
    group.start(0, said(0, "2.6.0", method="file"), str(tmp_path / "init"))
    tables = group.join()
    assert {one["torch"] for one in tables[1]["groups"]} == {"2.6.0", "2.13.0"}
    assert tables[0] == tables[1]


@SLOW
@pytest.mark.usefixtures("early")
def test_a_stock_rank_on_the_init_file_is_told_long_before_the_deadline(group: Group, tmp_path: Any) -> None:
    (tmp_path / "init").write_bytes(b"a key of a FileStore")
    group.start(0, said(0, method="file"), str(tmp_path / "init"))
    error = group.join()[0]
    assert error.kind == "one-sided"
    assert "on the init file" in str(error)


@SLOW
@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("odd", range(3))
@pytest.mark.parametrize(("method", "other"), [("tcp", "file"), ("file", "tcp")])
def test_ranks_that_meet_by_address_and_by_file_are_told_where_their_environment_names_the_address(
    group: Group, tmp_path: Any, odd: int, method: str, other: str
) -> None:
    for rank in range(3):
        how = other if rank == odd else method
        group.start(rank, said(rank, world=3, method=how), str(tmp_path / "init") * (how == "file"), named=True)
    errors = group.join()
    assert [getattr(errors[rank], "kind", errors[rank]) for rank in range(3)] == ["group"] * 3
    assert all("different init methods" in str(error) for error in errors.values())
    assert list(tmp_path.iterdir()) == []


@SLOW
@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("secret", ["", "ours"])
def test_a_late_group_by_file_is_not_confused_by_the_address_in_its_environment(
    group: Group, tmp_path: Any, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 can be found at the address by then, by ranks that are in the folder as well."""
    monkeypatch.setenv("TORCHSKEW_GUARD_SECRET", secret)
    for rank in range(2):
        group.start(rank, said(rank, world=3, method="file"), str(tmp_path / "init"), named=True)
    threading.Event().wait(1.4)
    group.start(2, said(2, world=3, method="file"), str(tmp_path / "init"), named=True)
    tables = group.join()
    assert [type(tables[rank]) for rank in range(3)] == [dict] * 3, tables
    assert {one["ranks"] for one in tables[1]["groups"]} == {"0-2"}
    assert list(tmp_path.iterdir()) == []


@SLOW
def test_who_waits_for_a_missing_rank_says_where(group: Group, tmp_path: Any) -> None:
    """Without an address in common, ranks that meet by address and by file can only be told from what both say."""
    group.seconds = 0.6
    group.start(0, said(0, method="file"), str(tmp_path / "init"))
    group.start(1, said(1))
    errors = group.join()
    assert f"rank 1 never said hello at {tmp_path}/init" in str(errors[0])
    assert f"rank 0 never answered at 127.0.0.1:{group.port}: nobody listened" in str(errors[1])


# -- where a group meets -------------------------------------------------------------------------------------


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
    assert guard.locate(method, *given) == (*place, 1, 4)


@pytest.mark.parametrize("method", ["tcp://host", "mpi://", "tcp://host:x", "file://", None])
def test_what_torch_will_complain_of_is_left_to_torch(method: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert guard.locate(method, 2, 0) is None


def test_an_agents_store_on_the_port_moves_the_hello_to_the_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    place = guard.locate("tcp://host:2222", 2, 0)
    assert place
    assert (place.method, place.second) == ("agent", 2223)


@pytest.mark.parametrize(("call", "result"), [(lambda: guard.check(world_size=1, rank=0), None)])
def test_a_world_of_one_needs_no_check(call: Callable[[], Any], result: None) -> None:
    assert call() is result


def test_off_means_no_word_is_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD", "off")
    assert guard.check(init_method="tcp://127.0.0.1:1", world_size=2, rank=1, timeout=60) is None


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("TORCHSKEW_GUARD", "of", "TORCHSKEW_GUARD must be one of enforce, warn, off, got 'of'."),
        ("TORCHSKEW_GUARD_POLICY", "exakt", "TORCHSKEW_GUARD_POLICY must be one of era, minor, exact, allow:, got"),
        ("TORCHSKEW_GUARD_PORT", "x", "TORCHSKEW_GUARD_PORT must be a port, got 'x'."),
    ],
)
def test_a_misspelt_setting_is_an_error_and_not_a_default(
    name: str, value: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    def start() -> None:
        if name == "TORCHSKEW_GUARD":
            guard.check(init_method="tcp://127.0.0.1:1", world_size=2, rank=0)
        exchange(Place("agent", "127.0.0.1", 1, "", 0, 2), said(0), 1.0)

    with pytest.raises(ValueError, match=text):
        start()


@pytest.mark.parametrize(
    "change", [{"groups": [{}]}, {"groups": "x"}, {"missing": None}, {"knocks": []}, {"world": True}, {"policy": 1}]
)
def test_a_table_of_another_shape_is_no_table(change: dict[str, Any]) -> None:
    right = tabulate([said(0), said(1)], "era")
    assert guard.unpack_table(guard.pack_table(right)) == right
    with pytest.raises(ValueError, match="no table"):
        guard.unpack_table(guard.pack_table({**right, **change}))


def test_with_a_secret_a_stranger_that_looks_learns_the_size_alone(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD_SECRET", "ours")
    group.start(0, said(0))
    connect(group.port).close()
    found = guard.look("127.0.0.1", group.port, 2.0)
    group.start(1, said(1))
    group.join()
    assert (found["what"], found["table"]["world"], found["table"]["groups"]) == ("guard", 2, [])


def test_hellos_travel_over_ipv6_too(group: Group) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    group.host = "::1"
    for rank, name in enumerate(("2.1.2", "2.2.2")):
        group.start(rank, said(rank, name))
    assert [error.kind for error in group.join().values()] == ["version", "version"]
