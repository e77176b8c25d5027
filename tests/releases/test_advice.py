"""Advice follows from the facts: who hosts, which way, what comes back, what changes silently, what proves it."""

from __future__ import annotations

import pytest
from torchskew.releases.advice import Advice, Order, Question, advise, surface_names
from torchskew.report.advice import advice_as_json, advice_as_text, command
from torchskew.report.catalogue import catalogue


def answer(old: str, new: str, *uses: str) -> Advice:
    """The advice about an upgrade."""
    return advise(Question(old=old, new=new, uses=uses), catalogue())


def ids(breaks: tuple[object, ...]) -> set[str]:
    """Their ids."""
    return {getattr(entry, "id", "") for entry in breaks}


@pytest.mark.parametrize(
    ("old", "new", "order"),
    [
        ("2.6.0", "2.13.0", Order.ANY),
        ("2.2.2", "2.15.0", Order.NEW_HOSTS),
        ("2.15.0", "2.2.2", Order.OLD_HOSTS),
        ("2.1.2", "2.2.2", Order.NONE),
        ("2.6.0", "2.6.0", Order.ANY),
    ],
)
def test_who_may_host_a_mixed_group(old: str, new: str, order: Order) -> None:
    """As the table of eras predicts for a stock group."""
    assert answer(old, new, "ddp").direct.order is order


def test_a_border_without_a_way_is_named() -> None:
    """2.1 and 2.2 never form a group."""
    advice = answer("2.0.1", "2.15.0", "ddp")
    assert advice.way == ()
    assert advice.border == ("2.0.1", "2.1.2")
    assert command(advice).endswith("--strategy bridged --rollback")
    assert "TORCHSKEW_GUARD=bridge" in advice_as_text(advice, 4)
    older = answer("1.12.1", "2.15.0", "ddp")
    assert command(older).endswith("--strategy stop-the-world --rollback")
    assert "TORCHSKEW_GUARD=bridge" not in advice_as_text(older, 4)  # which is for 1.13 and later


def test_a_bridge_is_proposed_where_it_alone_spares_the_stop() -> None:
    advice = answer("2.1.2", "2.15.0")
    text = " ".join(advice_as_text(advice, 4).split())
    assert "bridge works without a stop for gloo" in text
    assert "Not known to be right there: DDP with find_unused_parameters, FSDP, DTensor, device meshes, " in text
    assert "stops between 2.1.2 and 2.2.2: without a bridge, stop the job there" in text
    assert "with TORCHSKEW_GUARD=bridge it leads the ranks to a bridge" in text
    assert command(advice) == "torchskew rehearse --from 2.1.2 --to 2.15.0 --strategy bridged --rollback"
    assert advice_as_json(advice).count("DDP with find_unused_parameters") == 1


@pytest.mark.parametrize(
    ("old", "new", "uses"),
    [
        ("1.12.1", "2.15.0", ()),  # nobody has tried
        ("2.2.2", "2.15.0", ("ddp",)),  # the new release may host
        ("2.5.1", "2.6.0", ("torchrun",)),  # the agents differ, not the stores
        ("2.6.0", "2.6.0", ()),
    ],
)
def test_no_bridge_is_proposed_where_it_does_not_help(old: str, new: str, uses: tuple[str, ...]) -> None:
    advice = answer(old, new, *uses)
    assert advice.at_a_bridge is None
    assert "bridge" not in advice_as_text(advice, 4)
    assert '"bridge": null' in advice_as_json(advice)


def test_what_the_job_uses_decides_whether_rolling_works() -> None:
    """torchrun's agents of 2.5 and 2.6 do not meet; plain DDP does."""
    assert [hop.new for hop in answer("2.5.1", "2.6.0", "ddp").way] == ["2.6.0"]
    with_agents = answer("2.5.1", "2.6.0", "torchrun")
    assert (with_agents.way, ids(with_agents.direct.breaks)) == ((), {"SKEW-011"})


def test_without_uses_rolling_is_conditional() -> None:
    """It works where the job uses none of what breaks, and the text says so."""
    advice = answer("2.6.0", "2.13.0")
    assert advice.conditional
    assert "works where the job uses none of what follows" in advice_as_text(advice, 4)
    assert command(advice) == "torchskew rehearse --from 2.6.0 --to 2.13.0 --rollback"


def test_files_forward_and_back() -> None:
    """A checkpoint of 2.15 does not come back; AdamW's of 2.6 does not go forward."""
    advice = answer("2.6.0", "2.15.0", "dcp")
    assert "SKEW-039" in ids(advice.forward)
    assert "SKEW-026" in ids(advice.back)
    assert "SKEW-026" not in ids(advice.forward)


def test_what_a_release_breaks_alone_is_no_matter_of_two() -> None:
    """A killed builder's lock blocks 2.13 whoever wrote it."""
    advice = answer("2.6.0", "2.13.0")
    assert "SKEW-031" not in ids(advice.forward) | ids(advice.back)


def test_silent_changes_are_apart() -> None:
    """They raise nothing, so nobody would look for them."""
    assert ids(answer("2.6.0", "2.13.0").silent) == {"SKEW-023"}
    assert ids(answer("2.13.0", "2.14.1").silent) == {"SKEW-059"}


def test_what_the_old_release_does_alone_is_no_change() -> None:
    """strict=False leaves weights fresh in every release, and reduce_scatter of 2.6 sums already."""
    assert not ids(answer("2.6.0", "2.13.0").silent) & {"SKEW-054", "SKEW-060"}
    assert "SKEW-027" in ids(answer("2.1.2", "2.2.2").silent)


@pytest.mark.parametrize(
    ("old", "new", "gaps"),
    [("2.6.0", "2.13.0", 0), ("2.6.0", "2.8.0", 1), ("2.7.1", "2.99.0", 2)],
)
def test_what_is_assumed_is_named(old: str, new: str, gaps: int) -> None:
    """A release that was not measured, and one that is newer than the table."""
    advice = answer(old, new)
    assert len(advice.gaps) == gaps
    assert ("This cell shows it: rendezvous_tcp/" in advice_as_text(advice, 2)) is bool(gaps)


def test_a_downgrade_is_an_upgrade_the_other_way() -> None:
    """Back to 2.2 the old release, which is the newer one, has to host."""
    advice = answer("2.15.0", "2.2.2", "ddp")
    assert [hop.order for hop in advice.way] == [Order.OLD_HOSTS] or advice.border is not None
    assert "only where rank 0 runs 2.15.0" in advice_as_text(advice, 2)


def test_uses_name_surfaces_that_exist() -> None:
    """Every name maps to something in the catalogue."""
    names = surface_names(catalogue())
    assert {"ddp", "dcp", "export", "rpc", "torchrun"} <= set(names)
    assert "process_group" not in names
