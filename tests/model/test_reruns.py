"""The command that runs cells again is a value; it becomes text for a shell only where it is printed."""

from __future__ import annotations

import shlex

from torchskew.model.reruns import Option, Rerun
from torchskew.record.codec import dumps, loads

CELL = "all_reduce/2.1.2,2.6.0/guard-off/docker"


def test_a_cell_is_run_again_alone_and_afresh() -> None:
    assert str(Rerun().of_cell(CELL)) == f"torchskew matrix --only {CELL} --no-cache"


def test_the_value_it_was_made_from_stays_as_it_was() -> None:
    gate = Rerun(words=("torchskew", "gate")).given("--candidate", ["pip:torch==2.15.0"])
    assert gate.only("a/*") != gate
    assert gate.options == (Option(name="--candidate", values=("pip:torch==2.15.0",)),)


def test_a_shell_reads_back_the_words() -> None:
    odd = Rerun().with_option("--requires", "numpy<2").only("a b/*").only("it's")
    assert tuple(shlex.split(str(odd))) == odd.argv


def test_an_option_without_values_is_left_out() -> None:
    assert Rerun().given("--timeout", [None]).given("--guard", []).given("--pairs", [""]) == Rerun()


def test_it_is_recorded_and_read_again() -> None:
    again = Rerun().with_option("--guard", "off", "on").fresh()
    assert loads(Rerun, dumps(again), "rerun") == again
