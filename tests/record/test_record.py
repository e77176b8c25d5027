"""The record keeps what it was given, loses nothing to a kill, and says what to fix when it can't go on."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torchskew
from torchskew.errors import RecordError
from torchskew.model.facts import Attempt
from torchskew.model.outcomes import Guard, Outcome, Verdict
from torchskew.model.runs import Accepted, Finished, Selection
from torchskew.record import database
from torchskew.record.database import Database
from torchskew.record.marks import Mark
from torchskew.record.record import Record
from torchskew.record.rows import light

from tests import factories

OK = Outcome.OK
FIRST_RELEASE = Path(__file__).with_name("record-1.0.sql")
SELECTION = Selection(runtime="venv", against=("2.15.0",), tier="full", guard=(Guard.OFF,), base=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "record.sqlite"


@pytest.fixture
def record(path):
    with Record.open(path) as opened:
        yield opened


@pytest.fixture
def run():
    return factories.good_run()[0]


def keep(record, run, results=None):
    record.begin(run.info, run.plan, run.expectations)
    for result in run.results if results is None else results:
        record.write(run.info.run_id, result)


def test_a_run_is_read_back_whole(record, run):
    keep(record, run)
    record.finish(run.info.run_id, run.info.finished)
    assert record.load(bulk=True) == run
    assert record.runs() == (run.info,)


def test_logs_are_only_read_when_asked_for(record, run):
    keep(record, run)
    assert record.load().results == tuple(light(result) for result in run.results)
    assert any(facts.log for result in record.results(bulk=True) for facts in result.ranks)


def test_what_ranks_printed_is_read_without_the_rest(record, run):
    keep(record, run)
    printed = {(one.cell_id, one.rank): one.log for one in record.printed()}
    ranks = [(result.cell.id, facts) for result in run.results for facts in result.ranks]
    assert printed == {(cell_id, facts.rank): facts.log for cell_id, facts in ranks if facts.log}


def test_results_come_in_the_order_of_the_plan_whatever_order_they_were_written_in(record, run):
    keep(record, run, tuple(reversed(run.results)))
    assert [result.cell.id for result in record.results()] == [cell.id for cell in run.plan.cells]


def of_cell(record, result):
    """What really ran of its cell, oldest first."""
    return [past for past in record.pasts() if past.cell_id == result.cell.id]


def test_the_newest_result_of_a_cell_counts_and_the_older_one_stays(record, run):
    first = run.results[-1]
    keep(record, run)
    record.write(run.info.run_id, replace(first, reason="again", verdict=Verdict.UNKNOWN))
    assert record.result(run.info.run_id, first.cell.id).reason == "again"
    assert [past.verdict for past in of_cell(record, first)] == [first.verdict, Verdict.UNKNOWN]


def test_repetitions_of_a_cell_are_kept_apart(record, run):
    keep(record, run)
    again = replace(run.results[0], verdict=Verdict.FAIL, outcomes=(Outcome.CRASH,))
    record.write(run.info.run_id, again, repeat=1)
    assert record.result(run.info.run_id, again.cell.id).verdict is Verdict.PASS
    assert record.result(run.info.run_id, again.cell.id, repeat=1).verdict is Verdict.FAIL
    assert [past.repeat for past in of_cell(record, again)] == [0, 1]


def test_an_interrupted_run_gives_what_it_has_and_resume_knows_the_rest(record, run):
    keep(record, run, run.results[:9])
    assert len(record.load().results) == 9
    assert len(record.load().plan.cells) == len(run.plan.cells)
    assert record.load().info.finished is None
    judged = {item.cell.id for item in run.results[:9] if item.verdict in (Verdict.PASS, Verdict.FAIL)}
    assert record.finished(run.info.run_id) == judged
    assert record.resume("latest", run.plan) == replace(run.info, finished=None)


def test_resume_runs_unknown_and_blocked_cells_again(record, run):
    blocked = next(item for item in run.results if item.verdict is Verdict.BLOCKED)
    unknown = replace(run.results[0], verdict=Verdict.UNKNOWN)
    keep(record, run, (blocked, unknown))
    assert record.finished("latest") == frozenset()


def test_another_plan_can_not_be_resumed(record, run):
    keep(record, run, ())
    with pytest.raises(RecordError, match=r"can't be resumed: .* Start a new run"):
        record.resume("latest", replace(run.plan, cells=run.plan.cells[1:]))


def test_a_run_id_can_not_be_used_twice(record, run):
    keep(record, run, ())
    with pytest.raises(RecordError, match="already"):
        keep(record, run, ())


def test_equal_plans_are_stored_once(record, run):
    keep(record, run, ())
    keep(record, factories.run(run.results, run_id="20261122-0000-zzzz"), ())
    assert record._database.rows("SELECT count(*) FROM plan") == [(1,)]
    assert [info.run_id for info in record.runs()] == ["20261122-0000-zzzz", run.info.run_id]


def test_runs_are_found_by_the_beginning_of_their_id(record, run):
    keep(record, run, ())
    keep(record, factories.run(run.results, run_id="20261122-0000-zzzz"), ())
    assert record.resolve("latest") == "20261122-0000-zzzz"
    assert record.resolve("20261121") == run.info.run_id
    with pytest.raises(RecordError, match="2 runs that begin with '2026'"):
        record.resolve("2026")
    with pytest.raises(RecordError, match=r"no run 'x'\. It holds 20261122-0000-zzzz"):
        record.resolve("x")


def test_an_empty_record_says_so(record):
    with pytest.raises(RecordError, match="It holds no run yet"):
        record.load()


def test_a_pass_a_failure_and_an_unsupported_cell_are_reused_by_content(record, run):
    keep(record, run)
    known = next(item for item in run.results if item.verdict is Verdict.FAIL)
    assert record.cached(known.key, known.cell) == replace(light(known), cached=True)
    assert record.cached("another key", known.cell) is None
    assert record.cached("", known.cell) is None


@pytest.mark.parametrize("verdict", [Verdict.UNKNOWN, Verdict.BLOCKED])
def test_a_cell_that_was_not_judged_is_never_reused(record, run, verdict):
    keep(record, run, (replace(run.results[0], verdict=verdict),))
    assert record.cached(run.results[0].key, run.results[0].cell) is None


def test_a_reused_cell_shares_the_facts_of_the_run_that_ran_it(record, run):
    keep(record, run)
    before = record._database.rows("SELECT count(*) FROM facts")
    again = factories.run(run.results, run_id="20261122-0000-zzzz")
    known = next(item for item in run.results if item.verdict is Verdict.FAIL)
    keep(record, again, (record.cached(known.key, known.cell),))
    assert record._database.rows("SELECT count(*) FROM facts") == before
    assert record.result("latest", known.cell.id).ranks == known.ranks


def test_an_attempt_is_there_even_when_no_result_follows_and_once_when_one_does(record, run):
    one = run.results[0]
    failed = Attempt(number=1, ranks=one.ranks, seconds=0.1, fault="port 5000 was in use")
    keep(record, run, ())
    record.attempt(run.info.run_id, one.cell, failed)
    assert record.attempts("latest", one.cell.id) == (failed,)
    good = replace(one.attempts[0], number=2)
    record.write(run.info.run_id, replace(one, attempts=(failed, good)))
    assert record.attempts("latest", one.cell.id) == (failed, good)
    assert record.result("latest", one.cell.id).attempts == (failed, good)


def test_marks_say_what_happened_to_a_run_later(record, run):
    keep(record, run, ())
    then, accepted = "2026-11-22T00:00:00+00:00", Accepted(selection=SELECTION)
    record.mark(run.info.run_id, accepted, when=then)
    assert record.marks(Accepted) == (Mark(run_id=run.info.run_id, payload=accepted, at=then),)
    assert record.marks(Finished) == ()


def test_durations_are_those_of_cells_that_really_ran(record, run):
    one, two = run.results[0], run.results[1]
    keep(record, run, (one, replace(two, attempts=()), replace(one, seconds=9.0, cached=True)))
    assert record.durations() == {one.cell.id: one.seconds}


def test_a_reader_goes_on_while_cells_are_written_by_many_threads(record):
    run = factories.run(factories.many(60))
    record.begin(run.info, run.plan, run.expectations)
    seen = []

    def write(part):
        for result in run.results[part::6]:
            record.write(run.info.run_id, result)
            seen.append(sum(1 for _ in record.results(run.info.run_id)))

    threads = [threading.Thread(target=write, args=(part,)) for part in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(seen) == len(run.results)
    assert tuple(record.results(bulk=True)) == run.results


WRITER = """
import sys
from torchskew.record.marks import Mark
from torchskew.record.record import Record
from tests import factories
found = factories.many(4000)
run = factories.run(found)
record = Record.open(sys.argv[1])
record.begin(run.info, run.plan, run.expectations)
for result in found:
    record.write(run.info.run_id, result)
    sys.stdout.write(result.cell.id + "\\n")
    sys.stdout.flush()
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 57, 400])
def test_kill_9_of_the_writer_loses_no_finished_cell(path, after):
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
        told = [writer.stdout.readline().strip() for _ in range(after)]
        writer.send_signal(signal.SIGKILL)
        told += [line.strip() for line in writer.stdout.read().splitlines() if line.endswith("docker")]
    assert writer.returncode == -signal.SIGKILL
    with Record.open(path) as record:
        stored = [result.cell.id for result in record.results(bulk=True)]
        assert record.resume("latest", record.load().plan).finished is None
    assert set(told) <= set(stored)
    assert len(stored) <= len(told) + 1


@pytest.mark.parametrize("schema", ["3.0", "1.4"])
def test_another_major_is_refused_before_anything_is_touched(path, run, schema):
    with Record.open(path) as record:
        keep(record, run, ())
        record._database.connection.execute("UPDATE schema SET version = ?, torchskew = '3.4.5'", (schema,))
    with pytest.raises(RecordError, match=rf"by torchskew 3\.4\.5 in schema {schema}; .*reads 2\.x\..*--out DIR"):
        Record.open(path)


def test_a_record_of_the_first_release_is_refused_in_one_line_and_left_as_it_is(path):
    """The SQL is a dump of a file that the record of 0.1.0 wrote."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as old:
        old.executescript(FIRST_RELEASE.read_text(encoding="utf-8"))
        before = tuple(old.iterdump())
    with pytest.raises(RecordError) as caught:
        Record.open(path)
    assert str(caught.value) == (
        f"{path} was written by torchskew 0.1.0 in schema 1.0; torchskew {torchskew.__version__} reads 2.x. "
        "Read it with the torchskew that wrote it; for new runs, choose another folder: --out DIR."
    )
    with closing(sqlite3.connect(path)) as old:
        assert tuple(old.iterdump()) == before


def test_a_higher_minor_is_read_with_a_note(path, run):
    with Record.open(path) as record:
        keep(record, run)
        record._database.connection.execute("INSERT INTO schema VALUES ('2.7', '0.9.0', 'then')")
        record._database.connection.execute("UPDATE run SET info = json_set(info, '$.colour', 'red')")
    with Record.open(path) as record:
        assert "newer torchskew 0.9.0" in record.notes[0]
        assert len(record.load().results) == len(run.results)


def test_an_unknown_field_without_a_newer_writer_is_damage(path, run):
    with Record.open(path) as record:
        keep(record, run)
        record._database.connection.execute("UPDATE run SET info = json_set(info, '$.colour', 'red')")
        with pytest.raises(RecordError, match=rf"run {run.info.run_id}\.colour is unknown"):
            record.load()


def test_damaged_rows_name_the_cell(record, run):
    keep(record, run)
    record._database.connection.execute("UPDATE facts SET printed = x'00' WHERE printed IS NOT NULL")
    with pytest.raises(RecordError, match=r"docker: its log can't be unpacked"):
        record.load(bulk=True)
    record._database.connection.execute("UPDATE result SET body = '[]'")
    with pytest.raises(RecordError, match=r"docker must be Judgement, got"):
        record.load()


def test_a_file_that_is_no_record_is_named_with_the_fix(path):
    path.parent.mkdir()
    path.write_text("this is a text, and long enough to be no empty database " * 20)
    with pytest.raises(RecordError, match=r"not a database .*not a torchskew record"):
        Record.open(path)


def test_a_record_that_is_not_there_is_not_made_by_a_reader(path):
    with pytest.raises(RecordError, match="there is no record at"):
        Record.open(path, create=False)
    assert not path.exists()


def test_a_folder_that_can_not_be_made_is_named_with_the_fix(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"can't be opened: .*--out DIR"):
        Record.open(tmp_path / "file" / "record.sqlite")


def test_a_full_disk_keeps_what_had_finished(record, run):
    keep(record, run, run.results[:3])
    [(pages,)] = record._database.rows("PRAGMA page_count")
    record._database.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(RecordError, match=r"full \(SQLITE_FULL\)\. The disk is full: make room, .* --resume"):
        [record.write(run.info.run_id, result) for result in run.results]
    assert len(record.load().results) >= 3


def test_a_locked_record_says_who_to_wait_for(path, run, monkeypatch):
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)
    with Record.open(path) as record:
        record.begin(run.info, run.plan)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RecordError, match=r"locked \(SQLITE_BUSY\)\. Another process held it"):
            record.write(run.info.run_id, run.results[0])
        other.execute("ROLLBACK")
        other.close()
        record.write(run.info.run_id, run.results[0])


@pytest.fixture
def unprivileged():
    """Root may write everywhere, so the test runs as another user."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.fixture
def sealed(run):
    """A finished record in a folder that can't be written to."""
    # Not below pytest's own folder: that is closed to everybody else.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder, "record.sqlite")
        with Record.open(path) as record:
            keep(record, run)
        path.chmod(0o444)
        path.parent.chmod(0o555)
        yield path
        path.parent.chmod(0o755)


def test_a_record_in_a_read_only_folder_is_shown_and_not_written(sealed, run, unprivileged):
    with Record.open(sealed) as record:
        assert "can't be written to" in record.notes[0]
        assert len(record.load().results) == len(run.results)
        with pytest.raises(RecordError, match=r"SQLITE_READONLY.*--out DIR"):
            record.mark(run.info.run_id, Accepted(selection=SELECTION))


def test_a_read_only_folder_with_cells_that_only_stand_in_the_log_is_refused(sealed, unprivileged):
    os.seteuid(os.getuid())
    sealed.parent.chmod(0o755)
    sealed.with_name("record.sqlite-wal").write_bytes(b"cells that SQLite has not moved yet")
    sealed.parent.chmod(0o555)
    os.seteuid(65534 if os.getuid() == 0 else os.getuid())
    with pytest.raises(RecordError, match=r"newest cells are still in record\.sqlite-wal.* Copy both files"):
        Record.open(sealed)


def test_closing_twice_is_fine(path):
    record = Record.open(path)
    record.close()
    record.close()


def test_a_record_that_another_process_makes_at_the_same_time_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one writes the schema's version after this one has looked for it."""
    path = tmp_path / "record.sqlite"
    rows, others = Database.rows, []

    def look(database: Database, sql: str, *values: object) -> list[tuple]:
        found = rows(database, sql, *values)
        if "FROM schema WHERE" in sql and not others:
            others.append(None)
            others[0] = Database.open(path, create=True)
        return found

    monkeypatch.setattr(Database, "rows", look)
    ours = Database.open(path, create=True)
    assert len(rows(ours, "SELECT version FROM schema")) == 1
    for each in (ours, *others):
        each.close()
