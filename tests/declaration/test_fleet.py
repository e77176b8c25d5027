"""[fleet] and `--fleet`: addresses, jobs and needs, each problem with the path of its field."""

from __future__ import annotations

import pytest
from torchskew.cli import main
from torchskew.declaration.declare import declare
from torchskew.declaration.fields import Document
from torchskew.declaration.fleet import asked_fleet, check_address
from torchskew.errors import ConfigError
from torchskew.model.declared import NO_FLEET, FleetSpec, NodeNeed

VERSIONS = '[versions]\na = { pip = "torch==2.6.0" }\n'


def fleet(text: str) -> FleetSpec:
    return declare(Document(path="torchskew.toml", text=VERSIONS + text)).fleet


def test_without_a_table_there_is_no_fleet() -> None:
    assert fleet("") == NO_FLEET
    assert NO_FLEET.address == ""


def test_a_fleet_is_declared_whole() -> None:
    spec = fleet("""
[fleet]
address = "10.0.0.1:6379"
jobs = 12
interface = "10.7.0.0/24"
[fleet.needs."2.15.*"]
labels = { kind = "h100" }
resources = { GPU = 1 }
""")
    need = NodeNeed(versions="2.15.*", labels={"kind": "h100"}, resources={"GPU": 1.0})
    assert spec == FleetSpec(address="10.0.0.1:6379", jobs=12, interface="10.7.0.0/24", needs=(need,))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('address = "local"', "fleet.address must be auto, local:N or HOST:PORT of a Ray cluster, got 'local'"),
        ('address = "local:0"', "fleet.address must name 1 to 32 local nodes, got 'local:0'"),
        ('address = "ray://here:1"', "fleet.address must be auto, local:N or HOST:PORT"),
        ("jobs = 0", "fleet.jobs must be from 1 to 256, got 0"),
        ('jobs = "many"', "fleet.jobs must be a number, got 'many'"),
        (
            'interface = "10.7.0.1/24"',
            "fleet.interface must be an interface like 'eth1' or a network like '10.7.0.0/24",
        ),
        ('interface = "a name"', "fleet.interface must be an interface like 'eth1' or a network, got 'a name'"),
        ('interface = ""', "fleet.interface must be an interface like 'eth1' or a network, got ''"),
        ('adress = "auto"', "fleet.adress is not a field; did you mean 'address'?"),
        ("[fleet.needs.a]\nlabels = { kind = 1 }", "fleet.needs.a.labels.kind must be text, got 1"),
        ('[fleet.needs.a]\nresources = { GPU = "one" }', "fleet.needs.a.resources.GPU must be a number, got 'one'"),
        ("[fleet.needs.a]\nlabel = { }", "fleet.needs.a.label is not a field; did you mean 'labels'?"),
    ],
)
def test_a_wrong_field_is_named_with_its_path(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fleet("[fleet]\n" + text)
    assert any(says in problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize("address", ["auto", "local:1", "local:32", "host.example:6379", "10.0.0.1:6379", "[::1]:6379"])
def test_an_address_may_have_these_forms(address: str) -> None:
    assert check_address(address) == ""


def test_the_command_line_wins_over_the_declared_address_and_nothing_else() -> None:
    declared = FleetSpec(address="auto", jobs=3, interface="eth1")
    assert asked_fleet(declared, None) == declared
    assert asked_fleet(declared, "local:2") == FleetSpec(address="local:2", jobs=3, interface="eth1")
    assert asked_fleet(declared, "off").address == ""


def test_a_need_is_met_by_equal_labels_and_enough_resources() -> None:
    need = NodeNeed(versions="*", labels={"kind": "h100"}, resources={"GPU": 1.0})
    assert need.met_by({"kind": "h100", "rack": "3"}, {"GPU": 8.0})
    assert not need.met_by({"kind": "a100"}, {"GPU": 8.0})
    assert not need.met_by({"kind": "h100"}, {"GPU": 0.5})


@pytest.mark.parametrize("command", ["matrix", "gate", "check", "suite"])
def test_a_wrong_address_on_the_command_line_is_exit_4(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--fleet", "somewhere"]) == 4
    assert "argument --fleet: must be auto, local:N or HOST:PORT of a Ray cluster, got 'somewhere'" in (
        capsys.readouterr().err
    )
