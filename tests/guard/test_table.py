"""The table of eras covers every release once, and reads settings as the wire sees them."""

from __future__ import annotations

import pytest
from torchskew.guard.table import HOLDS_GIL, LAST_KNOWN, SEEN, SERVES, TABLE, WIRE_SETTINGS, era, known, setting


@pytest.mark.parametrize("kind", TABLE)
def test_the_eras_of_a_kind_begin_with_1_7_and_are_in_order(kind: str) -> None:
    firsts = [first for first, _ in TABLE[kind]]
    assert firsts[0] == (1, 7)
    assert firsts == sorted(set(firsts))
    assert firsts[-1] <= LAST_KNOWN


def test_a_release_belongs_to_the_last_era_that_is_not_above_it() -> None:
    assert [era("store", name) for name in ("1.8.1", "1.9.0", "2.0.1", "2.1.2", "2.4.1", "2.5.0", "2.99.0")] == [
        "1.7", "1.9", "1.9", "2.1", "2.2", "2.5", "2.5",
    ]  # fmt: skip
    assert era("store", "1.6.0") is None


def test_every_store_era_is_served_seen_and_nothing_else_is() -> None:
    eras = {f"{first[0]}.{first[1]}" for first, _ in TABLE["store"]}
    assert SERVES.keys() == eras
    assert SEEN.keys() == eras | {"file"}
    assert {client for clients in SERVES.values() for client in clients} <= eras
    assert set(HOLDS_GIL) <= eras
    assert all(own in clients for own, clients in SERVES.items())


@pytest.mark.parametrize(("version", "covered"), [("2.15.3", True), ("2.16.0", False), ("torch", False)])
def test_a_release_above_the_last_known_one_is_not_covered(version: str, covered: bool) -> None:
    assert known(version) is covered


@pytest.mark.parametrize(
    ("name", "value", "effect"),
    [
        ("TORCH_GLOO_LAZY_INIT", "1", "1"),
        ("TORCH_GLOO_LAZY_INIT", "true", "1"),
        ("TORCH_GLOO_LAZY_INIT", " off ", ""),
        ("TORCH_GLOO_LAZY_INIT", "0", ""),
        ("TORCH_DISTRIBUTED_DEBUG", "detail", "DETAIL"),
        ("TORCH_DISTRIBUTED_DEBUG", "INFO", ""),
    ],
)
def test_a_setting_is_read_by_its_effect_and_not_by_its_spelling(name: str, value: str, effect: str) -> None:
    assert setting(name, {name: value}) == effect


@pytest.mark.parametrize("name", WIRE_SETTINGS)
def test_a_setting_that_is_not_there_is_off(name: str) -> None:
    assert setting(name, {}) == ""
