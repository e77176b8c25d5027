"""One row makes a report: every command that writes reports writes it and prints its path."""

from __future__ import annotations

from pathlib import Path

import pytest
import torchskew.report
from torchskew.cli import main
from torchskew.model.results import Decision
from torchskew.model.runs import Run
from torchskew.report import REPORTS, Report
from torchskew.report.logs import Written

from tests.workflows.gate.test_workflow import Desk


def write_count(run: Run, decision: Decision, written: Written, path: Path) -> None:
    del run, written
    path.write_text(str(len(decision.checked)))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    row = Report(name="count", file="count.txt", write=write_count, content="the number of cells", readers="tests")
    monkeypatch.setattr(torchskew.report, "REPORTS", (*REPORTS, row))
    return Desk(tmp_path, monkeypatch)


def counted(desk: Desk, capsys: pytest.CaptureFixture[str]) -> str:
    """What the added report says, after a look at the printed list of reports; the file is removed."""
    [path] = (desk.folder / "out").glob("*/count.txt")
    assert f"report     {path.parent}/report.html · " in (out := capsys.readouterr().out)
    assert " · report.txt · count.txt\n" in out
    text = path.read_text()
    path.unlink()
    return text


@pytest.mark.parametrize(
    ("command", "cells"), [(["matrix"], "10"), (["gate", "--candidate", "pip:torch==2.15.0"], "29")]
)
def test_one_row_is_written_by_a_run_and_by_report(
    desk: Desk, capsys: pytest.CaptureFixture[str], command: list[str], cells: str
) -> None:
    out = ["--out", str(desk.folder / "out")]
    desk.runtime()
    assert main([*command, "--declaration", str(desk.folder / "torchskew.toml"), *out]) == 0
    assert counted(desk, capsys) == cells
    assert main(["report", *out]) == 0
    assert counted(desk, capsys) == cells
