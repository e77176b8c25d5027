"""Checks from the command line to the exit code, over scripted versions: skips, stops, caches, resumes, reruns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torchskew.cli import main
from torchskew.model.versions import Environment, Version
from torchskew.record.record import Record
from torchskew.runtimes.base import Progress
from torchskew.runtimes.fake import FakeRuntime, ended

from tests.conftest import faked

DECLARED = """
[versions]
"2.1.2" = { pip = "torch==2.1.2" }
"2.6.0" = { pip = "torch==2.6.0" }
[matrix]
runtime = "venv"
[checks.smoke]
command = "smoke {root}"
[checks.unit]
command = ["unit"]
requires = ["pytest"]
on_versions = ">=2.2"
inputs = ["*.py"]
[checks.release]
command = "release"
run_on = ["pre_release"]
"""
Job = Mapping[str, Any]


class Desk:
    """A folder with a declaration. failing: first words of the commands that end with exit code 3; ran: what ran."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.failing: set[str] = set()
        self.kind = FakeRuntime
        self.ran: list[tuple[str, str]] = []
        (folder / "torchskew.toml").write_text(DECLARED)
        (folder / "code.py").write_text("one = 1\n")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        self.monkeypatch = monkeypatch

    def script(self, version: str, job: Job) -> dict[str, Any]:
        command = job["params"]["command"]
        words = command.split() if isinstance(command, str) else command
        self.ran.append((words[0], version))
        code = 3 if words[0] in self.failing else 0
        payload = {"how": "exit", "exit": code, "signal": None, "seconds": 0.1, "last": "", "memory": 1, "peak": 1}
        return dict(ended(job["skew"][0], finished=True, payload=payload, phase="done"))

    def check(self, *words: str, **runtime: Any) -> int:
        faked(self.monkeypatch, self.kind(self.script, **runtime))
        self.ran.clear()
        return main(["check", *words])

    def cells(self, out: str = "out") -> dict[str, tuple[str, str]]:
        """Verdict and reason of each cell of the newest run."""
        with Record.open(self.folder / out / "record.sqlite") as record:
            newest = record.resolve("latest")
        results = json.loads((self.folder / out / newest / "results.json").read_text())
        return {cell["id"].rpartition("/guard")[0]: (cell["verdict"], cell["reason"]) for cell in results["cells"]}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_each_check_runs_in_each_version_to_which_it_applies(desk: Desk) -> None:
    assert desk.check() == 0
    assert sorted(desk.ran) == [("smoke", "2.1.2"), ("smoke", "2.6.0"), ("unit", "2.6.0 + pytest")]
    assert desk.cells()["unit/2.1.2"] == ("UNSUPPORTED", "unit runs on releases >=2.2, 2.1.2 is 2.1.2")


def test_an_environment_that_no_cell_needs_is_not_made(desk: Desk) -> None:
    assert desk.check("unit", broken=("2.1.2", "2.6.0", "2.1.2 + pytest")) == 0


def test_a_check_that_fails_is_red_with_its_end(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.failing = {"unit"}
    assert desk.check() == 1
    assert desk.cells()["unit/2.6.0"] == ("FAIL", "rank 0 WRONG: ended with exit code 3 after 0.1 s")
    assert "rerun: torchskew check --runtime venv --exclude-newer " in capsys.readouterr().out


def test_an_environment_that_can_not_be_made_is_unknown_and_not_a_failure(desk: Desk) -> None:
    assert desk.check(broken=("2.6.0 + pytest",)) == 1
    cells = desk.cells()
    assert cells["unit/2.6.0"][0] == "UNKNOWN"
    assert "no environment for 2.6.0 + pytest" in cells["unit/2.6.0"][1]
    assert cells["smoke/2.6.0"][0] == "PASS"


def test_what_did_not_run_because_of_a_failure_says_so(desk: Desk) -> None:
    desk.failing = {"smoke"}
    assert desk.check("--stop-on-fail", "-j", "1") == 1
    assert desk.ran == [("smoke", "2.1.2")]
    assert {name: verdict for name, (verdict, _) in desk.cells().items()} == {
        "smoke/2.1.2": "FAIL",
        "smoke/2.6.0": "BLOCKED",
        "unit/2.1.2": "UNSUPPORTED",
        "unit/2.6.0": "BLOCKED",
    }
    assert desk.cells()["smoke/2.6.0"][1] == "not run: smoke/2.1.2/guard-off/venv is FAIL"


def test_a_known_failure_is_expected_with_its_reason(desk: Desk) -> None:
    desk.failing = {"unit"}
    (desk.folder / "check-expectations.toml").write_text(
        '[[expect]]\ncells = "unit/2.6.0/*"\nverdict = "FAIL"\nreason = "our bug 12"\n'
    )
    assert desk.check() == 0


def test_a_result_is_reused_only_while_the_declared_inputs_are_the_same(desk: Desk) -> None:
    assert desk.check() == 0
    assert desk.check() == 0
    assert {name for name, _ in desk.ran} == {"smoke"}
    (desk.folder / "code.py").write_text("one = 2\n")
    assert desk.check() == 0
    assert {name for name, _ in desk.ran} == {"smoke", "unit"}


def test_a_tag_selects_and_more_words_go_to_the_command(desk: Desk) -> None:
    assert desk.check("--tag", "pre_release", "--", "-k", "a b") == 0
    with Record.open(desk.folder / "out" / "record.sqlite") as record:
        info = record.info()
        [first, _] = record.load("latest").plan.cells
    assert first.variant
    assert first.variant.params["command"] == "release -k 'a b'"
    assert str(info.rerun).endswith("-- -k 'a b'")
    assert str(info.rerun.of_cell(first.id)).endswith(f"--only {first.id} --no-cache -- -k 'a b'")


class Dated(FakeRuntime):
    """Remembers up to which instant packages were taken."""

    until: ClassVar[list[str | None]] = []

    def provision(self, version: Version, progress: Progress) -> Environment:
        self.until.append(version.sources[0].until)
        return super().provision(version, progress)


def test_the_time_up_to_which_packages_are_taken_is_recorded_and_given_again(desk: Desk) -> None:
    desk.kind = Dated
    Dated.until.clear()
    assert desk.check("smoke", "--exclude-newer", "2026-11-20") == 0
    with Record.open(desk.folder / "out" / "record.sqlite") as record:
        assert record.info().until == "2026-11-20T00:00:00Z"
    assert desk.check("smoke", "--resume") == 0
    assert desk.ran == []
    assert Dated.until == ["2026-11-20T00:00:00Z"] * 4  # two versions, twice
    with Record.open(desk.folder / "out" / "record.sqlite") as record:
        assert len(record.runs()) == 1


def test_a_dry_run_lists_cells_and_environments_and_writes_nothing(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.check("--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        "smoke/2.1.2/guard-off/venv   in 2.1.2",
        "smoke/2.6.0/guard-off/venv   in 2.6.0",
        "unit/2.1.2/guard-off/venv   not run: unit runs on releases >=2.2, 2.1.2 is 2.1.2",
        "unit/2.6.0/guard-off/venv   in 2.6.0 + pytest",
    ]
    assert not (desk.folder / "out").exists()


def test_the_list_names_tags_versions_and_commands(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.check("*", "--list") == 0
    assert capsys.readouterr().out.splitlines() == [
        "smoke   default · every version · smoke {root}",
        "unit   default · >=2.2 · unit",
        "release   pre_release · every version · release",
    ]


def test_shards_become_one_run_and_one_decision(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.failing = {"unit"}
    codes = [desk.check("*", "--shard", f"{number}/2", "--out", f"part{number}") for number in (1, 2)]
    assert sorted(codes) == [0, 1]
    assert main(["merge", "part1", "part2"]) == 1
    assert len(desk.cells()) == 6
    assert [name for name, (verdict, _) in desk.cells().items() if verdict == "FAIL"] == ["unit/2.6.0"]
    assert main(["report", "latest"]) == 1
    assert main(["merge", "part1", "--out", "half"]) == 1
    assert "missing shards: 2 of 2" in capsys.readouterr().err


@pytest.mark.parametrize("stop", [(), ("--stop-on-fail",)])
@pytest.mark.parametrize("failing", [(), ("unit",), ("smoke", "release")])
@pytest.mark.parametrize("count", [2, 7])
def test_parts_run_what_their_dry_run_lists_and_come_to_the_decision_of_the_whole(
    desk: Desk, capsys: pytest.CaptureFixture[str], stop: tuple[str, ...], failing: tuple[str, ...], count: int
) -> None:
    desk.failing = set(failing)
    code = desk.check("*", *stop)
    whole, every = desk.cells(), []
    for number in range(1, count + 1):
        part = ("*", *stop, "--shard", f"{number}/{count}")
        capsys.readouterr()
        assert desk.check(*part, "--dry-run") == 0
        listed = [line.partition("/guard")[0] for line in capsys.readouterr().out.splitlines()]
        desk.check(*part, "--out", f"part{number}")
        assert sorted(desk.cells(f"part{number}")) == sorted(listed)
        every += listed
    assert sorted(every) == sorted(whole)
    assert main(["merge", *(f"part{number}" for number in range(1, count + 1)), "--out", "merged"]) == code
    assert desk.cells("merged") == whole


def test_cells_that_wait_for_each_other_stay_in_one_shard(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    parts = []
    for number in (1, 2):
        assert desk.check("*", "--stop-on-fail", "--shard", f"{number}/2", "--dry-run") == 0
        parts.append([line.partition("/guard")[0] for line in capsys.readouterr().out.splitlines()])
    assert parts == [
        ["smoke/2.1.2", "smoke/2.6.0", "unit/2.6.0", "release/2.1.2", "release/2.6.0"],
        ["unit/2.1.2"],
    ]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("unti",), 5, "no check is called 'unti'. Near: unit."),
        (("--tag", "nightly"), 5, "no check runs on nightly"),
        (("--only", "unit/9*"), 5, "matches none of 4 cells"),
        (("--exclude-newer", "soon"), 4, "must be like 2026-11-28"),
        (("--shard", "3/2"), 4, "must be like 2/5"),
        (("--versions", "9.*"), 4, "version pattern '9.*' matches nothing"),
    ],
)
def test_a_selection_that_selects_nothing_is_an_error(
    desk: Desk, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, says: str
) -> None:
    assert desk.check(*words) == code
    assert says in capsys.readouterr().err


def test_inputs_that_name_no_file_are_an_error(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    (desk.folder / "code.py").unlink()
    assert desk.check() == 4
    assert "checks.unit.inputs: '*.py' matches no file" in capsys.readouterr().err


def test_run_is_another_name_of_check(desk: Desk) -> None:
    faked(desk.monkeypatch, FakeRuntime(desk.script))
    assert main(["run", "unit", "--versions", "2.6.0", "--", "-x", "-k", "store"]) == 0
    assert desk.cells()["unit/2.6.0"][0] == "PASS"
    assert [name for name, _ in desk.ran] == ["unit"]
