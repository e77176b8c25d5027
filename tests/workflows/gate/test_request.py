"""What [gate] names is found beside the declaration, in folders too, and an error says which field names it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from torchskew.errors import ConfigError
from torchskew.model.outcomes import Store, Tier
from torchskew.workflows.gate.request import Request, read_the_request

from tests.conftest import only_scenarios
from tests.workflows.gate.test_workflow import DECLARED, MEET, Desk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def declared(desk: Desk, fields: str) -> Desk:
    (desk.folder / "torchskew.toml").write_text(f'{DECLARED}\n[gate]\ncandidate = "pip:torch==2.15.0"\n{fields}\n')
    return desk


def test_a_baseline_may_be_in_a_folder_below_the_declaration(desk: Desk) -> None:
    """Found by `make chaos`: it was a traceback."""
    (desk.folder / "ci").mkdir()
    (desk.folder / "ci" / "baseline.toml").write_text("")
    inputs, _, _ = read_the_request(declared(desk, 'baseline = "ci/baseline.toml"').options(), Request())
    assert inputs.baseline == desk.folder / "ci" / "baseline.toml"


@pytest.mark.parametrize("name", ["keys.json", "folder"])
def test_a_snapshot_that_can_not_be_read_is_told_with_the_field_that_names_it(desk: Desk, name: str) -> None:
    (desk.folder / "folder").mkdir()
    with pytest.raises(ConfigError, match=r"gate\.snapshots or --against-snapshot names it"):
        read_the_request(declared(desk, f'snapshots = ["{name}"]').options(), Request())


def test_the_stores_of_the_command_line_come_before_those_of_the_declaration(desk: Desk) -> None:
    options = declared(desk, 'store = ["stock", "bridge"]').options()
    assert read_the_request(options, Request())[0].request.store == (Store.STOCK, Store.BRIDGE)
    assert read_the_request(options, Request(store=(Store.STOCK,)))[0].request.store == (Store.STOCK,)


NEEDED = ("expecttest", "hypothesis", "setuptools")


@pytest.mark.parametrize(
    ("asked", "more"),
    [
        ({"scenarios": ("suite",)}, NEEDED),
        ({"only": ("suite.test_barrier/*",)}, NEEDED),
        ({"only": ("*/candidate/*",)}, ()),
        ({"scenarios": ("all_reduce",)}, ()),
        ({}, NEEDED),
        ({"tier": Tier.FULL}, NEEDED),
        ({"tier": Tier.CRITICAL}, ()),
    ],
)
def test_what_a_scenario_requires_is_installed_in_its_tier_and_where_it_is_asked_for(
    desk: Desk, asked: dict, more: tuple[str, ...]
) -> None:
    needed = ("expecttest", "hypothesis", "numpy", "setuptools")
    needy = replace(MEET, name="suite", tiers=("full",), requires=needed)
    only_scenarios(desk.monkeypatch, {"all_reduce": replace(MEET, name="all_reduce"), "suite": needy})
    request = Request(tier=asked.pop("tier", None))
    options = replace(declared(desk, 'requires = ["numpy<3"]').options(), **asked)
    versions = read_the_request(options, request)[0].versions
    assert versions["candidate"].sources[0].requires == ("numpy<3", *more)
