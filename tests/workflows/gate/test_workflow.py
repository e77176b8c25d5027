"""The gate from its options to its exit code, over scripted versions: decides, compares, shards, repeats, resumes."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import sys
import tomllib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torchskew.cli import main, make_parser
from torchskew.engine import run
from torchskew.engine.progress import Plain
from torchskew.errors import ConfigError, InterruptedRunError, RecordError
from torchskew.model.outcomes import Kind, Tier
from torchskew.model.runs import Accepted, RunKind
from torchskew.model.versions import Environment, Version
from torchskew.planning import plan
from torchskew.planning.scenario import Scenario
from torchskew.record.record import Record
from torchskew.runtimes.fake import FakeRuntime, ended
from torchskew.workflows.gate.request import Request
from torchskew.workflows.gate.workflow import run_gate
from torchskew.workflows.merge import merge
from torchskew.workflows.options import Options
from torchskew.workflows.recorded import report_again

from tests.conftest import faked, only_scenarios

FIRST_RELEASE = Path(__file__).parents[2] / "record" / "record-1.0.sql"
DECLARED = """
[versions]
"2.13.0" = { pip = "torch==2.13.0" }
"2.14.1" = { pip = "torch==2.14.1" }
[matrix]
runtime = "venv"
timeout = 0.05
"""
MEET = Scenario(
    name="meet", promise="p", doc="d", source="", path="", tiers=("smoke",), judge=lambda reports, world: {}
)
SCENARIOS = {
    "keys": replace(MEET, name="keys", source="keys", kind=Kind.SOLO, world=(1, 1)),
    "meet": MEET,
    "work": replace(MEET, name="work", source="work", after=("meet",)),
}
Job = Mapping[str, Any]


def right(version: str, job: Job) -> dict[str, Any]:
    del job
    torch = "2.15.0" if version in ("candidate", "base") else version
    return dict(ended(version, torch=torch, finished=True, payload={}, phase="done"))


def wrong(version: str, job: Job) -> dict[str, Any]:
    answer = right(version, job)
    error = {"type": "RuntimeError", "text": "reset"}
    report = {**answer["report"], "finished": False, "error": error, "error_after": 0.01, "phase": "run"}
    return {**answer, "exit": 1, "report": report}


def only_with(*skew: str) -> Any:
    """A script in which rank 1 fails in one skew."""
    return lambda version, job: (wrong if job["skew"] == [*skew] and job["rank"] == 1 else right)(version, job)


class Desk:
    """One person's folder: a declaration, an out folder, a scripted runtime."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        (folder / "torchskew.toml").write_text(DECLARED)
        only_scenarios(monkeypatch, SCENARIOS)
        monkeypatch.setattr(plan, "HANG_GRACE", 0.4)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        self.said = io.StringIO()

    def runtime(self, script: Any = right, **more: Any) -> None:
        faked(self.monkeypatch, FakeRuntime(script, **more))

    def options(self, **more: Any) -> Options:
        given = {"declaration": self.folder / "torchskew.toml", "out": self.folder / "out", "runtime": "venv"}
        return Options(**{**given, "kind": RunKind.GATE, "command": "torchskew gate", **more})

    def gate(self, script: Any = right, *, options: Mapping[str, Any] | None = None, **asked: Any) -> int:
        self.runtime(script)
        request = Request(**{"candidate": "pip:torch==2.15.0", **asked})
        return run_gate(request, self.options(**(options or {})), Plain(self.said))

    def results(self, out: str = "out") -> dict[str, Any]:
        with Record.open(self.folder / out / "record.sqlite") as record:
            newest = record.resolve("latest")
        return dict(json.loads((self.folder / out / newest / "results.json").read_text()))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def last(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_a_good_candidate_opens_the_gate(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.gate() == 0
    assert last(capsys) == "gate open: candidate pip:torch==2.15.0: all 29 cells are as expected"
    assert desk.results()["counts"]["pass"] == desk.results()["planned"] == 29


def test_a_regression_names_cell_rank_and_the_gates_own_rerun_command(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.gate(only_with("2.14.1", "candidate")) == 1
    out = capsys.readouterr().out
    assert "regression: meet/2.14.1,candidate/guard-off/venv" in out
    assert "rank 1  OPAQUE" in out
    assert "torchskew gate --declaration" in out
    assert "--candidate pip:torch==2.15.0 --runtime venv --only meet/2.14.1,candidate/guard-off/venv --no-cache" in out
    assert out.splitlines()[-1] == "gate shut: candidate pip:torch==2.15.0: 1 regression (meet with 2.14.1)"


def test_a_red_control_leaves_its_cells_unknown(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.gate(only_with("2.13.0", "2.13.0")) == 1
    assert "1 regression" not in capsys.readouterr().out
    status = {cell["id"]: (cell["status"], cell["verdict"]) for cell in desk.results()["cells"]}
    assert status["meet/candidate,2.13.0/guard-off/venv"] == ("unknown", "UNKNOWN")
    assert status["meet/candidate,2.14.1/guard-off/venv"] == ("expected", "PASS")


def test_a_candidate_that_cannot_be_made_shuts_the_gate_with_the_reason(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.runtime(right, broken=("candidate",))
    assert run_gate(Request(candidate="pip:torch==2.15.0"), desk.options(), Plain(desk.said)) == 1
    assert last(capsys).endswith("has no environment: candidate is broken by the test")


def test_a_baseline_makes_a_failure_known_and_speaks_of_more_than_was_selected(desk: Desk) -> None:
    entries = '[[expect]]\ncells = "meet/*,candidate/*"\nreason = "r"\n'
    (desk.folder / "baseline.toml").write_text(entries)

    def fails(version: str, job: Job) -> dict[str, Any]:
        return (wrong if job["skew"][-1] == "candidate" and len(job["skew"]) > 1 else right)(version, job)

    assert desk.gate(fails, options={"scenarios": ("meet",)}) == 0
    assert desk.gate(right, against=("2.13.0",), options={"scenarios": ("keys",)}) == 0
    stale = '[[expect]]\ncells = "gone/*"\nreason = "r"\n'
    (desk.folder / "baseline.toml").write_text(entries + stale)
    assert desk.gate(fails, options={"scenarios": ("meet",)}) == 1


def test_a_baseline_speaks_of_what_will_be_built_of_a_source_tree(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    only_scenarios(desk.monkeypatch, {**SCENARIOS, "keys": replace(SCENARIOS["keys"], build=False, tiers=("full",))})
    (desk.folder / "baseline.toml").write_text('[[expect]]\ncells = "meet/candidate,2.14.1/*"\nreason = "r"\n')
    (desk.folder / "torch").mkdir()
    (desk.folder / "torch" / "__init__.py").write_text("")
    (desk.folder / "version.txt").write_text("2.15.0a0\n")
    assert desk.gate(candidate=f"source:{desk.folder}", tier=Tier.SMOKE) == 0
    assert last(capsys) == f"gate open: candidate source:{desk.folder}: all 3 cells are as expected"
    assert "against 2.13.0, 2.14.1 · what needs no build · 3 cells" in desk.said.getvalue()


def test_a_baseline_speaks_of_every_declared_release_whether_the_matrix_lists_it_or_not(desk: Desk) -> None:
    (desk.folder / "torchskew.toml").write_text(f'{DECLARED}versions = ["2.13.0"]\n')
    entry = '[[expect]]\ncells = "meet/2.14.1,candidate/*"\nreason = "r"\n'
    (desk.folder / "baseline.toml").write_text(entry)
    assert desk.gate() == 0
    (desk.folder / "baseline.toml").write_text(entry.replace("2.14.1", "2.12.1"))
    assert desk.gate() == 1


def test_an_update_of_the_baseline_keeps_the_gate_shut_until_reasons_are_written(desk: Desk) -> None:
    reset = only_with("candidate", "2.13.0")

    def bad(version: str, job: Job) -> dict[str, Any]:
        return json.loads(json.dumps(reset(version, job)).replace("reset", "[[reset]]"))  # type: ignore[no-any-return]

    assert desk.gate(bad, update_baseline=True) == 1
    assert "appended 1 entry; write the reasons" in desk.said.getvalue()
    path = desk.folder / "baseline.toml"
    (entry,) = tomllib.loads(path.read_text())["expect"]
    assert entry["cells"] == "meet/candidate,2.13.0/guard-off/venv"
    with pytest.raises(ConfigError, match="reason is required: say why"):
        desk.gate(bad)
    path.write_text(path.read_text().replace('reason = ""', 'reason = "#7"'))
    assert desk.gate(bad) == 0
    assert desk.gate(right, options={"cache": False}) == 1


def test_only_what_changed_since_the_accepted_run_is_reported(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.gate()
    capsys.readouterr()
    assert desk.gate(only_with("candidate", "2.13.0"), options={"cache": False}) == 1
    out = capsys.readouterr().out
    assert "host \\ joiner" not in out
    assert "PASS -> FAIL OK/OPAQUE" in out
    assert "rank 1 2.13.0 (2.13.0) OK -> OPAQUE in run after 0.0 s: RuntimeError: reset" in out
    assert desk.results()["difference"].startswith("candidate pip:torch==2.15.0 is worse than the accepted run")
    desk.gate(options={"cache": False})
    assert "is the same as the accepted run" in capsys.readouterr().out


def test_a_run_of_other_releases_is_compared_cell_by_cell_and_one_of_the_same_with_everything(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.gate()
    capsys.readouterr()
    desk.gate(against=("2.13.0",))
    assert re.search(
        r"is the same as the accepted run \S+ in the 16 cells that both have; 13 gone cells were not compared\n",
        capsys.readouterr().out,
    )
    only_scenarios(desk.monkeypatch, {"keys": SCENARIOS["keys"], "meet": MEET})
    desk.gate()
    told = desk.results()["difference"]
    assert told.splitlines()[0].endswith(": 13 removed cells; 16 cells compared")
    assert "removed cell       work/2.13.0,2.13.0/guard-off/venv   PASS -> absent" in told


def test_the_newest_releases_are_those_of_the_declaration_whether_the_matrix_lists_them_or_not(desk: Desk) -> None:
    (desk.folder / "torchskew.toml").write_text(f'{DECLARED}versions = ["2.13.0"]\n')
    desk.gate(last=1)
    assert {name for cell in desk.results()["cells"] for name in cell["skew"]} == {"candidate", "2.14.1"}


def test_a_release_that_this_runtime_cannot_have_is_refused_with_the_fix(desk: Desk) -> None:
    (desk.folder / "torchskew.toml").write_text(DECLARED.replace("[matrix]", 'old = { debian = "bookworm" }\n[matrix]'))
    with pytest.raises(ConfigError, match=r"versions\.old comes from debian, which the venv runtime can't use\. Add"):
        desk.gate(against=("2.13.0", "old"))


def test_a_part_of_the_plan_never_becomes_the_measure(desk: Desk) -> None:
    desk.gate(options={"scenarios": ("keys",)})
    desk.gate(shard="1/2")
    with Record.open(desk.folder / "out" / "record.sqlite") as record:
        assert record.marks(Accepted) == ()


def test_the_base_is_run_beside_and_its_own_failures_do_not_count(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:

    def healthy(version: str, job: Job) -> dict[str, Any]:
        both = job["skew"][1:] == ["2.13.0"] and job["skew"][0] != "2.13.0" and job["rank"] == 1
        return (wrong if both else right)(version, job)

    assert desk.gate(healthy, base="pip:torch==2.15.0") == 0
    assert "with 1 known failure, 2 blocked" in last(capsys)
    assert desk.gate(healthy, options={"cache": False}) == 1


def test_repetitions_that_differ_are_flaky_and_kept(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[int] = []

    def once(version: str, job: Job) -> dict[str, Any]:
        if job["skew"] == ["candidate"]:
            seen.append(1)
            return wrong(version, job) if len(seen) == 2 else right(version, job)
        return right(version, job)

    assert desk.gate(once, repeat=3) == 1
    out = capsys.readouterr().out
    assert "1 flaky cell (keys alone)" in out.splitlines()[-1]
    assert "\n29 planned, each 3 times (87 runs) = " in out
    assert "29 cells, each 3 times: 87 runs · digest" in desk.said.getvalue()
    keys = next(cell for cell in desk.results()["cells"] if cell["id"] == "keys/candidate/guard-off/venv")
    assert keys["seen"] == ["PASS", "FAIL", "PASS"]
    assert main(["flakes", "--out", str(desk.folder / "out")]) == 0
    assert "1 of 3  33.3%" in capsys.readouterr().out
    assert report_again(desk.folder / "out", "latest", colour=False) == 1
    out = capsys.readouterr().out
    assert "1 flaky cell (keys alone)" in out.splitlines()[-1]
    assert "\n29 planned, each 3 times (87 runs) = " in out
    assert "29 cells, each 3 times: 87 runs · digest" in desk.said.getvalue()


def test_repetitions_and_resume_exclude_each_other(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="--repeat"):
        desk.gate(repeat=2, options={"resume": True})


def test_shards_merge_into_the_same_decision(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    bad = only_with("candidate", "2.13.0")
    folders = [desk.folder / f"part{index}" for index in (1, 2, 3)]
    for index, folder in enumerate(folders, 1):
        desk.gate(bad, shard=f"{index}/3", options={"out": folder})
    capsys.readouterr()
    assert merge(folders, desk.options(command="torchskew merge")) == 1
    assert last(capsys) == "gate shut: candidate pip:torch==2.15.0: 1 regression (meet with 2.13.0)"
    assert desk.results()["planned"] == 29
    with Record.open(desk.folder / "out" / "record.sqlite") as record:
        assert record.load().info.kind is RunKind.MERGE
    with Record.open(folders[0] / "record.sqlite") as record:
        assert record.load().info.kind is RunKind.GATE


def test_a_shard_that_did_not_arrive_is_an_error(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    part = desk.folder / "part1"
    desk.gate(shard="1/2", options={"out": part})
    assert main(["merge", str(part), "--out", str(desk.folder / "out")]) == 1
    assert "missing shards: 2 of 2, so nothing is decided." in capsys.readouterr().err


def test_a_folder_without_a_shard_is_an_error(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.gate()
    assert main(["merge", str(desk.folder / "out"), "--out", str(desk.folder / "m")]) == 1
    assert "holds no shard" in capsys.readouterr().err


def test_two_runs_can_be_compared(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(desk.folder / "out")
    desk.gate()
    with Record.open(desk.folder / "out" / "record.sqlite") as record:
        first = record.resolve("latest")
    desk.gate(only_with("candidate", "2.13.0"), options={"cache": False})
    capsys.readouterr()
    assert main(["diff", first, "latest", "--out", out]) == 1
    assert "worse than" in last(capsys)
    assert main(["diff", first, first, "--out", out]) == 0


@pytest.mark.parametrize("resume", [False, True])
def test_a_record_of_another_major_schema_is_refused_before_a_version_is_provided(desk: Desk, resume: bool) -> None:
    path = desk.folder / "out" / "record.sqlite"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as old:
        old.executescript(FIRST_RELEASE.read_text(encoding="utf-8"))
    with pytest.raises(RecordError, match=r"written by torchskew 0\.1\.0 in schema 1\.0; torchskew .* reads 2\.x"):
        desk.gate(options={"resume": resume})
    assert "versions" not in desk.said.getvalue()
    assert not (desk.folder / "cache").exists()


def test_a_dry_run_prints_the_plan_and_makes_nothing(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.gate(options={"dry_run": True}, tier=Tier.SMOKE) == 0
    assert len(capsys.readouterr().out.splitlines()) == 17
    assert not (desk.folder / "out").exists()


def test_the_declaration_can_say_what_the_command_line_leaves_open(desk: Desk) -> None:
    text = '[gate]\ncandidate = "pip:torch==2.15.0"\nagainst = ["2.14.1"]\ntier = "smoke"\nbaseline = "known.toml"\n'
    (desk.folder / "torchskew.toml").write_text(DECLARED + text)
    (desk.folder / "known.toml").write_text("")
    assert desk.gate(candidate="") == 0
    command = "--tier smoke --baseline .*known.toml --candidate pip:torch==2.15.0 --against 2.14.1 --runtime venv"
    assert re.search(command, desk.results()["cells"][0]["rerun"])
    skews = {tuple(cell["skew"]) for cell in desk.results()["cells"]}
    assert skews == {("candidate",), ("2.14.1",), ("candidate", "candidate"), ("2.14.1", "2.14.1"),
                     ("candidate", "2.14.1"), ("2.14.1", "candidate")}  # fmt: skip


def test_the_packages_of_the_gate_stand_in_every_environment_that_it_compares(desk: Desk) -> None:
    (desk.folder / "torchskew.toml").write_text(f'{DECLARED}[gate]\nrequires = ["numpy"]\n')
    made: list[Version] = []
    real = FakeRuntime.provision

    def provision(self: FakeRuntime, version: Version, progress: Any) -> Environment:
        made.append(version)
        return real(self, version, progress)

    desk.monkeypatch.setattr(FakeRuntime, "provision", provision)
    assert desk.gate() == 0
    assert {version.name: version.sources[0].requires for version in made} == dict.fromkeys(
        ("candidate", "2.13.0", "2.14.1"), ("numpy",)
    )
    made.clear()
    desk.gate(requires=("numpy<2",), index="file:///rc")
    assert {version.sources[0].requires for version in made} == {("numpy<2",)}
    assert {version.name: version.sources[0].index for version in made} == dict.fromkeys(("2.13.0", "2.14.1")) | {
        "candidate": "file:///rc"
    }
    assert "--index file:///rc" in desk.results()["cells"][0]["rerun"]
    assert "--requires 'numpy<2'" in desk.results()["cells"][0]["rerun"]
    (desk.folder / "torchskew.toml").write_text(f'{DECLARED}[gate]\nrequires = ["numpy=1"]\n')
    with pytest.raises(ConfigError, match=r"gate\.requires must be a requirement, got 'numpy=1'\. Write 'numpy==1'"):
        desk.gate()


def test_a_baseline_that_is_not_there_is_an_error(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        desk.gate(baseline=desk.folder / "none.toml")


@pytest.mark.parametrize("tier", Tier)
def test_the_command_line_knows_the_tiers(tier: Tier, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_parser().parse_args(["gate", "--tier", tier.value]).tier is tier
    with pytest.raises(SystemExit):
        make_parser().parse_args(["gate", "--tier", "small"])
    assert "'small'" in capsys.readouterr().err


def test_a_gate_without_a_candidate_says_how_to_name_one(desk: Desk) -> None:
    with pytest.raises(ConfigError, match=r"torchskew.toml: gate names no candidate. Give one: --candidate"):
        desk.gate(candidate="")


@pytest.mark.parametrize(
    ("gate", "options", "asked", "who"),
    [
        ("", {}, {}, "asked for"),
        ('[gate]\nruntime = "venv"\n', {"runtime": None}, {}, "declared"),
        ("", {"runtime": None}, {}, "declared"),
        ("", {"runtime": None}, {"candidate": f"interpreter:{sys.executable}"}, "the candidate needs it"),
    ],
)
def test_the_first_line_says_who_decided_the_runtime(
    desk: Desk, gate: str, options: dict[str, Any], asked: dict[str, Any], who: str
) -> None:
    (desk.folder / "torchskew.toml").write_text(DECLARED + gate)
    desk.gate(options={"dry_run": True, **options}, **asked)
    assert f"({who})" in desk.said.getvalue().splitlines()[0]


def test_the_command_line_reaches_the_gate_with_every_option(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.runtime()
    out = str(desk.folder / "out")
    line = [
        "gate",
        "--candidate",
        "pip:torch==2.15.0",
        "--against",
        "2.13.0",
        "-f",
        str(desk.folder / "torchskew.toml"),
    ]
    line += ["--tier", "smoke", "--timeout", "0.05", "--guard", "off", "--seed", "3", "-j", "2", "--out", out]
    line += ["--requires", "numpy", "--index", "file:///rc"]
    assert main([*line, "--only", "meet/*"]) == 0
    assert "all 4 cells are as expected" in last(capsys)
    assert main([*line, "--only", "gone/*"]) == 5
    assert main([*line, "--against-last", "none"]) == 4
    assert main([*line, "--repeat", "2", "--scenarios", "keys"]) == 0


def interrupt_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after some cells of the next run that starts from nothing."""
    real = run.Engine.run

    def interrupted(self: Any, known: Any) -> Any:
        for number, result in enumerate(real(self, known)):
            if number == count and not known:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(run.Engine, "run", interrupted)


def test_an_interrupted_gate_goes_on_where_it_stopped(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_after(5, monkeypatch)
    with pytest.raises(InterruptedRunError, match=r"5 of 29 cells are in the record; `torchskew gate --resume`"):
        desk.gate()
    assert desk.gate(options={"resume": True, "cache": False}) == 0
    assert desk.results()["planned"] == 29


def test_an_interrupted_shard_keeps_the_gate_shut_until_it_went_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [desk.folder / "part1", desk.folder / "part2"]
    desk.gate(shard="2/2", options={"out": folders[1]})
    interrupt_after(3, monkeypatch)
    with pytest.raises(InterruptedRunError):
        desk.gate(shard="1/2", options={"out": folders[0]})
    with pytest.raises(RecordError, match=r"part1: shard .* was interrupted. Go on with it"):
        merge(folders, desk.options())
    desk.gate(shard="1/2", options={"out": folders[0], "resume": True})
    assert merge(folders, desk.options()) == 0


def test_parts_are_balanced_by_an_earlier_record_and_by_nothing_else(desk: Desk) -> None:
    desk.gate()
    parts = []
    for index in (1, 2):
        folder = desk.folder / f"part{index}"
        desk.gate(shard=f"{index}/2", balance=desk.folder / "out", options={"out": folder})
        parts.append(folder)
    assert merge(parts, desk.options()) == 0
    desk.gate(shard="2/2", options={"out": parts[1]})
    with pytest.raises(RecordError, match="balanced by different records"):
        merge(parts, desk.options())


def test_shards_of_another_baseline_or_environment_do_not_merge(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [desk.folder / "part1", desk.folder / "part2"]
    desk.gate(shard="1/2", options={"out": folders[0]})
    (desk.folder / "baseline.toml").write_text('[[expect]]\ncells = "keys/2.13.0/*"\nreason = "r"\nverdict = "PASS"\n')
    made = FakeRuntime.provision

    def rebuilt(self: FakeRuntime, version: Version, progress: Any) -> Environment:
        return replace(made(self, version, progress), identity="rebuilt")

    monkeypatch.setattr(FakeRuntime, "provision", rebuilt)
    desk.gate(shard="2/2", options={"out": folders[1]})
    with pytest.raises(RecordError) as caught:
        merge(folders, desk.options())
    assert "part2 ran another environment of candidate than" in str(caught.value)
    assert "part2 was held against another baseline than" in str(caught.value)
