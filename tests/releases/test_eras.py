"""The table answers in features, parses every spelling of a release and predicts every rank."""

from __future__ import annotations

import pytest
from torchskew.guard import table
from torchskew.model.outcomes import Guard, Kind, Outcome, Store
from torchskew.releases import eras
from torchskew.releases.eras import Situation, predict, release

OK, CLEAR, OPAQUE, TIMEOUT = Outcome.OK, Outcome.CLEAR, Outcome.OPAQUE, Outcome.TIMEOUT
WRONG = Outcome.WRONG
NOT_RUN = Outcome.NOT_RUN
HANG, CRASH = Outcome.HANG, Outcome.CRASH
RELEASES = ("1.7.0a0", "1.13.0a0+gitunknown", "2.0.1", "2.1.2", "2.2.2", "2.6.0+debian", "2.13.0+cpu", "2.14.1")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2.13.0+cpu", (2, 13, 0)),
        ("1.13.0a0+gitunknown", (1, 13, 1)),
        ("2.6.0+debian", (2, 6, 0)),
        ("1.7.0a0", (1, 7, 1)),
        ("2.15.0.dev20260101+cu126", (2, 15, 0)),
        ("2.1", (2, 1, 0)),
    ],
)
def test_every_spelling_of_a_release_parses(text: str, number: tuple[int, int, int]) -> None:
    """Wheels, Debian's labels and nightlies name their release."""
    found = release(text)
    assert found is not None
    assert found.number == number


@pytest.mark.parametrize("text", ["", "unknown", "torch", "1.6.0", "0.4.1"])
def test_what_names_no_covered_release_is_unknown(text: str) -> None:
    """No guess for something older than the table or no release at all."""
    assert release(text) is None


def test_features_are_asked_not_numbers() -> None:
    """The store's greetings and back ends by release."""
    old, new, debian = release("2.4.1"), release("2.6.0"), release("2.6.0+debian")
    assert old is not None
    assert new is not None
    assert debian is not None
    assert (old.store.validates_on_connect, old.store.pings_on_connect) == (True, False)
    assert new.store.pings_on_connect
    assert new.store.libuv_by_default
    assert not debian.store.has_libuv


@pytest.mark.parametrize(
    ("pair", "outcomes"),
    [
        (("2.1.2", "2.2.2"), (TIMEOUT, OPAQUE)),
        (("2.2.2", "2.1.2"), (TIMEOUT, OPAQUE)),
        (("2.2.2", "2.6.0"), (TIMEOUT, TIMEOUT)),
        (("2.6.0", "2.2.2"), (OK, OK)),
        (("2.6.0", "2.13.0"), (OK, OK)),
        (("2.6.0", "2.1.2"), (TIMEOUT, TIMEOUT)),
        (("2.6.0+debian", "1.13.0a0"), (TIMEOUT, OPAQUE)),
        (("1.13.1", "2.0.1"), (TIMEOUT, TIMEOUT)),
    ],
)
def test_the_direction_and_the_era_decide_a_pair(pair: tuple[str, str], outcomes: tuple[Outcome, ...]) -> None:
    """Rank 0 hosts, so the order of a pair matters."""
    assert predict(Situation(torch=pair)) == outcomes


def test_a_legacy_host_closes_where_libuv_is_silent() -> None:
    """USE_LIBUV=0 on the host turns the joiner's wait into a reset."""
    situation = Situation(torch=("2.13.0", "2.1.2"), env=({"USE_LIBUV": "0"}, {}))
    assert predict(situation) == (TIMEOUT, OPAQUE)


@pytest.mark.parametrize(
    ("world", "outcomes"),
    [
        (("2.2.2", "2.6.0"), (OK, OK)),
        (("2.1.2", "2.2.2"), (OPAQUE, OPAQUE)),
        (("2.2.2", "2.1.2"), (TIMEOUT, TIMEOUT)),
        (("2.0.1", "2.1.2"), (TIMEOUT, TIMEOUT)),
        (("1.13.1", "2.2.2"), (TIMEOUT, TIMEOUT)),
        (("2.1.2", "2.1.2", "2.6.0"), (OPAQUE, OPAQUE, OPAQUE)),
        (("2.1.2", "2.6.0", "2.1.2"), (OPAQUE, OPAQUE, TIMEOUT)),
    ],
)
def test_files_carry_no_store_so_gloo_and_keys_decide(world: tuple[str, ...], outcomes: tuple[Outcome, ...]) -> None:
    """Who reads addresses of another form fails at once; who waits for a key that nobody writes times out."""
    assert predict(Situation(torch=world, rendezvous="file")) == outcomes


def bridged(*world: str, **more: str) -> tuple[Outcome, ...]:
    return predict(Situation(torch=world, store=Store.BRIDGE, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("pair", [("2.2.2", "2.6.0"), ("2.13.0", "2.2.2"), ("2.1.2", "2.1.2"), ("2.3.1", "2.14.1")])
def test_at_a_bridge_the_store_is_no_obstacle(pair: tuple[str, str]) -> None:
    """As over a file, for any scenario."""
    assert bridged(*pair) == predict(Situation(torch=pair, rendezvous="file")) == (OK, OK)
    assert bridged(*pair, scenario="a_users_own") == (OK, OK)


def test_what_changed_above_the_store_stays_as_it_is_at_a_bridge() -> None:
    """Facts about pairs count there too; only who waits for whom may differ."""
    assert bridged("2.2.2", "2.6.0", scenario="dtensor") == (CRASH, OPAQUE)
    assert bridged("2.1.2", "2.6.0", scenario="ddp.unused") == (OPAQUE, CRASH)
    two_d = {"scenario": "device_mesh.two_d"}
    assert bridged("2.13.0", "2.6.0", **two_d) == (TIMEOUT, HANG)
    assert predict(Situation(torch=("2.13.0", "2.6.0"), **two_d)) == (TIMEOUT, TIMEOUT)  # type: ignore[arg-type]


def test_between_2_1_and_later_only_what_was_measured_at_a_bridge_is_predicted() -> None:
    """No guess about other scenarios, nor about releases that no bridge was tried with."""
    assert bridged("2.1.2", "2.2.2", scenario="all_reduce.small") == (OK, OK)
    assert bridged("2.1.2", "2.2.2", "2.15.0", scenario="ddp.default") == (OK, OK, OK)
    assert bridged("2.1.2", "2.2.2", scenario="store_connect", rendezvous="store") == (OK, OK)
    assert bridged("2.1.2", "2.2.2", scenario="a_users_own") == ()
    assert bridged("2.1.2", "2.2.2", scenario="new_group.local") == ()
    assert bridged("2.0.1", "2.2.2", scenario="all_reduce.small") == ()
    assert bridged("2.0.1", "2.0.1", scenario="all_reduce.small") == ()


def test_in_a_world_of_three_the_others_wait_for_the_one_that_could_not_join() -> None:
    """One odd joiner: only it ends early."""
    assert predict(Situation(torch=("2.2.2", "2.1.2", "2.2.2"))) == (TIMEOUT, OPAQUE, TIMEOUT)


def test_an_unknown_release_gets_no_prediction() -> None:
    """None is a version of which only running tells."""
    assert predict(Situation(torch=("2.6.0", None))) == ()


@pytest.mark.parametrize("host", RELEASES)
@pytest.mark.parametrize("joiner", RELEASES)
def test_with_the_guard_a_group_is_admitted_or_refused_as_a_whole(host: str, joiner: str) -> None:
    """Right or refused, and admitted exactly where stock PyTorch would work."""
    stock = predict(Situation(torch=(host, joiner)))
    guarded = predict(Situation(torch=(host, joiner), guard=Guard.ON))
    assert guarded == ((OK, OK) if stock == (OK, OK) else (CLEAR, CLEAR))


def test_a_guarded_side_alone_knows_an_era_but_no_release() -> None:
    """One-sided: a store era that can't work is refused; with any other the guard steps aside."""
    assert predict(Situation(torch=("2.1.2", "2.2.2"), guard=Guard.HOST)) == (OPAQUE, OPAQUE)
    assert predict(Situation(torch=("2.1.2", "2.2.2"), guard=Guard.JOINERS)) == (TIMEOUT, OPAQUE)
    assert predict(Situation(torch=("2.6.0", "2.6.0"), guard=Guard.JOINERS)) == (OK, OK)
    assert predict(Situation(torch=("2.6.0", "2.13.0"), guard=Guard.HOST)) == (OK, OK)
    assert predict(Situation(torch=("2.3.1", "2.3.1"), guard=Guard.HOST)) == (TIMEOUT, OPAQUE)


@pytest.mark.parametrize(
    ("name", "outcomes"),
    [
        ("TORCH_GLOO_LAZY_INIT", (HANG, CRASH)),
        ("GLOO_ENABLE_RANK_AS_SEQUENCE_NUMBER", (OPAQUE, CRASH)),
        ("TORCH_DIST_INIT_BARRIER", (TIMEOUT, CRASH)),
    ],
)
def test_a_setting_on_one_rank_has_its_measured_outcome(name: str, outcomes: tuple[Outcome, ...]) -> None:
    """And with the guard it is refused before it can do harm."""
    both, env = ("2.13.0", "2.13.0"), ({name: "1"}, {})
    assert predict(Situation(torch=both, env=env)) == outcomes
    assert predict(Situation(torch=both, env=env, guard=Guard.ON)) == (CLEAR, CLEAR)


def test_a_setting_that_the_release_does_not_read_changes_nothing() -> None:
    """2.6 has no lazy gloo."""
    assert predict(Situation(torch=("2.6.0", "2.6.0"), env=({"TORCH_GLOO_LAZY_INIT": "1"}, {}))) == (OK, OK)


def test_solo_and_handover_cells_meet_no_peer() -> None:
    """Nothing crosses the wire there."""
    assert predict(Situation(torch=("1.13.1", "2.6.0"), kind=Kind.HANDOVER)) == (OK, OK)
    assert predict(Situation(torch=("2.6.0",), kind=Kind.SOLO)) == (OK,)


def test_an_emptied_table_lets_no_prediction_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The predictions come from the guard's table and from nowhere else."""
    eras.release.cache_clear()
    monkeypatch.setattr(table, "TABLE", dict.fromkeys(table.TABLE, (((1, 7), "all"),)))
    try:
        assert predict(Situation(torch=("2.1.2", "2.2.2"))) == (OK, OK)
    finally:
        eras.release.cache_clear()


@pytest.mark.parametrize(("policy", "outcome"), [("exact", CLEAR), ("minor", CLEAR), ("era", OK)])
def test_rank_0s_policy_is_part_of_the_prediction(policy: str, outcome: Outcome) -> None:
    """A mix that the table admits may still be refused."""
    env: tuple[dict[str, str], ...] = ({"TORCHSKEW_GUARD_POLICY": policy}, {})
    assert predict(Situation(torch=("2.6.0", "2.13.0"), env=env, guard=Guard.ON)) == (outcome, outcome)


@pytest.mark.parametrize(
    ("scenario", "pair", "outcomes"),
    [
        ("checkpoint_dcp.one", ("2.2.2", "2.6.0"), (OK, OK)),
        ("checkpoint_dcp.one", ("2.6.0", "2.2.2"), (OK, OPAQUE)),
        ("checkpoint_dcp.one", ("2.15.0", "2.14.1"), (OK, OPAQUE)),
        ("checkpoint_dcp.one", ("2.15.0", "2.15.0", "2.14.1", "2.13.0"), (OK, OK, OPAQUE, NOT_RUN)),
        ("checkpoint_resume.adamw", ("2.6.0", "2.13.0"), (OK, OPAQUE)),
        ("checkpoint_resume.adamw", ("2.13.0", "2.6.0"), (OK, OK)),
        ("checkpoint_resume.adamw", ("2.2.2", "2.13.0"), (OK, OK)),
        ("checkpoint_resume.adamw_partial", ("2.6.0", "2.13.0"), (OK, OK)),
        ("checkpoint_resume.adamw_plain", ("2.15.0", "2.6.0"), (OK, OK)),
        ("checkpoint_resume.sgd", ("2.15.0", "2.14.1"), (OK, OPAQUE)),
        ("checkpoint_resume.sgd", ("2.3.1", "2.3.1"), (OK, WRONG)),
        ("checkpoint_resume.stateful", ("2.15.0", "2.6.0"), (OK, OK)),
        ("checkpoint_resume.stateful", ("2.6.0", "2.2.2"), (OK, OPAQUE)),
        ("pickles.dcp", ("2.6.0", "2.3.1"), (OK, OPAQUE)),
        ("pickles.dcp_alias", ("2.13.0", "2.2.2"), (OK, OPAQUE)),
        ("pickles.dcp", ("2.2.2", "2.3.1"), (OK, WRONG)),
        ("pickles.dcp", ("2.3.1", "2.6.0"), (OK, OK)),
        ("pickles.dcp", ("2.15.0", "2.6.0"), (OK, OK)),
        ("rendezvous_state", ("2.2.2", "2.6.0"), (OK, OPAQUE)),
        ("rendezvous_state", ("2.6.0", "2.2.2"), (OK, OK)),
        ("rendezvous_state", ("1.13.1", "2.0.1"), (OK, OPAQUE)),
        ("rendezvous_state", ("2.0.1", "1.13.1"), (OK, OPAQUE)),
        ("torch_save", ("2.6.0", "1.13.1"), (OK, OK)),
    ],
)
def test_what_a_release_reads_of_another_depends_on_who_wrote(
    scenario: str, pair: tuple[str, ...], outcomes: tuple[Outcome, ...]
) -> None:
    """Rank 0 writes, the others read one after another, until one fails."""
    assert predict(Situation(torch=pair, kind=Kind.HANDOVER, scenario=scenario)) == outcomes


@pytest.mark.parametrize(("torch", "outcomes"), [
    (("2.10.0a0+b4e4ee81d3", "2.13.0"), (OK, OK)),  # nothing begins with 2.10
    (("2.5.0a0+872d972e41", "2.13.0"), ()),  # the store of 2.4 can't serve 2.13, that of 2.5 can
    (("2.5.0.dev20240801+cu124", "2.5.0.dev20240801+cu124"), (OK, OK)),  # the same build, whatever it speaks
    (("2.1.2", "2.3.0a0+40ec155e58"), (TIMEOUT, OPAQUE)),  # neither can join
])  # fmt: skip
def test_a_build_between_releases_is_predicted_only_where_both_of_them_agree(
    torch: tuple[str, ...], outcomes: tuple[Outcome, ...]
) -> None:
    assert predict(Situation(torch=torch)) == outcomes
