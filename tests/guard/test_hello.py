"""Only a hello is read as one, by whatever version of the guard it was sent."""

from __future__ import annotations

import json

import pytest
from torchskew.guard.hello import read_hello

from tests.guard.ranks import hello_of


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[" * 4000,
        b"{}",
        b"[1]",
        json.dumps({name: value for name, value in hello_of(1).items() if name != "torch"}).encode(),
        json.dumps({**hello_of(1), "rank": True}).encode(),
        json.dumps({**hello_of(1), "rank": -1}).encode(),
        json.dumps({**hello_of(1), "rank": "1"}).encode(),
        json.dumps({**hello_of(1), "host": "h" * 256}).encode(),
        json.dumps({**hello_of(1), "known": 2}).encode(),
    ],
)
def test_only_a_hello_is_read_as_one(body: bytes) -> None:
    assert read_hello(body) is None
    assert read_hello(json.dumps(hello_of(1)).encode()) == hello_of(1)


def test_what_a_later_guard_adds_to_a_hello_is_passed_over() -> None:
    assert read_hello(json.dumps({**hello_of(1), "added": ["later"]}).encode()) == hello_of(1)
