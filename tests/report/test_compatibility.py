"""The page says per pair of eras what works, what breaks and how, out of the recorded cells and nothing else."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from torchskew.judging.decide import decide
from torchskew.model.cells import Cell
from torchskew.model.declared import MatrixSpec
from torchskew.model.outcomes import Guard, Outcome, Verdict
from torchskew.model.reruns import Rerun
from torchskew.model.results import CellResult
from torchskew.model.runs import Run, RunInfo, RunKind
from torchskew.model.versions import Source, SourceKind, Version
from torchskew.planning.plan import make_plan
from torchskew.planning.schedule import blocked
from torchskew.report import pairs
from torchskew.report.compatibility import Measured, page
from torchskew.workflows.inputs import read_scenarios

NAMES = ("2.1.2", "2.2.2", "2.3.1", "2.6.0")
OK, OPAQUE, TIMEOUT, CLEAR = Outcome.OK, Outcome.OPAQUE, Outcome.TIMEOUT, Outcome.CLEAR


def came(cell: Cell) -> CellResult:
    """Nobody meets across 2.2; 2.6 hosts 2.2 and 2.3, not the other way; the checkpoint of 2.6 is read by none else."""
    first, second = cell.skew if len(cell.skew) == 2 else (cell.skew[0],) * 2
    number = NAMES.index
    if cell.scenario == "export_files" and "2.1.2" in cell.skew:
        text = "2.1.2: ImportError: no export"
        return CellResult(
            cell=cell, verdict=Verdict.UNSUPPORTED, outcomes=(Outcome.UNSUPPORTED,) * len(cell.skew), reason=text
        )
    odd = {
        "rendezvous_tcp": (number(first) == 0) != (number(second) == 0) or (first in NAMES[1:3] and second == "2.6.0"),
        "checkpoint_dcp": first == "2.6.0" and second != "2.6.0",
    }
    if odd.get(cell.scenario):
        return CellResult(cell=cell, verdict=Verdict.FAIL, outcomes=(TIMEOUT, OPAQUE), reason="no")
    skipped = {"case x": "2.2.2: RuntimeError: no x"} if "2.2.2" in cell.skew else {}
    ranks = (OK,) * len(cell.skew)
    return CellResult(cell=cell, verdict=Verdict.PASS, outcomes=ranks, reason="right", skipped=skipped)


@pytest.fixture
def run() -> Run:
    versions = {
        name: Version(name=name, sources=(Source(kind=SourceKind.PIP, value=f"torch=={name}"),), torch=name)
        for name in NAMES
    }
    scenarios = ("rendezvous_tcp", "broadcast", "checkpoint_dcp", "export_files")
    plan = make_plan(MatrixSpec(versions=NAMES, scenarios=scenarios), versions, read_scenarios(), "venv")
    known = {cell.id: came(cell) for cell in plan.cells if cell.scenario != "broadcast"}
    known |= {result.cell.id: result for result in blocked(plan.cells, known)}
    known |= {cell.id: came(cell) for cell in plan.cells if cell.id not in known}
    info = RunInfo(
        run_id="20261121-160000-abcdef", kind=RunKind.SURVEY, command="torchskew survey --measure",
        seed=0, torchskew="0.1.0", runtime="uv", runtime_why="asked for", plan_digest=plan.digest,
        started="2026-11-21T16:00:00+00:00",
        finished="2026-11-21T16:02:05+00:00", environments=dict.fromkeys(NAMES, "sha256:0123456789abcdef"),
        rerun=Rerun().with_option("-f", "docs/compatibility.toml").with_option("--runtime", "venv"),
    )  # fmt: skip
    return Run(info=info, plan=plan, results=tuple(known[cell.id] for cell in plan.cells))


def written(run: Run) -> str:
    decision = decide(run.plan, run.results, (), today=dt.date(2026, 11, 21))
    return page([Measured(run=run, decision=decision, origins=("one", "two"))], "torchskew survey RUN")


def section(text: str, title: str) -> str:
    return text.partition(f"{title}")[2].partition("\n#")[0]


def test_eras_are_neighbours_that_speak_alike(run: Run) -> None:
    assert [era.name for era in pairs.eras_of(run)] == ["2.1.2", "2.2.2-2.3.1", "2.6.0"]


def test_the_head_names_the_command_and_the_run(run: Run) -> None:
    text = written(run)
    assert "make survey" in text.partition("##")[0]
    assert "Run `20261121-160000-abcdef`, 2026-11-21, uv: 80 cells in 2 min 05 s: " in text


def test_cells_that_ran_in_earlier_runs_name_those(run: Run) -> None:
    kept = replace(run, results=tuple(replace(one, cached=True) for one in run.results))
    text = written(kept)
    assert "80 cells: " in text
    assert " 80 of them had not changed since they ran in `one` and `two`. Every line" in text


def test_a_pair_of_eras_says_what_works_what_breaks_and_what_stands_in_the_way(run: Run) -> None:
    there = section(written(run), "#### 2.2.2-2.3.1,2.6.0 (2 pairs, 10 cells)")
    assert "- **works**: checkpoint_dcp, export_files" in there
    assert "- **breaks**: rendezvous_tcp TIME/OPQ" in there
    assert "- **blocked**: 1 scenario by rendezvous_tcp" in there
    back = section(written(run), "#### 2.6.0,2.2.2-2.3.1 (2 pairs, 10 cells)")
    assert "- **works**: export_files, rendezvous_tcp, broadcast" in back
    assert "- **breaks**: checkpoint_dcp.one TIME/OPQ; checkpoint_dcp.resharded TIME/OPQ" in back


def test_what_only_some_pairs_do_names_them(run: Run) -> None:
    odd = [
        replace(one, verdict=Verdict.FAIL, outcomes=(OK, Outcome.WRONG))
        if (one.cell.scenario, one.cell.skew) == ("export_files", ("2.2.2", "2.3.1"))
        else one
        for one in run.results
    ]
    there = section(written(replace(run, results=tuple(odd))), "#### 2.2.2-2.3.1,2.2.2-2.3.1 (4 pairs, 20 cells)")
    assert "- **breaks**: export_files OK/WRONG (2.2.2,2.3.1)" in there
    assert "export_files (3 of 4)" in there


def test_a_clear_refusal_is_no_success_and_no_failure(run: Run) -> None:
    refused = tuple(
        replace(one, outcomes=(CLEAR, CLEAR)) if one.cell.scenario == "export_files" and one.verdict == "PASS" else one
        for one in run.results
    )
    there = section(written(replace(run, results=refused)), "#### 2.6.0,2.6.0 (1 pair, 5 cells)")
    assert "- **refuses clearly**: export_files" in there
    assert "export_files" not in there.partition("refuses")[0]


def test_releases_that_act_alike_share_a_line_of_the_table(run: Run) -> None:
    table = section(written(run), "#### rendezvous_tcp · guard off")
    assert table.split("\n")[2:] == [
        "| host \\ joiner | 2.1.2 | 2.2.2-2.3.1 | 2.6.0 |",
        "|---|---|---|---|",
        "| **2.1.2** | OK | TIME/OPQ | TIME/OPQ |",
        "| **2.2.2-2.3.1** | TIME/OPQ | OK | TIME/OPQ |",
        "| **2.6.0** | TIME/OPQ | OK | OK |",
        "",
    ]


def test_what_is_lacking_stands_in_the_releases_own_words(run: Run) -> None:
    text = section(written(run), "### What a release lacks, in its own words")
    assert "- export_files: ImportError: no export (2.1.2)" in text
    assert "case x: RuntimeError: no x (2.2.2)" in text


def listed(run: Run, title: str) -> str:
    return section(written(run), f"### {title}\n")


def lacking(one: CellResult) -> CellResult:
    return replace(one, verdict=Verdict.UNSUPPORTED, outcomes=(), reason="2.6.0: no")


def test_what_worked_between_two_releases_and_never_failed_is_never_broken(run: Run) -> None:
    assert "where both sides have them: export_files, broadcast." in listed(run, "Never broken")
    assert "### Never tried" not in written(run)


def test_what_could_not_be_tried_in_any_pair_is_not_called_never_broken(run: Run) -> None:
    never = replace(
        run, results=tuple(lacking(one) if one.cell.scenario == "broadcast" else one for one in run.results)
    )
    assert "where both sides have them: export_files." in listed(never, "Never broken")
    assert "- **in any pair**, lacking or blocked everywhere: broadcast\n" in listed(never, "Never tried")


def test_what_was_tried_only_with_one_release_on_every_rank_is_said_to_be(run: Run) -> None:
    results = tuple(
        lacking(one) if one.cell.scenario == "broadcast" and len({*one.cell.skew}) > 1 else one for one in run.results
    )
    alone = listed(replace(run, results=results), "Never tried")
    assert "- **between two releases**, only with the same release on every rank: broadcast\n" in alone


def test_what_was_predicted_otherwise_is_listed_with_a_command_that_shows_it(run: Run) -> None:
    text = section(written(run), "### Otherwise than predicted")
    assert "| checkpoint_dcp.one | OK/OPQ | TIME/OPQ | 3: 2.6.0,2.1.2 2.6.0,2.2.2 2.6.0,2.3.1 |" in text
    assert (
        "    torchskew matrix -f docs/compatibility.toml --runtime venv --only checkpoint_dcp.one/2.1.2,2.2.2/" in text
    )


def test_guarded_cells_and_worlds_of_three_are_not_counted_between_eras(run: Run) -> None:
    guarded = tuple(replace(one, cell=replace(one.cell, guard=Guard.ON)) for one in run.results)
    both = replace(
        run,
        plan=replace(run.plan, cells=run.plan.cells + tuple(one.cell for one in guarded)),
        results=run.results + guarded,
    )
    assert "(2 pairs, 10 cells)" in written(both)
