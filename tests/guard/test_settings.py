"""A misspelt setting is an error, and off means off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torchskew.guard import install
from torchskew.guard.exchange import exchange
from torchskew.guard.install import check
from torchskew.guard.place import Place

from tests.guard.ranks import hello_of


def test_off_means_no_word_is_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setenv("TORCHSKEW_GUARD", "off")
    monkeypatch.setattr(install, "locate", lambda *args: asked.append(args))
    assert check(init_method="tcp://127.0.0.1:1", world_size=2, rank=1, timeout=60) is None
    assert asked == []


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("TORCHSKEW_GUARD", "of", "TORCHSKEW_GUARD must be one of enforce, warn, off, strict, bridge, got 'of'."),
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
            check(init_method="tcp://127.0.0.1:1", world_size=2, rank=0)
        exchange(Place("agent", "127.0.0.1", 1, "", 0, 2), hello_of(0), 1.0)

    with pytest.raises(ValueError, match=text):
        start()


@pytest.mark.parametrize(("call", "result"), [(lambda: check(world_size=1, rank=0), None)])
def test_a_world_of_one_needs_no_check(call: Callable[[], Any], result: None) -> None:
    assert call() is result
