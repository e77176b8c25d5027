"""The script's own reader: found without running the script, called with its settings, its errors its own."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from torchskew.errors import AgentError
from torchskew.inside import rehearsal as rank
from torchskew.model.facts import ErrorFacts, RankFacts
from torchskew.workflows.rehearsal import contract, questions
from torchskew.workflows.rehearsal.contract import Launch
from torchskew.workflows.rehearsal.observed import Commit
from torchskew.workflows.rehearsal.questions import Questions, reading

from tests.conftest import ROOT
from tests.workflows.rehearsal.observations import spec

PAGE = (ROOT / "docs/rehearsal.md").read_text()
COMMIT = Commit(name="step-5-g1", step=5, hash="h")
MAIN = 'if __name__ == "__main__":\n    raise SystemExit("it trains")\n'


class Asked:
    """What a rank is asked: to read a checkpoint with this script."""

    rank, world_size, host, port, seed = 0, 1, "127.0.0.1", 4242, 7

    def __init__(self, place: Path, script: str) -> None:
        launch = Launch(folder="read", hold=None, formats=("plain",), resume=COMMIT, pace=0.0, until=COMMIT.step)
        settings = contract.settings(spec(), launch, str(place), generation=0)
        self.params = {"script": script, "name": "train.py", "settings": settings, "hold": "", "world": 4}
        self.params["log"] = str(place / "read" / "rank-0.jsonl")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank has a process of its own; here, what it sets is undone."""
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(rank.sys, "modules", dict(rank.sys.modules))
    monkeypatch.setattr(rank.sys, "argv", [])


def read(place: Path, script: str) -> dict:
    return rank.read(Asked(place, script))


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (PAGE.split("```python\n")[1].split("```")[0], "train.py has no function read_checkpoint"),
        ("def reads(): pass\nfile = open('ran', 'w')\n" + MAIN, "train.py has no function read_checkpoint"),
        ("class Job:\n    def read_checkpoint(self): pass\n" + MAIN, "train.py has no function read_checkpoint"),
        ("def read_checkpoint(*_): pass\nopen('ran', 'w')\n", "train.py has read_checkpoint, but no `if __name__ =="),
        ("def read_checkpoint(\n", "this Python can't read train.py: SyntaxError: "),
    ],
)
def test_a_script_without_a_reader_that_can_be_called_is_not_run_to_look_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(tmp_path, script)["no_reader"].startswith(why)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "defined",
    [
        "def read_checkpoint(*_): return {'formats': {}}\n",
        "if True:\n    def read_checkpoint(*_): return {'formats': {}}\n",
        "read_checkpoint = lambda *_: {'formats': {}}\n",
        "def reads(*_): return {'formats': {}}\ntry:\n    read_checkpoint = reads\nfinally:\n    pass\n",
    ],
)
def test_a_reader_is_found_however_it_is_defined(tmp_path: Path, defined: str) -> None:
    assert read(tmp_path, defined + MAIN) == {"formats": {}}


def test_a_reader_finds_the_settings_of_the_contract_and_gets_the_arguments_that_it_states(tmp_path: Path) -> None:
    script = "import os\nrank = int(os.environ['RANK'])\ndef read_checkpoint(*got):\n"
    script += "    return {'formats': {}, 'got': got, 'environment': dict(os.environ)}\n" + MAIN
    answer = read(tmp_path, script)
    assert answer["got"] == (f"{tmp_path}/checkpoints", "step-5-g1", ["plain"], 7, 4)
    stated = re.findall(r"`([A-Z_]+)`", PAGE.split("with these settings in the environment:")[1].split("SIGTERM")[0])
    assert len(stated) == 16
    assert set(stated) <= set(answer["environment"])
    assert (answer["environment"]["RANK"], answer["environment"]["WORLD_SIZE"]) == ("0", "1")
    assert answer["environment"]["TORCHSKEW_STEPS"] == "5"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def read_checkpoint(folder): pass\n", "TypeError: read_checkpoint() takes 1 positional argument"),
        ("def read_checkpoint(*_): raise SystemExit(3)\n", "SystemExit: 3"),
        ("def read_checkpoint(*_): return None\n", "read_checkpoint returned None; docs/rehearsal.md states"),
    ],
)
def test_what_a_reader_fails_with_is_its_answer(tmp_path: Path, body: str, error: str, capsys) -> None:
    defined = body if "def " in body else body + "def read_checkpoint(*_): pass\n"
    assert read(tmp_path, defined + MAIN)["error"].startswith(error)
    capsys.readouterr()


def test_a_reading_keeps_what_a_partial_load_gave() -> None:
    answer = {"formats": {"dcp": {"error": "RuntimeError: no", "partial": "h"}, "plain": {"hash": "h"}}}
    facts = RankFacts(rank=0, declared="2.13.0", finished=True, payload=answer)
    formats = reading(facts, COMMIT, "2.13.0").formats
    assert (formats["dcp"].error, formats["dcp"].partial, formats["plain"].hash) == ("RuntimeError: no", "h", "h")


class Group:
    """A group whose rank ends as it is told."""

    def __init__(self, facts: RankFacts) -> None:
        self.ended = facts

    def start_all(self, *_, **__) -> None:
        """It starts."""

    def end_within(self, _: float) -> None:
        """It ends."""

    def facts(self) -> tuple[RankFacts, ...]:
        return (self.ended,)

    def close(self) -> None:
        """It is gone."""


class Seat:
    """A node of 2.13.0."""

    class agent:  # noqa: N801 - an attribute of every seat
        name = "node 1 (2.13.0)"

        class channel:  # noqa: N801 - the same
            share = "/share"

    version = "2.13.0"


class Cluster:
    """Every node is that one."""

    def seat(self, _: int) -> Seat:
        return Seat()


def asked(monkeypatch: pytest.MonkeyPatch, **ended) -> Questions:
    """Someone who asks a rank that ends so."""
    monkeypatch.setattr(questions, "NodeGroup", lambda *_: Group(RankFacts(rank=0, declared="2.13.0", **ended)))
    return Questions(spec(), Cluster())


@pytest.mark.parametrize(
    ("ended", "error"),
    [
        ({"error": ErrorFacts(type="KeyError", text="'RANK'")}, "KeyError: 'RANK'"),
        ({"signal": "SIGSEGV"}, "it was ended by SIGSEGV"),
        ({"killed": True}, "it hung, and was killed"),
        ({"exit": 3}, "it left without a report, with exit code 3"),
    ],
)
def test_a_rank_that_the_script_ended_is_an_answer_and_no_fault_of_the_machine(monkeypatch, ended, error) -> None:
    assert asked(monkeypatch, **ended).read(Seat(), COMMIT).error == error


def test_a_node_that_is_gone_is_the_machines_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AgentError, match=r"node 1 \(2.13.0\): the container is gone"):
        asked(monkeypatch, machine="the container is gone").read(Seat(), COMMIT)


def test_a_reading_keeps_why_nothing_was_called() -> None:
    facts = RankFacts(rank=0, declared="2.13.0", finished=True, payload={"no_reader": "train.py has no function"})
    read = reading(facts, COMMIT, "2.13.0")
    assert (read.no_reader, read.error, read.formats) == ("train.py has no function", None, {})
