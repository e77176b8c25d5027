"""Log files: one for each rank that printed something or was not OK, and nothing more."""

from __future__ import annotations

from dataclasses import replace

from torchskew.model.outcomes import Outcome
from torchskew.model.reruns import Rerun
from torchskew.report import logs as module
from torchskew.report.logs import printed_of, write_logs

from tests import factories

OK, WRONG, HANG = Outcome.OK, Outcome.WRONG, Outcome.HANG


def quiet(result, *ranks):
    """The result with what those ranks printed taken away."""
    attempt = result.attempts[0]
    facts = tuple(replace(one, log="", stacks="") if one.rank in ranks else one for one in attempt.ranks)
    return replace(result, attempts=(replace(attempt, ranks=facts),))


def written(tmp_path, *found):
    return write_logs(factories.decision(found), printed_of(found), Rerun(), tmp_path)


def test_a_quiet_rank_that_was_right_has_no_file(tmp_path):
    result = factories.result(factories.cell(), OK, WRONG)
    assert [*written(tmp_path, quiet(result, 1)).paths] == [(result.cell.id, 1)]
    assert [path.name for path in tmp_path.rglob("*.txt")] == ["rank1.txt"]


def test_a_file_tells_the_whole_story(tmp_path):
    result = factories.result(factories.cell(), OK, HANG)
    logs = written(tmp_path, result)
    text = (tmp_path / logs.paths[result.cell.id, 1]).read_text()
    assert text.startswith(f"cell     {result.cell.id}\nrank     1 of 2 · 2.6.0 · torch 2.6.0+cpu\n")
    assert "outcome  HANG in phase rendezvous after 10.4 s" in text
    assert "stacks before it was stopped\nThread 0x" in text
    assert factories.LOG.rstrip() in text


def test_a_cell_that_ended_after_the_results_were_read_waits_for_the_next_report(tmp_path):
    """`torchskew report` beside the run that it shows."""
    ended, other = factories.result(factories.cell(), OK, HANG), factories.result(factories.cell("other"), OK, HANG)
    before = replace(ended, attempts=())
    logs = write_logs(factories.decision((before,)), printed_of((ended, other)), Rerun(), tmp_path)
    assert not logs.paths
    assert not [*tmp_path.rglob("*.txt")]


def test_tails_are_short_and_without_colours(tmp_path):
    result = factories.result(factories.cell(), OK, HANG)
    tail = written(tmp_path, result).tails[result.cell.id, 1]
    assert len(tail.log.splitlines()) == 32
    assert "\x1b" not in tail.log


def test_of_stacks_the_innermost_calls_of_the_ranks_own_thread_are_kept(tmp_path):
    idle = "".join(f'Thread 0x{n} (most recent call first):\n  File "t.py", line 1 in idle\n\n' for n in range(99))
    own = 'Current thread 0x2 (most recent call first):\n  File "t.py", line 9 in stuck\n'
    own += "".join(f'  File "t.py", line {n} in outer\n' for n in range(99))
    result = factories.result(factories.cell(), OK, HANG)
    attempt = result.attempts[0]
    facts = (attempt.ranks[0], replace(attempt.ranks[1], stacks=idle + own))
    result = replace(result, attempts=(replace(attempt, ranks=facts),))
    stacks = written(tmp_path, result).tails[result.cell.id, 1].stacks
    assert len(stacks.splitlines()) == 32
    assert stacks.startswith(own[:80])


def test_when_room_for_tails_runs_out_unexpected_cells_keep_theirs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TAILS_CHARACTERS", 1)
    known = factories.result(factories.cell("rendezvous_tcp"), Outcome.TIMEOUT, Outcome.OPAQUE)
    bad = factories.result(factories.cell(skew=("2.6.0", "2.6.0")), OK, HANG)
    logs = written(tmp_path, known, bad)
    assert [*logs.tails] == [(known.cell.id, 0), (bad.cell.id, 1)]
    assert len(logs.paths) == 3


def test_thousands_of_files_are_not_written_but_unexpected_cells_always_have_theirs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FILES", 1)
    known = factories.result(factories.cell("rendezvous_tcp"), Outcome.TIMEOUT, Outcome.OPAQUE)
    bad = factories.result(factories.cell(skew=("2.6.0", "2.6.0")), OK, HANG)
    logs = written(tmp_path, known, bad)
    assert [*logs.paths] == [(known.cell.id, 0), (bad.cell.id, 1)]
    assert logs.left_out == 1
