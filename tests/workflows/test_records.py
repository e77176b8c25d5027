"""What a user should know about a record is said wherever one is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from torchskew.cli import main
from torchskew.record.folder import DATABASE
from torchskew.record.record import Record
from torchskew.workflows.records import record_in

from tests import factories


def test_a_record_of_a_newer_minor_schema_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = factories.run(tuple(factories.results())[:1])
    with record_in(tmp_path, create=True) as record:
        record.begin(run.info, run.plan)
    with sqlite3.connect(tmp_path / DATABASE) as sql:
        sql.execute("INSERT INTO schema VALUES ('2.7', '0.9.0', 'then')")
    sql.close()
    assert main(["report", "--list", "--out", str(tmp_path)]) == 0
    assert "note       " in (said := capsys.readouterr().err)
    assert "newer torchskew 0.9.0" in said


def test_a_record_of_this_schema_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_in(tmp_path, create=True).close()
    assert isinstance(record_in(tmp_path), Record)
    assert capsys.readouterr().err == ""
