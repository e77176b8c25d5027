"""A rank with the guard of 0.1, such as a copy in a repository, and one with this guard are compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchskew.guard.errors import ProtocolVersionError
from torchskew.guard.wire import NONCE, is_marked, marked_nonce

from tests.guard.earlier import Earlier
from tests.guard.ranks import Group, hello_of


@pytest.mark.parametrize(("release", "result"), [("2.6.0", dict), ("2.13.0", dict), ("2.1.2", ProtocolVersionError)])
@pytest.mark.parametrize("meeting", [(rank, method) for rank in (0, 1) for method in ("tcp", "file")])
def test_a_rank_with_the_guard_of_0_1_is_compared(
    group: Group, tmp_path: Path, meeting: tuple[int, str], release: str, result: type
) -> None:
    rank, method = meeting
    path = tmp_path / "init" if method == "file" else None
    other = Earlier(1 - rank, release, group.port, path)
    group.start(rank, hello_of(rank, "2.6.0", method=method), str(path or ""))
    (mine,) = group.join().values()
    assert isinstance(mine, result), mine
    theirs = other.result()
    assert {each["torch"] for each in theirs["groups"]} == {"2.6.0", release}
    assert theirs["missing"] == ""


def test_a_nonce_is_marked_by_what_it_is_made_of() -> None:
    assert is_marked(marked_nonce())
    assert marked_nonce() != marked_nonce()
    assert not is_marked(bytes(NONCE))
