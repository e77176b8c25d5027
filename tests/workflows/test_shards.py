"""Parts of a matrix and of the suites run what their dry run lists, and together come to the decision of the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torchskew.cli import main
from torchskew.record.record import Record

from tests.commands.test_suite import NEW, OLD, Suites
from tests.conftest import faked
from tests.workflows.gate.test_workflow import Desk, only_with, right, wrong

SUITE = ("suite", "--versions", OLD, NEW)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, monkeypatch)


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suites:
    monkeypatch.chdir(tmp_path)
    return faked(monkeypatch, Suites())


def results(out: str) -> dict[str, Any]:
    with Record.open(Path(out) / "record.sqlite") as record:
        newest = record.resolve("latest")
    return dict(json.loads((Path(out) / newest / "results.json").read_text()))


def cells(out: str) -> dict[str, tuple[str, str]]:
    return {cell["id"]: (cell["status"], cell["verdict"]) for cell in results(out)["cells"]}


def run_in_parts(command: tuple[str, ...], count: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run each part, and hold it against its own dry run; the folders."""
    folders = []
    for number in range(1, count + 1):
        part, out = (*command, "--shard", f"{number}/{count}"), f"part{number}of{count}"
        capsys.readouterr()
        assert main([*part, "--dry-run", "--out", out]) == 0
        listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
        code = main([*part, "--out", out])
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith(f"part {number} of {count}: ")
        assert last.endswith("; `torchskew merge` decides")
        assert (sorted(cells(out)), results(out)["part"]) == (sorted(listed), f"{number}/{count}")
        assert main(["report", "--out", out]) == code
        assert capsys.readouterr().out.splitlines()[-1] == last
        folders.append(out)
    return folders


@pytest.mark.parametrize(("fails", "count"), [(("2.14.1", "2.13.0"), 2), ((), 3), (("2.14.1", "2.13.0"), 12)])
def test_parts_of_a_matrix_come_to_the_decision_of_the_whole(
    desk: Desk, capsys: pytest.CaptureFixture[str], fails: tuple[str, ...], count: int
) -> None:
    desk.runtime(only_with(*fails) if fails else right)
    code = main(["matrix", "--out", "whole"])
    assert code == (1 if fails else 0)
    folders = run_in_parts(("matrix",), count, capsys)
    assert sorted(name for out in folders for name in cells(out)) == sorted(cells("whole"))
    assert main(["merge", *folders, "--out", "merged"]) == code
    assert cells("merged") == cells("whole")
    assert results("merged")["part"] is None


@pytest.mark.parametrize(("pattern", "code"), [("keys*", 0), ("nowhere/*", 1)])
def test_a_narrowed_run_and_its_parts_know_which_patterns_match_no_cell_of_the_whole_plan(
    desk: Desk, capsys: pytest.CaptureFixture[str], pattern: str, code: int
) -> None:
    desk.runtime(right)
    (desk.folder / "expectations.toml").write_text(
        f'[[expect]]\ncells = "{pattern}"\noutcomes = ["OK"]\nverdict = "PASS"\nreason = "it works"\n'
    )
    narrowed = ("matrix", "--scenarios", "meet")
    assert main([*narrowed, "--out", "narrowed"]) == code
    assert main(["report", "--out", "narrowed"]) == code
    folders = run_in_parts(narrowed, 2, capsys)
    assert main(["merge", *folders, "--out", "merged"]) == code
    assert main(["report", "--out", "merged"]) == code


@pytest.mark.parametrize("count", [2, 5])
def test_parts_of_the_suites_hold_each_test_beside_its_controls(
    suites: Suites, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    """test_alone fails in one release by itself, too: no part may take it for a finding."""
    assert main([*SUITE, "--out", "whole"]) == 1
    suites.ran.clear()
    folders = run_in_parts(SUITE, count, capsys)
    assert {place for place in suites.ran if place.startswith("test_gpu/")} == {
        f"test_gpu/{OLD},{OLD}", f"test_gpu/{NEW},{NEW}"
    }  # fmt: skip
    found = {name for out in folders for name, (status, _) in cells(out).items() if status == "regression"}
    assert found == {f"suite.test_mixed/{pair}/guard-off/venv" for pair in (f"{OLD},{NEW}", f"{NEW},{OLD}")}
    assert main(["merge", *folders, "--out", "merged"]) == 1
    assert cells("merged") == cells("whole")
    assert capsys.readouterr().out.splitlines()[-1] == "2 cells fail only mixed"
    assert main(["report", "--out", "merged"]) == 1
    assert main(["suite", "--table", "--out", "merged"]) == 0


def test_a_rendezvous_that_failed_in_one_part_has_failed(suites: Suites) -> None:
    """Every part of the suites runs the rendezvous that its tests need; a pass in another part excuses nothing."""

    def never_meets(version: str, job: Any) -> Any:
        if job["variant"] is None and job["world_size"] > 1:
            return wrong(version, job)
        return suites.rank(version, job)

    main([*SUITE, "--shard", "1/2", "--out", "one"])
    suites.script = never_meets
    main([*SUITE, "--shard", "2/2", "--out", "two"])
    failed = {name for name, (_, verdict) in cells("two").items() if verdict == "FAIL"}
    assert failed
    assert {cells("one")[name][1] for name in failed} == {"PASS"}
    for folders in (["one", "two"], ["two", "one"]):
        assert main(["merge", *folders, "--out", "-".join(folders)]) == 1
        assert {cells("-".join(folders))[name][1] for name in failed} == {"FAIL"}


def test_bisection_has_no_parts(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.runtime()
    assert main(["matrix", "--pairs", "boundary", "--shard", "1/2"]) == 4
    assert "--shard can't divide --pairs boundary" in capsys.readouterr().err


def test_a_part_that_was_interrupted_is_finished_by_resume(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(version: str, job: Any) -> Any:
        if job["skew"] == ["2.14.1", "2.14.1"]:
            raise KeyboardInterrupt
        return right(version, job)

    desk.runtime(stopped)
    codes = [main(["matrix", "--shard", f"{number}/2", "--out", f"part{number}"]) for number in (1, 2)]
    assert sorted(codes) == [0, 2]
    assert main(["merge", "part1", "part2", "--out", "merged"]) == 1
    assert "was interrupted" in capsys.readouterr().err
    desk.runtime()
    left = codes.index(2) + 1
    assert main(["matrix", "--shard", f"{left}/2", "--out", f"part{left}", "--resume"]) == 0
    assert main(["merge", "part1", "part2", "--out", "merged"]) == 0
