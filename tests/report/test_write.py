"""All reports at once, from a record, again and again the same."""

from __future__ import annotations

import re

import pytest
from torchskew.errors import RecordError
from torchskew.record.record import Record
from torchskew.report import REPORTS, write_reports

from tests import factories
from tests.conftest import ROOT


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_recorded_run_is_rendered_as_the_run_was(tmp_path):
    run, decision = factories.bad_run()
    write_reports(run, decision, tmp_path / "first")
    with Record.open(tmp_path / "record.sqlite") as record:
        record.begin(run.info, run.plan, run.expectations)
        for result in run.results:
            record.write(run.info.run_id, result)
        record.finish(run.info.run_id, run.info.finished)
        write_reports(record.load(), decision, tmp_path / "again", record.printed())
    first, again = contents(tmp_path / "first"), contents(tmp_path / "again")
    assert first.keys() == again.keys()
    # Paths of the report stand in its text; all else is the same to the byte.
    different = {str(name) for name in first if first[name] != again[name]}
    assert different <= {"report.txt"}


def test_every_report_is_where_it_says(tmp_path):
    paths = write_reports(*factories.good_run(), tmp_path / "out")
    assert [*paths.files] == ["html", "json", "junit", "markdown", "text"]
    assert all(path.stat().st_size > 1000 for path in paths.files.values())
    assert all((tmp_path / "out" / path).is_file() for path in paths.logs.paths.values())


def test_the_page_about_results_lists_every_report_as_its_row_describes_it():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    listed = [line for line in page.splitlines() if re.match(r"\| `out/RUN/[^/]+` \|", line)]
    assert listed == [f"| `out/RUN/{row.file}` | {row.content} | {row.readers} |" for row in REPORTS]


def test_the_guide_for_contributors_names_the_rows():
    assert "its row in `REPORTS`" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_a_folder_that_can_not_be_written_to_is_named_with_the_fix(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"can't be written to .*/file/out: .* Make room or give another --out DIR"):
        write_reports(*factories.good_run(), tmp_path / "file" / "out")
