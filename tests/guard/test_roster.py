"""The roster stays small, and only a roster is read as one."""

from __future__ import annotations

from typing import Any

import pytest
from torchskew.guard.roster import names, pack_roster, roster_of, spans, unpack_roster
from torchskew.guard.verdict import decide

from tests.guard.ranks import hello_of


def test_ten_thousand_ranks_of_two_builds_make_a_small_table() -> None:
    hellos = [hello_of(rank, "2.6.0" if rank % 2 else "2.2.2", world=10000) for rank in range(10000)]
    table = roster_of(hellos, "era")
    assert len(pack_roster(table)) < 30_000
    assert decide(table)


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([0, 5, 6, 7, 9], "0, 5-7, 9"), ([2, 1, 1], "1-2")]
)
def test_numbers_are_shown_as_spans(numbers: list[int], text: str) -> None:
    assert spans(numbers) == text


def test_a_table_that_explodes_when_unpacked_is_refused() -> None:
    import zlib

    bomb = zlib.compress(b"[" + b"0," * (8 << 20) + b"0]")
    with pytest.raises(ValueError):  # noqa: PT011 - any ValueError is the contract
        unpack_roster(bomb)


@pytest.mark.parametrize(
    "change", [{"groups": [{}]}, {"groups": "x"}, {"missing": None}, {"knocks": []}, {"world": True}, {"policy": 1}]
)
def test_a_table_of_another_shape_is_no_table(change: dict[str, Any]) -> None:
    right = roster_of([hello_of(0), hello_of(1)], "era")
    assert unpack_roster(pack_roster(right)) == right
    with pytest.raises(ValueError, match="no roster"):
        unpack_roster(pack_roster({**right, **change}))


def test_a_table_without_this_rank_or_without_rank_0_in_its_first_build_is_not_for_this_rank() -> None:
    table = roster_of([hello_of(0), hello_of(1, "2.13.0")], "era")
    assert names(table, 1)
    assert not names(table, 2)
    assert not names({**table, "groups": []}, 1)
    assert not names({**table, "groups": table["groups"][1:]}, 1)
