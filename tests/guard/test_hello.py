"""Only exactly a hello is read as one."""

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
        json.dumps({**hello_of(1), "more": 1}).encode(),
        json.dumps({**hello_of(1), "rank": True}).encode(),
        json.dumps({**hello_of(1), "rank": -1}).encode(),
        json.dumps({**hello_of(1), "rank": "1"}).encode(),
        json.dumps({**hello_of(1), "host": "h" * 256}).encode(),
        json.dumps({**hello_of(1), "known": 2}).encode(),
    ],
)
def test_only_exactly_a_hello_is_read_as_one(body: bytes) -> None:
    assert read_hello(body) is None
    assert read_hello(json.dumps(hello_of(1)).encode()) == hello_of(1)
