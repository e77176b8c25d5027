"""The real client of a release gets from the bridge what it gets from its own store."""

from __future__ import annotations

import pytest
from torchskew.model.versions import Environment

from tests.bridge import compare
from tests.patience import PATIENCE


@pytest.mark.slow
def test_each_operation_of_a_real_client_is_answered_as_its_own_store_answers(torch_environment: Environment) -> None:
    with compare.peer(torch_environment.handle, PATIENCE) as client:
        with compare.stock(client, libuv=True) as port:
            assert port is not None
            answers = client.ask(port, PATIENCE)
        with compare.bridge() as port:
            bridged = client.ask(port, PATIENCE)
    assert answers is not None
    assert bridged is not None
    assert len(bridged) > 60
    assert list(compare.differences(bridged, {"stock": answers})) == []


def test_a_difference_is_told_with_both_answers() -> None:
    stocks = {"legacy": {"get": "x", "add": 1}, "libuv": {"get": "y", "add": 1}}
    assert list(compare.differences({"get": "y", "add": 2}, stocks)) == [
        '  as some · get · bridge: "y"; legacy: "x"; libuv: "y"',
        "  OTHERWISE · add · bridge: 2; legacy, libuv: 1",
    ]
