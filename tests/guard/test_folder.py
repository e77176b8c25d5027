"""Ranks that meet by file exchange hellos beside it, and nothing of an earlier init counts."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from torchskew.guard.errors import ProtocolVersionError
from torchskew.guard.roster import pack_roster, roster_of
from torchskew.guard.wire import frame

from tests.guard.ranks import Group, hello_of

SLOW = pytest.mark.slow


@pytest.mark.parametrize(("joiner", "result"), [("2.13.0", dict), ("2.1.2", ProtocolVersionError)])
def test_a_file_rendezvous_is_guarded_through_its_folder(
    group: Group, tmp_path: Any, joiner: str, result: type
) -> None:
    path = str(tmp_path / "init")
    for rank, name in enumerate(("2.6.0", joiner, "2.6.0")):
        group.start(rank, hello_of(rank, name, world=3, method="file"), path)
    assert [type(one) for one in group.join().values()] == [result] * 3
    assert list(tmp_path.iterdir()) == []


def test_files_of_an_earlier_init_never_count(group: Group, tmp_path: Any) -> None:
    """A session, its table and a hello from a crashed init lie there."""
    folder = tmp_path / "init.torchskew"
    folder.mkdir()
    old = roster_of([hello_of(0, "1.7.0"), hello_of(1, "1.7.0")], "era")
    (folder / "session").write_bytes(bytes(16))
    (folder / "table").write_bytes(frame(b"", bytes(16), pack_roster({**old, "heard": ["00" * 16]})))
    name = "ab" * 16
    late = frame(b"", bytes(16) + bytes.fromhex(name), json.dumps(hello_of(1, "1.7.0", method="file")).encode())
    (folder / name).write_bytes(late)
    group.start(1, hello_of(1, "2.13.0", method="file"), str(tmp_path / "init"))
    threading.Event().wait(0.1)
    (folder / name).write_bytes(late)
    group.start(0, hello_of(0, "2.6.0", method="file"), str(tmp_path / "init"))
    tables = group.join()
    assert {one["torch"] for one in tables[1]["groups"]} == {"2.6.0", "2.13.0"}
    assert tables[0] == tables[1]


@SLOW
@pytest.mark.usefixtures("early")
def test_a_stock_rank_on_the_init_file_is_told_long_before_the_deadline(group: Group, tmp_path: Any) -> None:
    group.mode = "strict"
    (tmp_path / "init").write_bytes(b"a key of a FileStore")
    group.start(0, hello_of(0, method="file"), str(tmp_path / "init"))
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
        group.start(rank, hello_of(rank, world=3, method=how), str(tmp_path / "init") * (how == "file"), named=True)
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
        group.start(rank, hello_of(rank, world=3, method="file"), str(tmp_path / "init"), named=True)
    threading.Event().wait(1.4)
    group.start(2, hello_of(2, world=3, method="file"), str(tmp_path / "init"), named=True)
    tables = group.join()
    assert [type(tables[rank]) for rank in range(3)] == [dict] * 3, tables
    assert {one["ranks"] for one in tables[1]["groups"]} == {"0-2"}
    assert list(tmp_path.iterdir()) == []


@SLOW
def test_who_waits_for_a_missing_rank_says_where(group: Group, tmp_path: Any) -> None:
    """Without an address in common, ranks that meet by address and by file can only be told from what both say."""
    group.seconds = 0.6
    group.start(0, hello_of(0, method="file"), str(tmp_path / "init"))
    group.start(1, hello_of(1))
    errors = group.join()
    assert f"rank 1 never said hello at {tmp_path}/init" in str(errors[0])
    assert f"rank 0 never answered at 127.0.0.1:{group.port}: nothing listened" in str(errors[1])
