"""A change is said with its interval, found where it is there, and never where it is not; on made-up measurements."""

from __future__ import annotations

import random

import pytest
from torchskew.judging.intervals import change_of_medians, change_of_pairs, in_words, opinion, percent, quads

BOUND, SPEED = 0.05, ("slower", "faster")


def turns(factor: float, noise: float, seed: int, count: int = 80) -> tuple[list[float], list[float]]:
    """Two releases in turns A B B A on a machine that drifts: what each turn took."""
    chance = random.Random(seed)
    drift = [1.0 + 0.5 * number / count for number in range(2 * count)]
    took = [each * chance.lognormvariate(0.0, noise) for each in drift]
    first = [took[number] for number in range(2 * count) if number % 4 in (0, 3)]
    second = [took[number] * factor for number in range(2 * count) if number % 4 in (1, 2)]
    return first, second


def said(factor: float, noise: float, seed: int):
    return opinion(change_of_pairs(quads(*turns(factor, noise, seed)), seed), BOUND, SPEED)


@pytest.mark.parametrize("seed", range(20))
def test_a_slowdown_of_ten_percent_is_found_and_an_unchanged_release_never(seed: int) -> None:
    assert list(said(1.10, 0.04, seed).wrong) == [1]
    assert not said(1.0, 0.04, seed).wrong


def test_the_words_have_the_interval_and_the_bound() -> None:
    found = said(1.10, 0.02, 1)
    assert found.wrong[1].startswith("slower by ")
    assert found.wrong[1].endswith("; 5 % is allowed")
    assert said(1.0, 0.01, 1).note.startswith("no difference above ")
    assert said(0.8, 0.01, 1).note.startswith("faster by 20 % (")
    assert percent(0.123) == "12"
    assert percent(0.05) == "5"
    assert percent(0.0432) == "4.3"


def test_what_is_too_noisy_is_undecided_and_neither_a_pass_nor_a_failure() -> None:
    found = said(1.05, 0.6, 3)
    assert not found.wrong
    assert found.undecided.startswith("too noisy to say: ")


def test_a_drift_of_the_machine_is_no_change() -> None:
    change = change_of_pairs(quads(*turns(1.0, 0.0, 0)), 0)
    assert abs(change.middle) < 1e-9
    assert in_words(change, SPEED) == "no difference above 0 %"


def test_fifty_more_megabytes_are_found() -> None:
    before = [400e6 + 1e6 * number for number in range(5)]
    after = [value + 50e6 for value in before]
    assert list(opinion(change_of_medians(before, after, 0), BOUND, ("larger", "smaller")).wrong) == [1]
    assert not opinion(change_of_medians(before, before, 0), BOUND, ("larger", "smaller")).wrong
