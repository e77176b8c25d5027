"""The pytest plugin: cells as items that behave, mixed groups in people's own tests, nothing left running."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from torchskew.model.versions import Environment

pytest_plugins = ("pytester",)

# Scripted versions: 2.0.0 fails as rank 1 beside another release, and hangs when a test asks for it.
SCRIPTED = """
from dataclasses import replace
from torchskew.runtimes import choice
from torchskew.planning import plan
from torchskew.pytest import cells as pytest_cells
from torchskew.model.outcomes import Kind
from torchskew.runtimes.fake import FakeRuntime, HANG, ended
from torchskew.planning.scenario import Scenario

MEET = Scenario(name="meet", promise="p", doc="d", source="m", path="", judge=lambda reports, world: {})
SCENARIOS = {"keys": replace(MEET, name="keys", source="k", kind=Kind.SOLO, world=(1, 1)), "meet": MEET,
             "work": replace(MEET, name="work", source="w", after=("meet",))}

def script(version, job):
    if job["params"].get("hang"):
        return {HANG: True}
    if version == "2.0.0" and job["rank"] == 1 and len(set(job["skew"])) > 1:
        error = {"type": "RuntimeError", "text": "reset by peer"}
        return ended(version, exit_code=1, error=error, error_after=0.01, phase="run")
    return ended(version, finished=True, payload={"rank": job["rank"], "env": job["env"], "job": job}, phase="done")

RUNTIME = FakeRuntime(script)
choice.choose = lambda asked, versions, decided_by: choice.Chosen(runtime=RUNTIME, why=decided_by)
pytest_cells.read_scenarios = lambda: SCENARIOS
plan.HANG_GRACE = 0.3
"""
DECLARED = """
[versions]
"1.0.0" = { pip = "torch==1.0.0" }
"2.0.0" = { pip = "torch==2.0.0" }
[matrix]
runtime = "venv"
timeout = 0.05
"""
KNOWN = '[[expect]]\ncells = "meet/1.0.0,2.0.0/*"\nreason = "known since 2.0"\n'
OWN = """
from torchskew.model.outcomes import Outcome

def work(job):
    return {"rank": job.rank}

"""


class Desk:
    """A folder with a declaration, scripted versions, and pytest with the plugin."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "cache"))
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2] / "harness"))
        pytester.makeconftest(SCRIPTED)
        self.write("torchskew.toml", DECLARED)

    def write(self, name: str, text: str) -> None:
        (self.pytester.path / name).write_text(text)

    def options(self, *, cache: bool = False) -> tuple[str, ...]:
        plugins = ("-p", "no:hypothesispytest", "-p", "no:cov", *(() if cache else ("-p", "no:cacheprovider")))
        # Installed, the plugin loads by itself; from a checkout it is named.
        ours = () if entry_points(group="pytest11", name="torchskew") else ("-p", "torchskew.pytest.plugin")
        return (*ours, *plugins)

    def run(self, *options: str, cache: bool = False) -> pytest.RunResult:
        return self.pytester.runpytest_subprocess(*self.options(cache=cache), *options)

    def cells(self, *options: str) -> pytest.RunResult:
        return self.run("--torchskew", "torchskew.toml", *options)


@pytest.fixture
def desk(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(pytester, monkeypatch)


pytestmark = pytest.mark.slow


def test_the_cells_of_the_plan_are_the_items_and_listing_them_runs_nothing(desk: Desk) -> None:
    result = desk.cells("--collect-only", "-q")
    assert result.ret == 0
    listed = [line for line in result.outlines if line.startswith("torchskew.toml::")]
    assert len(listed) == 10
    assert "torchskew.toml::work/2.0.0,1.0.0/guard-off/venv" in listed
    assert not (desk.pytester.path / "cache").exists()


def test_verdicts_are_pytests_outcomes_and_a_failure_shows_every_rank(desk: Desk) -> None:
    result = desk.cells("-v")
    assert result.ret == 1
    result.assert_outcomes(passed=8, failed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "torchskew.toml::meet/1.0.0,2.0.0/guard-off/venv FAILED*",
            "torchskew.toml::work/1.0.0,2.0.0/guard-off/venv SKIPPED*",
            "*cell meet/1.0.0,2.0.0/guard-off/venv*",
            "regression",
            "rank  version  torch  outcome  phase *error",
            "0     1.0.0    1.0.0  OK       done *",
            "1     2.0.0    2.0.0  OPAQUE   run *RuntimeError: reset by peer",
        ]
    )


def test_a_known_failure_is_an_expected_failure_and_one_that_passes_is_red(desk: Desk) -> None:
    desk.write("expectations.toml", KNOWN)
    desk.cells().assert_outcomes(passed=8, xfailed=1, skipped=1)
    desk.write("expectations.toml", KNOWN.replace("1.0.0,2.0.0", "1.0.0,*"))
    result = desk.cells()
    result.assert_outcomes(passed=7, failed=1, xfailed=1, skipped=1)
    result.stdout.fnmatch_lines(["unexpected pass*", "*meet/1.0.0,1.0.0/guard-off/venv: PASS*"])


def test_an_expectation_that_matches_nothing_is_an_error(desk: Desk) -> None:
    desk.write("expectations.toml", KNOWN.replace("meet/", "gone/"))
    result = desk.cells()
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*'gone/1.0.0,2.0.0/*' matches no planned cell*"])


def test_expressions_select_by_scenario_and_by_skew(desk: Desk) -> None:
    desk.cells("-k", "meet and 2.0.0+1.0.0").assert_outcomes(passed=1, deselected=9)
    one = "torchskew.toml::keys/1.0.0/guard-off/venv"
    desk.run("--torchskew", "torchskew.toml", one).assert_outcomes(passed=1)


def test_stopping_at_the_first_failure_leaves_nothing_running(desk: Desk) -> None:
    result = desk.cells("-x")
    assert result.ret == 1
    assert result.parseoutcomes()["failed"] == 1
    runs = desk.pytester.path / "cache" / "torchskew" / "runs"
    assert list(runs.iterdir()) == []


def test_junit_has_a_case_per_cell_with_its_outcomes(desk: Desk) -> None:
    desk.cells("--junitxml", "junit.xml")
    cases = ET.parse(desk.pytester.path / "junit.xml").getroot().findall(".//testcase")
    assert len(cases) == 10
    failed = next(case for case in cases if case.get("name") == "meet/1.0.0,2.0.0/guard-off/venv")
    properties = {one.get("name"): one.get("value") for one in failed.iter("property")}
    assert (properties["verdict"], properties["outcomes"]) == ("FAIL", "OK,OPAQUE")


def test_workers_of_xdist_share_the_cells_and_blocked_ones_stay_blocked(desk: Desk) -> None:
    result = desk.cells("-n", "2")
    result.assert_outcomes(passed=8, failed=1, skipped=1)


def test_a_version_that_cannot_be_made_is_an_error_of_its_cells_alone(desk: Desk) -> None:
    desk.pytester.makeconftest(SCRIPTED.replace("FakeRuntime(script)", 'FakeRuntime(script, broken=("2.0.0",))'))
    result = desk.cells("-k", "keys")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["not run, the machine's fault: keys/2.0.0/*no environment for 2.0.0*"])


def test_cells_and_ordinary_tests_run_together_when_both_are_named(desk: Desk) -> None:
    desk.pytester.makepyfile("def test_own(): pass")
    desk.cells().assert_outcomes(passed=8, failed=1, skipped=1)
    named = str(next(desk.pytester.path.glob("test_*.py")))
    desk.run(named, "--torchskew", "torchskew.toml").assert_outcomes(passed=9, failed=1, skipped=1)


def test_a_declaration_that_is_not_there_or_wrong_is_an_error_in_words(desk: Desk) -> None:
    result = desk.run("--torchskew", "gone.toml")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--torchskew gone.toml: there is no such file*"])
    desk.write("torchskew.toml", "[versions]\nx = {}\n")
    result = desk.cells()
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*versions.x has no source*"])


def own_test(desk: Desk, body: str, *options: str) -> pytest.RunResult:
    desk.pytester.makepyfile(OWN + body)
    return desk.run(*options)


def test_a_mixed_group_runs_a_function_of_the_test(desk: Desk) -> None:
    result = own_test(
        desk,
        """
def test_group(torchskew_group):
    group = torchskew_group(["2.0.0", "1.0.0"], work, env={"A": "1"}, rank_env={1: {"A": "2"}})
    assert group.right_or_refused() and group.right()
    assert group.rank(1).ok and group.rank(1).error is None and group.rank(1).torch == "1.0.0"
    assert [group.rank(n).payload["env"]["A"] for n in (0, 1)] == ["1", "2"]
    assert repr(group) == "<group 2.0.0,1.0.0: PASS, OK/OK>"

def test_larger_world(torchskew_group):
    group = torchskew_group(["2.0.0", "1.0.0"], work, world_size=3)
    assert [rank.declared for rank in group.result.ranks] == ["2.0.0", "1.0.0", "2.0.0"]

def test_one_alone(torchskew_group):
    assert torchskew_group("1.0.0", work).right()

def test_expected_refusal(torchskew_group):
    group = torchskew_group(["1.0.0", "2.0.0"], work)
    assert group.outcomes == (Outcome.OK, Outcome.OPAQUE)
    assert "reset" in group.rank(1).error.text
""",
    )
    result.assert_outcomes(passed=4)


def test_a_failed_assertion_shows_every_rank_of_every_group(desk: Desk) -> None:
    result = own_test(
        desk,
        """
def test_group(torchskew_group):
    assert torchskew_group(["1.0.0", "2.0.0"], work).right_or_refused()
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*AssertionError: not right or refused: rank 0 OK; rank 1 OPAQUE after 0.0 s: RuntimeError: reset by peer",
            "*torchskew group 1.0.0,2.0.0*",
            "1     2.0.0    2.0.0  OPAQUE   run *RuntimeError: reset by peer",
        ]
    )


def test_a_hanging_rank_does_not_hang_the_test(desk: Desk) -> None:
    result = own_test(
        desk,
        """
def test_group(torchskew_group):
    group = torchskew_group(["1.0.0", "1.0.0"], work, timeout=0.05, params={"hang": True})
    assert group.outcomes == (Outcome.HANG, Outcome.HANG)
    assert group.right()
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*rank 0 HANG: no exit within 0 s, in rendezvous at rank -> _store_based_barrier -> wait;*",
            "*rank 0 of 1.0.0,1.0.0 (1.0.0, HANG): where it was*",
            "Current thread 0x2 (most recent call first):",
            '  File "/torch/store.py", line 3 in wait',
            "*rank 1 of 1.0.0,1.0.0 (1.0.0, HANG): where it was*",
            '  File "/torch/store.py", line 3 in wait',
        ]
    )


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            "torchskew_group(['9.x'], work)",
            "*version '9.x' is neither declared nor a release. Declared: 1.0.0, 2.0.0.*",
        ),
        ("torchskew_group(work)", "*needs versions, or a test with @pytest.mark.torchskew*"),
        ("torchskew_group(['1.0.0'], work, env={'PYTHONPATH': 'lib'})", "*PYTHONPATH*Use pythonpath=*"),
        ("torchskew_group(['1.0.0'], work, rank_env={0: {'OMP_NUM_THREADS': '2'}})", "*OMP_NUM_THREADS*`env` of*"),
        ("torchskew_group(['1.0.0'], work, data=['gone'])", "*data names */gone, which is no folder*"),
        ("torchskew_group(['1.0.0'], work, launcher='slurm')", '*launcher must be "torchrun"*'),
        ("torchskew_group(['1.0.0'], work, world_size=3, ranks_per_node=2)", "*3 is no multiple of ranks_per_node 2*"),
        ("torchskew_group(['1.0.0'], script='gone.py', launcher='torchrun', guard=True)", "*guard can't take effect*"),
        ("torchskew_group.handover(['1.0.0', '2.0.0', '1.0.0'], work, work)", "*needs 1 or 3 functions*"),
        ("torchskew_group(['1.0.0'])", "*needs either a rank function or script=PATH*"),
        ("torchskew_group(['1.0.0'], lambda job: {})", "*must be a plain function (def)*"),
        ("torchskew_group(['1.0.0'], script='gone.py')", "*the script*gone.py can't be read*"),
        ("torchskew_group(['1.0.0'], work, timout=3)", "*has no argument 'timout'*"),
        ("torchskew_group(['1.0.0'], closing(7))", "*uses number of the enclosing function*"),
    ],
)
def test_what_cannot_run_is_refused_in_words(desk: Desk, call: str, told: str) -> None:
    body = "def closing(number):\n    def inner(job):\n        return {'n': number}\n    return inner\n"
    result = own_test(desk, f"{body}\ndef test_group(torchskew_group):\n    {call}\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([told])
    assert not [line for line in result.outlines if re.match(r"\S*/torchskew/\S+\.py:\d+", line)]


def test_all_frames_of_torchskew_show_when_asked_for(desk: Desk) -> None:
    result = own_test(desk, "def test_wrong(torchskew_group):\n    torchskew_group(work, timout=3)\n", "--full-trace")
    result.stdout.fnmatch_lines(["*/torchskew/pytest/conditions.py:*: TypeError"])


def test_a_mark_runs_a_test_over_the_declared_skews_and_guards(desk: Desk) -> None:
    body = """
import pytest

@pytest.mark.torchskew(pairs="neighbours", world_size=[2, 3], guard=[False, True])
def test_all(torchskew_group):
    group = torchskew_group(work)
    assert group.versions == torchskew_group.versions
    assert len(group.outcomes) == len(group.versions)
"""
    result = own_test(desk, body, "--collect-only", "-q")
    names = [line.partition("[")[2] for line in result.outlines if "test_all[" in line]
    assert len(names) == 2 * (4 + 8)
    assert "2.0.0+1.0.0-guard-on]" in names
    assert "1.0.0+2.0.0+1.0.0-guard-off]" in names
    desk.run("-k", "2.0.0+1.0.0 and guard-on").assert_outcomes(passed=5, deselected=19)


def test_what_a_call_and_the_settings_say_of_the_ranks_surroundings_reaches_them(desk: Desk) -> None:
    desk.write("torchskew.toml", DECLARED + '[ranks]\npythonpath = ["lib"]\n')
    for name in ("lib", "own", "data"):
        (desk.pytester.path / name).mkdir()
    body = """
def test_group(torchskew_group, request):
    here = request.path.parent
    how = {"pythonpath": ["own"], "data": ["data"], "cwd": "data", "ranks_per_node": 2, "nodes": 2}
    jobs = [rank.payload["job"] for rank in torchskew_group(["1.0.0"], work, **how).result.ranks]
    assert jobs[0]["paths"] == [str(here / "own"), str(here), str(here / "lib")]
    assert (jobs[0]["data"], jobs[0]["cwd"], jobs[0]["keep"]) == ([str(here / "data")], str(here / "data"), False)
    assert [(job["rank"], job["world_size"], job["ranks_per_node"]) for job in jobs] == [(n, 4, 2) for n in range(4)]

def test_plain(torchskew_group, request):
    job = torchskew_group("1.0.0", work).rank(0).payload["job"]
    assert (job["cwd"], job["data"], job["ranks_per_node"]) == (".", [], 1)
    assert torchskew_group("1.0.0", work, keep=True).rank(0).payload["job"]["keep"]
"""
    own_test(desk, body).assert_outcomes(passed=2)


def test_a_handover_runs_a_function_for_each_version_one_after_another(desk: Desk) -> None:
    body = """
def load(job):
    return {"rank": job.rank}

def test_two(torchskew_group):
    group = torchskew_group.handover(["2.0.0", "1.0.0"], work, load, params={"a": 1})
    assert group.right() and group.versions == ("2.0.0", "1.0.0")
    assert (group.result.cell.kind, group.result.cell.scenario[:10]) == ("handover", "work-load-")
    assert [rank.payload["job"]["share"] for rank in group.result.ranks] == [group.rank(0).payload["job"]["share"]] * 2

def test_the_second_waits_for_the_first_to_be_right(torchskew_group):
    group = torchskew_group.handover(["1.0.0", "2.0.0", "1.0.0"], work)
    assert group.outcomes == (Outcome.OK, Outcome.OPAQUE, Outcome.NOT_RUN)
"""
    own_test(desk, body).assert_outcomes(passed=2)


def test_a_slow_import_of_torch_is_said_done_ahead_and_remembered(desk: Desk) -> None:
    slow = 'phase="done", slow_imports={"torch._dynamo": 1.2} if job["params"].get("slow") else {})'
    desk.pytester.makeconftest(SCRIPTED.replace('"job": job}, phase="done")', f'"job": job}}, {slow}'))
    desk.write("torchskew.toml", DECLARED + '[ranks]\nwarm = ["torch.fx"]\n')
    body = """
import conftest

def imported():
    return [channel.imported for channel in conftest.RUNTIME.open_channels]

def test_first(torchskew_group):
    torchskew_group("1.0.0", work, warm=["torch.hub"], params={"slow": True})
    torchskew_group("1.0.0", work)
    assert imported() == [["torch.fx", "torch.hub", "torch._dynamo"]]
"""
    desk.pytester.makepyfile(OWN + body)
    first = desk.run(cache=True)
    first.assert_outcomes(passed=1)
    first.stdout.fnmatch_lines(["torch._dynamo took a rank 1.2 s to import; each version has imported it ahead since*"])
    body = body.replace('["torch.fx", "torch.hub", "torch._dynamo"]', '["torch._dynamo", "torch.fx"]')
    desk.pytester.makepyfile(OWN + body.replace(', warm=["torch.hub"], params={"slow": True}', ""))
    again = desk.run(cache=True)
    again.assert_outcomes(passed=1)
    again.stdout.no_fnmatch_line("*took a rank*")


def test_agents_of_every_version_that_the_selected_tests_choose_start_with_the_first(desk: Desk) -> None:
    body = """
import conftest
import pytest

@pytest.mark.torchskew(pairs=[["1.0.0", "1.0.0"], ["2.0.0", "2.0.0"]])
def test_all(torchskew_group, pytestconfig):
    torchskew_group(work)
    assert conftest.RUNTIME.started == (1 if pytestconfig.option.keyword else 2)
"""
    own_test(desk, body).assert_outcomes(passed=2)
    desk.run("-k", "1.0.0+1.0.0").assert_outcomes(passed=1, deselected=1)


def test_a_mark_that_says_nothing_sensible_is_an_error_of_the_collection(desk: Desk) -> None:
    body = """
import pytest

@pytest.mark.torchskew(pair="all")
def test_misspelt(torchskew_group): ...

@pytest.mark.torchskew(versions=["1.0.0", "9.9.9"])
def test_undeclared(torchskew_group): ...
"""
    desk.pytester.makepyfile(OWN + body)
    result = desk.run()
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*no argument 'pair'; it has pairs, versions, world_size, guard*"])
    desk.pytester.makepyfile(OWN + body.replace('pair="all"', 'pairs="all"'))
    desk.run().stdout.fnmatch_lines(["*names '9.9.9', which is not declared. Declared: 1.0.0, 2.0.0.*"])


def test_a_version_that_a_mark_chose_and_that_cannot_be_had_skips_with_the_reason(desk: Desk) -> None:
    desk.pytester.makeconftest(SCRIPTED.replace("FakeRuntime(script)", 'FakeRuntime(script, broken=("2.0.0",))'))
    body = """
import pytest

@pytest.mark.torchskew(pairs="neighbours")
def test_all(torchskew_group):
    assert torchskew_group(work).right()

def test_named(torchskew_group):
    assert torchskew_group(["2.0.0"], work).right()
"""
    result = own_test(desk, body, "-rs")
    result.assert_outcomes(passed=1, skipped=3, failed=1)
    result.stdout.fnmatch_lines(["*SKIPPED*no environment for 2.0.0: 2.0.0 is broken by the test*"])


ENDED = """
import pathlib
from torchskew.runtimes.fake import FakeChannel

def close(self, end=FakeChannel.close):
    pathlib.Path("ended").touch()
    end(self)

FakeChannel.close = close
"""
HANGS = """
def test_kept(torchskew_group):
    assert torchskew_group(["1.0.0"], work, params={"hang": True}).right()

def test_after_it(): ...
"""


def test_how_to_look_inside_a_kept_group_is_said_at_once_and_pytest_waits_at_a_terminal(desk: Desk) -> None:
    desk.pytester.makeconftest(SCRIPTED + ENDED)
    desk.pytester.makepyfile(OWN + HANGS)
    lines = until_it_waits(desk, "-v", "--torchskew-keep")
    said = next(number for number, line in enumerate(lines) if line.startswith("alive until pytest ends: rank 0 of"))
    assert said < next(number for number, line in enumerate(lines) if "test_after_it" in line)
    assert any("short test summary" in line for line in lines[: lines.index("not ended")])
    assert lines[-1] == "ended"


def until_it_waits(desk: Desk, *options: str) -> list[str]:
    """What pytest prints to someone at a terminal, whether it had ended its ranks when it waited, and after Enter."""
    master, slave = os.openpty()
    lines = []
    ended = desk.pytester.path / "ended"
    with desk.pytester.popen([sys.executable, "-m", "pytest", *desk.options(), *options], stdin=slave) as process:
        os.close(slave)
        for line in process.stdout or ():
            lines.append(line.decode().rstrip())
            if "Press Enter" in lines[-1]:
                lines.append("ended" if ended.exists() else "not ended")
                os.write(master, b"\n")
    os.close(master)
    return [*lines, "ended" if ended.exists() else "not ended"]


def test_kept_groups_hold_no_pytest_up_that_nobody_watches_and_need_its_own_process(desk: Desk) -> None:
    result = own_test(desk, HANGS, "--torchskew-keep")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*Press Enter*")
    many = desk.run("--torchskew-keep", "-n", "2")
    assert many.ret == 4
    many.stderr.fnmatch_lines(["*--torchskew-keep needs the tests in pytest's own process. Add -n0*"])


def test_what_each_rank_printed_is_a_section_and_whole_when_asked_for(desk: Desk) -> None:
    talkative = SCRIPTED.replace('error_after=0.01, phase="run")', 'error_after=0.01, phase="run") | {"log": LOG}')
    desk.pytester.makeconftest(f"LOG = ''.join(f'line {{n}}.\\n' for n in range(40))\n{talkative}")
    body = "def test_group(torchskew_group):\n    assert torchskew_group(['1.0.0', '2.0.0'], work).right()\n"
    short = own_test(desk, body)
    short.stdout.fnmatch_lines(["*rank 1 of 1.0.0,2.0.0 (2.0.0, OPAQUE): output*", "*28 lines before; -vv has all*"])
    short.stdout.no_fnmatch_line("line 3.")
    assert not [line for line in short.outlines if "pytest/group.py" in line or "pytest/runner.py" in line]
    desk.run("-vv").stdout.fnmatch_lines(["line 0.", "line 39."])


def test_a_release_needs_no_declaration(desk: Desk) -> None:
    (desk.pytester.path / "torchskew.toml").unlink()
    result = own_test(
        desk,
        """
def test_group(torchskew_group):
    assert torchskew_group(["3.1.0", "3.1.0"], work, guard=True).right()
""",
        "--torchskew-runtime",
        "venv",
    )
    result.assert_outcomes(passed=1)


@pytest.mark.torch
def test_the_example_of_the_documentation_runs_as_it_stands(desk: Desk, torch_environment: Environment) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "pytest.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (desk.pytester.path / "conftest.py").unlink()
    names = "\n".join(f'"{name}" = {{ interpreter = "{torch_environment.handle}" }}' for name in ("2.13.0", "2.6.0"))
    desk.write("torchskew.toml", f'[versions]\n{names}\n[matrix]\nruntime = "venv"\n')
    desk.write("test_example.py", example)
    result = desk.run("test_example.py")
    result.assert_outcomes(passed=example.count("def test_"))


@pytest.mark.docker
def test_a_mixed_group_of_a_test_runs_in_containers(desk: Desk) -> None:
    (desk.pytester.path / "conftest.py").unlink()
    desk.write("torchskew.toml", '[versions]\nold = { debian = "bullseye" }\nnew = { debian = "forky" }\n')
    desk.write("train.py", "import torch.distributed as dist\ndist.init_process_group('gloo')\ndist.barrier()\n")
    result = own_test(
        desk,
        """
def meet(job):
    job.rendezvous()
    return {"torch": job.rank}

def test_refused(torchskew_group):
    group = torchskew_group(["old", "new"], meet, guard=True)
    assert group.refused()
    assert [group.rank(number).torch.split("+")[0][:4] for number in (0, 1)] == ["1.7.", "2.14"]
    assert group.result.cell.id.endswith("/docker")

def test_right(torchskew_group):
    assert torchskew_group(["new", "new"], script="train.py").right()
""",
        "--torchskew-runtime",
        "docker",
    )
    result.assert_outcomes(passed=2)


@pytest.mark.docker
def test_containers_see_the_code_of_a_test_and_its_data_and_a_failed_group_is_kept(desk: Desk) -> None:
    (desk.pytester.path / "conftest.py").unlink()
    desk.write("torchskew.toml", '[versions]\nnew = { debian = "forky" }\n')
    for name, text in {"beside.py": "NAME = 'beside'", "lib/path.py": "NAME = 'path'", "data/numbers": "1 2"}.items():
        (desk.pytester.path / name).parent.mkdir(exist_ok=True)
        desk.write(name, text)
    desk.write("train.py", "import beside\nprint(beside.NAME, open('data/numbers').read())\n")
    body = """
def names(job):
    import beside, path
    return {"names": [beside.NAME, path.NAME]}

def writes(job):
    with open(job.params["file"]) as file:
        read = file.read()
    try:
        open(job.params["file"], "a").close()
    except OSError as error:
        return {"read": read, "writing": error.strerror}
    return {"read": read, "writing": "allowed"}

def fails(job):
    raise RuntimeError("as asked")

HOW = {"pythonpath": ["lib"], "data": ["data"]}  # the same folders, the same container

def test_code(torchskew_group):
    group = torchskew_group("new", names, **HOW)
    assert group.right()
    assert group.rank(0).payload["names"] == ["beside", "path"]

def test_data(torchskew_group, request):
    file = str(request.path.parent / "data" / "numbers")
    group = torchskew_group("new", writes, params={"file": file}, **HOW)
    assert group.right()
    assert group.rank(0).payload == {"read": "1 2", "writing": "Read-only file system"}

def test_script(torchskew_group):
    group = torchskew_group("new", script="train.py", cwd=".", **HOW)
    assert group.right()
    assert group.rank(0).log == "beside 1 2\\n"

KEPT = []

def test_kept(torchskew_group):
    group = torchskew_group("new", fails, **HOW)
    KEPT.append(group.rank(0).facts.inside)
    assert group.right()

def test_kept_until_the_end():
    container, pid = re.fullmatch(r"docker exec -it (\\w+) sh -c 'cat /proc/(\\d+)/status; exec sh'", KEPT[0]).groups()
    status = subprocess.check_output(["docker", "exec", container, "cat", f"/proc/{pid}/status"], text=True)
    assert "State:\\tS" in status
"""
    result = own_test(desk, "import re, subprocess\n" + body, "--torchskew-runtime", "docker", "--torchskew-keep")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["*rank 0 of new (new, OPAQUE): alive until pytest ends*", "docker exec -it *"])
    container = next(line for line in result.outlines if line.startswith("docker exec -it ")).split()[3]
    assert subprocess.check_output(["docker", "ps", "--all", "--quiet", "--filter", f"id={container}"]) == b""
