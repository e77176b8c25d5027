"""[gate] says what a candidate may cost more, as a share that a person writes."""

from __future__ import annotations

import pytest
from torchskew.declaration.fields import Document
from torchskew.declaration.gate import read_gate
from torchskew.errors import ConfigError
from torchskew.model.outcomes import Store


def test_what_a_candidate_may_cost_more_is_a_share_in_percent() -> None:
    text = '[gate]\nslower = "7.5 %"\nlarger = "10%"\n'
    assert read_gate(Document(path="torchskew.toml", text=text), ["venv"]).bounds == {"slower": 0.075, "larger": 0.1}
    assert read_gate(Document(path="torchskew.toml", text="[gate]\n"), ["venv"]).bounds == {}


def test_the_stores_of_a_gate_are_declared_by_their_names() -> None:
    text = '[gate]\nstore = ["stock", "bridge"]\n'
    assert read_gate(Document(path="torchskew.toml", text=text), ["venv"]).store == (Store.STOCK, Store.BRIDGE)
    with pytest.raises(ConfigError, match=r"gate\.store must hold only stock, bridge, got 'bridges'"):
        read_gate(Document(path="torchskew.toml", text='[gate]\nstore = "bridges"\n'), ["venv"])


@pytest.mark.parametrize("value", ["5", "five percent", "-5 %"])
def test_another_form_is_refused_with_its_place_and_an_example(value: str) -> None:
    text = f'[gate]\nslower = "{value}"\n'
    with pytest.raises(ConfigError, match=r'gate\.slower must be a share like "5 %"'):
        read_gate(Document(path="torchskew.toml", text=text), ["venv"])
