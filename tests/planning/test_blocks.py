"""Versions are put on the disk in blocks: within the bound, every pair in one of them, half kept from turn to turn."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchskew.errors import ConfigError
from torchskew.planning.blocks import blocks

SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=9).map(
    lambda sizes: {f"2.{number}.0": size for number, size in enumerate(sizes)}
)


def test_what_fits_is_one_block() -> None:
    assert blocks({"a": 5, "b": 5, "c": 5}, 15) == (("a", "b", "c"),)


def test_what_does_not_fit_is_cut_so_that_half_of_it_stays() -> None:
    cut = blocks(dict.fromkeys("abcdef", 5), 20)
    assert cut == (("a", "b", "c", "d"), ("a", "b", "e", "f"), ("c", "d", "e", "f"))


def test_two_that_never_fit_together_are_named_with_the_fix() -> None:
    refusal = "b and c need 13.0 GB together, but only 12.0 GB are allowed. Free disk space"
    with pytest.raises(ConfigError, match=refusal):
        blocks({"a": 10**9, "b": 7 * 10**9, "c": 6 * 10**9}, 12 * 10**9)


@given(SIZES, st.integers(100, 260))
def test_every_pair_meets_in_a_block_within_the_bound(sizes: dict[str, int], bound: int) -> None:
    cut = blocks(sizes, bound)
    assert all(sum(sizes[name] for name in block) <= bound for block in cut)
    assert {name for block in cut for name in block} == set(sizes)
    for pair in combinations(sizes, 2):
        assert any(set(pair) <= set(block) for block in cut)
    assert all(set(one) & set(following) for one, following in pairwise(cut))
