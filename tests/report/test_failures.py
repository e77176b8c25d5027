"""Failures that are one thing stand together, with what is known of them and one command for all."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from torchskew.model.facts import ErrorFacts
from torchskew.model.outcomes import Guard, Outcome
from torchskew.model.results import Checked, Decision, Status
from torchskew.report import failures, write_reports
from torchskew.report.failures import among, groups, known_break
from torchskew.report.grid import Look
from torchskew.report.text import render

from tests import factories

TIMEOUT, WRONG, OK, OPAQUE = Outcome.TIMEOUT, Outcome.WRONG, Outcome.OK, Outcome.OPAQUE
OLD, NEW = ("2.2.2", "2.3.1", "2.4.1"), ("2.5.1", "2.6.0", "2.13.0")


def failing(scenario: str, skew: tuple[str, ...], *outcomes: Outcome, guard: Guard = Guard.OFF):
    """A cell that is not as expected."""
    return factories.result(factories.cell(scenario, skew, guard), *(outcomes or (TIMEOUT,) * len(skew)))


def grouped(*results):
    """The groups of these results."""
    return groups(Checked(result=result, status=Status.REGRESSION) for result in results)


def test_cells_of_one_known_break_are_one_group_whatever_their_scenario():
    cells = [failing(name, pair) for name in ("rendezvous_tcp", "store_connect") for pair in product(OLD, NEW)]
    (group,) = grouped(*cells)
    assert (group.entry.id, len(group.items)) == ("SKEW-002", 18)
    assert group.pairs == "2.2.2-2.4.1,2.5.1-2.13.0"
    assert group.scenarios == ("rendezvous_tcp", "store_connect")


def test_two_breaks_are_two_groups():
    ids = [
        group.entry.id
        for group in grouped(
            failing("rendezvous_tcp", ("2.1.2", "2.6.0")), failing("rendezvous_tcp", ("2.4.1", "2.6.0"))
        )
    ]
    assert ids == ["SKEW-001", "SKEW-002"]


def test_what_nobody_knows_is_grouped_by_scenario_and_error():
    first, second = (
        failing("all_reduce", ("2.6.0", "2.13.0"), OK, WRONG),
        failing("all_reduce", ("2.13.0", "2.6.0"), OK, WRONG),
    )
    other = failing("all_reduce", ("2.6.0", "2.6.0"), WRONG, WRONG)
    elsewhere = failing("broadcast", ("2.6.0", "2.13.0"), OK, WRONG)
    assert [len(group.items) for group in grouped(first, second, other, elsewhere)] == [2, 1, 1]
    assert all(group.entry is None for group in grouped(first, second, other, elsewhere))


def test_numbers_in_an_error_do_not_keep_it_apart():
    texts = ("rank 0 waited 12.3 s at 0x7f00", "rank 0 waited 12.9 s at 0x7f99", "rank 0 was refused")
    assert len({group_of(text) for text in texts}) == 2


def group_of(text: str) -> str:
    """What cells with this error have in common."""
    result = failing("all_reduce", ("2.6.0", "2.13.0"), OPAQUE, OPAQUE)
    ranks = tuple(replace(facts, error=ErrorFacts(type="RuntimeError", text=text)) for facts in result.ranks)
    result = replace(result, attempts=(replace(result.attempts[0], ranks=ranks),))
    return failures._error_of(factories.checked(result))


@pytest.mark.parametrize(
    "result",
    [
        failing("rendezvous_tcp", ("2.2.2", "2.6.0"), guard=Guard.ON),
        failing("rendezvous_tcp", ("2.2.2", "2.6.0"), OK, OK),
        failing("rendezvous_tcp", ("2.6.0", "2.2.2")),
    ],
    ids=["guarded", "right", "the order that works"],
)
def test_a_break_explains_only_stock_cells_that_fail_on_its_two_sides(result):
    assert known_break(factories.checked(result)) is None


def test_ranges_leave_out_what_did_not_fail():
    cells = [failing("all_reduce", pair, OK, WRONG) for pair in product(("2.2.2", "2.3.1"), NEW) if pair[1] != "2.6.0"]
    cells += [failing("all_reduce", ("2.6.0", "2.6.0"), OK, WRONG)]
    (group,) = grouped(*cells)
    assert group.pairs == "2.2.2-2.3.1,2.5.1 2.2.2-2.3.1,2.13.0 2.6.0,2.6.0"


def test_the_terminal_shows_a_group_once_and_a_file_shows_every_cell():
    results = tuple(failing("rendezvous_tcp", pair) for pair in product(OLD, NEW))
    checked = tuple(Checked(result=result, status=Status.REGRESSION) for result in results)
    run = factories.run(results)
    decision = Decision(checked=checked, problems=(), exit_code=1, sentence="not as expected: 9 cells")
    short, whole = render(run, decision), render(run, decision, look=Look(whole=True))
    assert "regression: 9 cells, SKEW-002: TCPStore" in short
    assert "now      Let the newer release host: upgrade the node of rank 0 first." in short
    assert "rerun    torchskew matrix --only 'rendezvous_tcp/*' --no-cache" in short
    assert short.count("regression: rendezvous_tcp/") == 1
    assert whole.count("regression: rendezvous_tcp/") == 9


def test_groups_of_some_cells_are_in_the_order_of_those_cells():
    first, second = (failing("all_reduce", pair, OK, WRONG) for pair in (("2.6.0", "2.13.0"), ("2.13.0", "2.6.0")))
    between = failing("broadcast", ("2.6.0", "2.13.0"), OK, WRONG)
    items = [Checked(result=result, status=Status.REGRESSION) for result in (first, between, second)]
    assert [group.title for group in groups(items)] == ["all_reduce", "broadcast"]
    assert [group.title for group in among(groups(items), items[1:])] == ["broadcast", "all_reduce"]
    assert among(groups(items), items[1:]) == groups(items[1:])
    assert [group.title for group in among(groups(items), items[:1])] == ["all_reduce"]


def test_each_failure_is_looked_up_once_for_all_reports(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(failures, "known_break", lambda item: asked.append(item.result.cell.id))
    results = tuple(failing("rendezvous_tcp", pair) for pair in product(OLD, NEW))
    checked = tuple(Checked(result=result, status=Status.REGRESSION) for result in results)
    run = factories.run(results)
    decision = Decision(checked=checked, problems=(), exit_code=1, sentence="not as expected")
    render(run, decision, written=write_reports(run, decision, tmp_path))
    assert asked == [result.cell.id for result in results]
