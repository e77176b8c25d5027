"""Bisection finds the eras with few pairs, and never infers what a pair that ran speaks against."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from torchskew.planning.bisection import Pair, Step, next_step

Truth = Callable[[int, int], str]


def searched(count: int, truth: Truth) -> tuple[dict[Pair, str], Step, int]:
    """What ran, the last step, and how many rounds it took."""
    seen: dict[Pair, str] = {}
    rounds = 0
    while (step := next_step(count, seen)).run:
        assert not step.run & seen.keys()
        seen |= {pair: truth(*pair) for pair in step.run}
        rounds += 1
    return seen, step, rounds


def answer(seen: dict[Pair, str], step: Step) -> dict[Pair, str]:
    return seen | {pair: seen[why[0]] for pair, why in step.inferred.items()}


# A fact changes at one release; it stops a pair where the first is older and the second is not, the other way, or both.
FACTS = st.lists(st.tuples(st.integers(1, 14), st.sampled_from(["newer joins", "older joins", "either"])), max_size=4)


def stops(fact: tuple[int, str], first: int, second: int) -> bool:
    at, way = fact
    up, down = first < at <= second, second < at <= first
    return {"newer joins": up, "older joins": down, "either": up or down}[way]


@given(st.integers(1, 15), FACTS)
def test_eras_made_by_facts_are_found_exactly(count: int, facts: list[tuple[int, str]]) -> None:
    def truth(first: int, second: int) -> str:
        return str([stops(fact, first, second) for fact in facts])

    seen, step, rounds = searched(count, truth)
    assert answer(seen, step) == {pair: truth(*pair) for pair in product(range(count), repeat=2)}
    assert rounds <= 16


@settings(max_examples=200)
@given(st.integers(1, 8), st.randoms(use_true_random=False), st.integers(1, 3))
def test_whatever_the_table_nothing_is_inferred_that_a_run_pair_of_its_eras_denies(
    count: int, random: object, words: int
) -> None:
    table = {pair: random.choice("abc"[:words]) for pair in product(range(count), repeat=2)}  # type: ignore[attr-defined]
    seen, step, _ = searched(count, lambda first, second: table[first, second])
    assert seen.keys() | step.inferred.keys() == set(product(range(count), repeat=2))
    assert not seen.keys() & step.inferred.keys()
    assert all(seen[pair] == table[pair] for pair in seen)
    of = {release: era for era in step.eras for release in range(era[0], era[1] + 1)}
    for pair, why in step.inferred.items():
        between = {seen[one] for one in seen if of[one[0]] == of[pair[0]] and of[one[1]] == of[pair[1]]}
        assert between == {seen[one] for one in why} == {answer(seen, step)[pair]}


def test_a_table_that_says_one_thing_takes_a_pair_per_release_and_four_more() -> None:
    seen, step, rounds = searched(11, lambda first, second: "OK")
    assert len(seen) == 11 + 4
    assert step.eras == ((0, 10),)
    assert rounds == 3


def test_two_eras_that_never_talk_take_little_more_than_a_third_of_the_pairs() -> None:
    seen, step, _ = searched(11, lambda first, second: "OK" if (first < 4) == (second < 4) else "TIME")
    assert step.eras == ((0, 3), (4, 10))
    assert len(seen) <= 43  # of 121, 11 of them a release with itself


def test_nothing_is_inferred_across_a_release_whose_neighbours_disagree() -> None:
    """5 talks with everybody; older and newer ones don't talk with each other. No release is a border."""

    def truth(first: int, second: int) -> str:
        low, high = sorted((first, second))
        return "TIME" if low < 5 < high else "OK"

    seen, step, _ = searched(11, truth)
    assert answer(seen, step) == {pair: truth(*pair) for pair in product(range(11), repeat=2)}
    assert all(low >= 5 or high <= 5 for low, high in step.eras)


def test_a_release_that_is_broken_by_itself_ends_no_era_for_others_but_is_in_none() -> None:
    seen, step, _ = searched(9, lambda first, second: "OPQ" if 4 in (first, second) else "OK")
    assert (4, 4) in step.eras
    assert seen[4, 4] == "OPQ"
    assert answer(seen, step)[0, 8] == "OK"


def test_a_middle_that_is_odd_with_its_own_era_is_noticed() -> None:
    """Alone it is right, and so are the ends of its era; only the middle's own pairs tell."""
    seen, step, _ = searched(5, lambda first, second: "OK" if first == second or 2 not in (first, second) else "WRONG")
    assert answer(seen, step)[0, 2] == "WRONG"
    assert (2, 2) in step.eras


def test_the_same_of_the_table_is_the_same_step() -> None:
    seen = {(release, release): "OK" for release in range(4)}
    assert next_step(4, seen) == next_step(4, dict(reversed(seen.items())))


def test_what_is_known_beforehand_is_not_run_again_and_counts() -> None:
    """A pair that another scenario blocks is known: it cuts the era without having run."""
    known = {pair: "blocked" for pair in product(range(6), repeat=2) if (pair[0] < 3) != (pair[1] < 3)}
    seen = dict(known)
    ran = 0
    while (step := next_step(6, seen)).run:
        assert not step.run & known.keys()
        seen |= dict.fromkeys(step.run, "OK")
        ran += len(step.run)
    assert step.eras == ((0, 2), (3, 5))
    assert ran == 6 + 2 * 4
