"""The first declaration is one that torchskew itself reads, for whatever releases a person names."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
from torchskew.declaration.baseline import parse_baseline
from torchskew.declaration.declare import declare
from torchskew.declaration.fields import Document, Problems
from torchskew.declaration.starter import SCENARIOS, starter
from torchskew.errors import ConfigError
from torchskew.guard import table as guard
from torchskew.model.declared import Declaration
from torchskew.model.outcomes import Guard
from torchskew.releases.measured import RELEASES
from torchskew.runtimes.docker.catalogue import load_suites
from torchskew.workflows.inputs import read_scenarios

from tests.conftest import ROOT


def declared(text: str) -> Declaration:
    return declare(Document(path="torchskew.toml", text=text))


def test_it_combines_the_releases_that_were_named_oldest_first() -> None:
    declaration = declared(starter(["2.13.0", "2.6.0", "2.13.0", "2.14.1"]))
    assert list(declaration.versions) == ["2.6.0", "2.13.0", "2.14.1"]
    assert [version.sources[0].value for version in declaration.versions.values()] == [
        "torch==2.6.0",
        "torch==2.13.0",
        "torch==2.14.1",
    ]
    for spec in declaration.matrix.values():
        assert (spec.pairs, spec.guard, spec.scenarios) == ("all", (Guard.OFF, Guard.ON), SCENARIOS)


def test_a_single_release_needs_no_rehearsal() -> None:
    assert "rehearsal" not in tomllib.loads(starter(["2.6.0"]))
    assert tomllib.loads(starter(["2.6.0", "2.7.0"]))["rehearsal"] == {"from": "2.6.0", "to": "2.7.0", "rollback": True}


def test_its_scenarios_exist_and_its_comments_are_true() -> None:
    assert set(SCENARIOS) <= set(read_scenarios())
    text = starter(["2.1.2", "2.2.2"])
    quoted = "\n".join(line[4:] for line in text.splitlines() if line.startswith("#   ") and "=" in line)
    problems = Problems("expectations.toml")
    (entry,) = parse_baseline(Document(path="expectations.toml", text=f"[[expect]]\n{quoted}"), problems)
    assert (problems.texts, entry.cells) == ([], "rendezvous_tcp/2.1.2,2.2.2/*")
    gate = re.findall(r"^# (.*=.*)$", text.partition("# [gate]")[2], re.MULTILINE)
    assert tomllib.loads("\n".join(gate)) == {"candidate": "pip:torch==2.2.2", "tier": "smoke"}


@pytest.mark.parametrize("name", ["2.x", "torch==2.6.0", "", "2.6.0+cpu", "v2.6.0", "1!2.6", 'a"b'])
def test_what_is_no_release_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a release. Write it like 2.6.0"):
        starter(["2.6.0", name])


def test_the_measured_releases_are_declared_for_the_survey_and_hold_those_of_its_facts() -> None:
    text = (ROOT / "docs" / "compatibility.toml").read_text(encoding="utf-8")
    wide = declare(Document(path="docs/compatibility.toml", text=text), load_suites()).matrix["venv"].versions
    facts = json.loads((ROOT / "docs" / "survey.json").read_text(encoding="utf-8"))
    measured = {each["name"] for part in facts["parts"] if part["runtime"] == "venv" for each in part["releases"]}
    assert measured <= set(RELEASES) <= set(wide)
    assert list(RELEASES) == sorted(RELEASES, key=lambda name: guard.parse(name) or ())
    assert (guard.parse(RELEASES[-1]) or ())[:2] == guard.LAST_KNOWN
