"""A part of a gate's plan blames nobody; a dry run lists it exactly; only the merge of all parts decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torchskew.cli import main
from torchskew.engine.progress import Plain
from torchskew.errors import ConfigError, RecordError
from torchskew.model.versions import Environment, Version
from torchskew.runtimes.fake import FakeRuntime
from torchskew.workflows.gate.request import Request
from torchskew.workflows.gate.workflow import run_gate
from torchskew.workflows.merge import merge

from tests.workflows.gate.test_workflow import Desk, only_with, right

CASE = {"AVG/*": "Cannot use ReduceOp.AVG"}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def last(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def statuses(desk: Desk, out: str) -> dict[str, tuple[str, str]]:
    return {cell["id"]: (cell["status"], cell["verdict"]) for cell in desk.results(out)["cells"]}


def test_no_part_blames_a_good_candidate_for_what_a_release_lacks(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """A group leaves out what one of its versions lacks; only that version's control shows whose lack it is."""
    desk.runtime(lacks_of={"2.13.0": CASE})
    request = Request(candidate="pip:torch==2.15.0")
    for count in (2, 3, 4, 5):
        folders = []
        for index in range(1, count + 1):
            out = f"part{index}of{count}"
            part = replace(request, shard=f"{index}/{count}")
            assert run_gate(part, desk.options(out=desk.folder / out), Plain(desk.said)) == 0
            assert last(capsys) == f"part {index} of {count} ran; `torchskew merge` decides"
            folders.append(desk.folder / out)
        assert merge(folders, desk.options(out=desk.folder / f"whole{count}")) == 0
        assert last(capsys).startswith("gate open: ")


def test_every_report_of_a_part_says_that_it_is_one(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.gate(only_with("candidate", "2.13.0"), shard="1/1") == 0
    words = "part 1 of 1 ran; `torchskew merge` decides"
    assert "1 flaky or not judged" in capsys.readouterr().out
    results = desk.results()
    assert (results["part"], results["decision"], results["exit_code"]) == ("1/1", words, 0)
    assert statuses(desk, "out")["meet/candidate,2.13.0/guard-off/venv"] == ("not-judged", "FAIL")
    folder = desk.folder / "out" / results["run_id"]
    assert (folder / "summary.md").read_text().startswith("## ⏳ torchskew: part 1 of 1 ran")
    assert (folder / "report.txt").read_text().splitlines()[-1] == words
    assert "part 1 of 1 ran" in (folder / "report.html").read_text()
    assert main(["report", "--out", str(desk.folder / "out")]) == 0
    assert last(capsys) == words
    assert desk.results() == results


def test_a_part_with_cells_that_could_not_run_is_incomplete(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.runtime(right, broken=("2.14.1",))
    request = Request(candidate="pip:torch==2.15.0", shard="1/1")
    assert run_gate(request, desk.options(), Plain(desk.said)) == 1
    words = "part 1 of 1 is incomplete: 13 unknown; 2.14.1 has no environment: 2.14.1 is broken by the test"
    assert last(capsys) == f"{words}; `torchskew merge` decides"
    assert desk.results()["part"] == "1/1"


def test_a_part_without_a_cell_ran_as_well_and_merges(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    count, folders = 30, []
    for index in range(1, count + 1):
        folders.append(desk.folder / f"part{index}")
        assert desk.gate(shard=f"{index}/{count}", options={"out": folders[-1]}) == 0
        assert last(capsys) == f"part {index} of {count} ran; `torchskew merge` decides"
    assert desk.results("part30")["planned"] == 0
    assert merge(folders, desk.options()) == 0


def test_a_part_is_not_compared_with_an_accepted_run(desk: Desk) -> None:
    desk.gate()
    assert desk.gate(only_with("candidate", "2.13.0"), shard="1/1", options={"cache": False}) == 0
    assert desk.results()["difference"] == ""


def test_a_part_does_not_update_the_baseline(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="--update-baseline needs the decision over the whole plan"):
        desk.gate(shard="1/2", update_baseline=True)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("candidate", ["pip:torch==2.2.2", "interpreter:PYTHON", "image:repo/name@sha256:" + "0" * 64])
def test_a_dry_run_lists_exactly_the_part_that_runs(
    desk: Desk, capsys: pytest.CaptureFixture[str], candidate: str, *, balanced: bool
) -> None:
    """The release of an interpreter or an image is known once it is provisioned, and then changes its predictions."""
    python = desk.folder / "python"
    python.touch(mode=0o755)
    asked: dict[str, Any] = {"candidate": candidate.replace("PYTHON", str(python))}
    provision = FakeRuntime.provision

    def releases_known(self: FakeRuntime, version: Version, progress: Any) -> Environment:
        self.reports = {"candidate": "2.2.2"}
        return provision(self, version, progress)

    desk.monkeypatch.setattr(FakeRuntime, "provision", releases_known)
    # The runtime of the cells decides which candidates can be had; the fake one stands for both.
    options: dict[str, Any] = {"runtime": "docker" if candidate.startswith("image") else "venv"}
    if options["runtime"] == "docker":
        desk.monkeypatch.setattr(FakeRuntime, "name", "docker")
        text = (desk.folder / "torchskew.toml").read_text()
        (desk.folder / "torchskew.toml").write_text(text.replace('"venv"', '"docker"'))
    if balanced:
        desk.gate(options={**options, "out": desk.folder / "earlier"}, **asked)
        asked["balance"] = desk.folder / "earlier"
    every: list[str] = []
    for index in (1, 2, 3):
        part = {**options, "out": desk.folder / f"part{index}"}
        capsys.readouterr()
        assert desk.gate(shard=f"{index}/3", options={**part, "dry_run": True}, **asked) == 0
        listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
        desk.gate(shard=f"{index}/3", options=part, **asked)
        assert listed == [cell["id"] for cell in desk.results(f"part{index}")["cells"]]
        every += listed
    assert len(every) == len(set(every)) == 29


def test_parts_are_held_against_each_other_not_only_against_the_first(desk: Desk) -> None:
    """The first part has no environment of 2.14.1 to compare; the other two differ."""
    folders = [desk.folder / f"part{index}" for index in (1, 2, 3)]
    provision = FakeRuntime.provision
    for index, folder in enumerate(folders, start=1):
        desk.runtime(broken=("2.14.1",) if index == 1 else ())

        def of_part(self: FakeRuntime, version: Version, progress: Any, index: int = index) -> Environment:
            made = provision(self, version, progress)
            return replace(made, identity=f"built {index}") if version.name == "2.14.1" else made

        desk.monkeypatch.setattr(FakeRuntime, "provision", of_part)
        part = Request(candidate="pip:torch==2.15.0", shard=f"{index}/3")
        run_gate(part, desk.options(out=folder), Plain(desk.said))
    with pytest.raises(RecordError, match="part3 ran another environment of 2.14.1 than .*part2") as caught:
        merge(folders, desk.options())
    assert "part1" not in str(caught.value)
