"""The examples of the documentation: what is run, what is left out, and what a later release may not break."""

from __future__ import annotations

import sys
import types

import pytest

from tests.scenarios.judging import judged, names


def example_reports(**now: str) -> list[dict]:
    was = {f"torch.nn.Layer{number}": "ok" for number in range(120)} | {"torch.nn.Random": "ok but for numbers"}
    first = {"torch": "2.14.1", "own": was}
    return [first, {"torch": "2.15.0", "own": was, "theirs": {**was, **{f"torch.nn.{k}": v for k, v in now.items()}}}]


def test_examples_that_pass_as_before_pass_and_are_counted() -> None:
    opinion = judged("doctests", example_reports(Random="ok but for numbers"))
    assert not opinion.wrong
    assert "121 of 121 examples of 2.15.0 pass, 0 left out" in opinion.note


@pytest.mark.parametrize("now", ["error: TypeError: no", "output: x gave 3", "ok but for numbers"])
def test_an_example_that_fails_in_the_later_release_is_wrong_and_named(now: str) -> None:
    wrong = judged("doctests", example_reports(Layer7=now)).wrong
    assert wrong == {1: f"1 examples of 2.14.1 fail: torch.nn.Layer7: {now}"}
    assert not judged("doctests", [{**example_reports()[0], "torch": "2.16.0"}, *example_reports(Layer7=now)[1:]]).wrong


def test_examples_that_were_not_found_are_wrong() -> None:
    assert list(judged("doctests", [{"torch": "2.14.1", "own": {}}, {"torch": "2.15.0", "own": {}}])) == [0, 1]


@pytest.mark.parametrize(
    ("text", "came_to"),
    [
        (">>> 1 + 1\n2\n", "ok"),
        (">>> 1 + 1\n3\n", "ok but for numbers"),
        (">>> [1, 2]\n[1, 2, 3]\n", "output: [1, 2] gave [1, 2]"),
        (">>> int('x')\n", "error: ValueError: invalid literal for int() with base 10: 'x'"),
        (">>> undefined\n", "left out: it needs more than its text"),
    ],
)
def test_an_example_is_run_and_a_changed_one_is_seen(monkeypatch: pytest.MonkeyPatch, text: str, came_to: str) -> None:
    empty = types.SimpleNamespace(manual_seed=int, nn=types.SimpleNamespace(functional=1), optim=1, distributed=1)
    monkeypatch.setitem(sys.modules, "torch", empty)
    assert names("doctests").run("name", text) == came_to


def test_a_text_runs_once_in_a_release_whatever_names_it_has_and_another_text_of_that_name_runs_too() -> None:
    doctests = names("doctests")
    asked: list[str] = []

    def outcome(name: str, text: str) -> str:
        asked.append(f"{name} {text}")
        return f"ok {text}"

    doctests.outcomes.__globals__.update(outcome=outcome)
    own = doctests.outcomes({"Conv": "same", "Lazy": "same", "Linear": "new"}, {})
    assert own == {"Conv": "ok same", "Lazy": "ok same", "Linear": "ok new"}
    known = {"same": own["Conv"], "new": own["Linear"]}
    assert doctests.outcomes({"Conv": "same", "Linear": "old"}, known) == {"Conv": "ok same", "Linear": "ok old"}
    assert asked == ["Conv same", "Linear new", "Linear old"]
