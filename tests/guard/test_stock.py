"""Stock clients and stores are recognised by their bytes."""

from __future__ import annotations

import pytest
from torchskew.guard.greeting import greeting_era
from torchskew.guard.stock import look

from tests.guard.ranks import Group, connect, hello_of


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


def test_with_a_secret_a_stranger_that_looks_learns_the_size_alone(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD_SECRET", "ours")
    group.start(0, hello_of(0))
    connect(group.port).close()
    found = look("127.0.0.1", group.port, 2.0)
    group.start(1, hello_of(1))
    group.join()
    assert (found.what, found.roster and (found.roster["world"], found.roster["groups"])) == ("guard", (2, []))
