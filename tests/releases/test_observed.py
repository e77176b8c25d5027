"""What runs have shown is predicted from then on, each fact with the cell that shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

import pytest
from torchskew.model.outcomes import Kind, Outcome, Store
from torchskew.model.versions import Source, SourceKind, Suite, Version
from torchskew.releases import observed
from torchskew.releases.eras import Situation, predict, release
from torchskew.releases.observed import OBSERVATIONS, RUN, Observation
from torchskew.workflows.inputs import read_scenarios

from tests.releases.sides import of as sides_of

OK, HANG = Outcome.OK, Outcome.HANG
NAMES = [
    f"{one.name}.{variant.name}" if variant else one.name
    for one in read_scenarios().values()
    for variant in one.variants
]


@pytest.fixture(autouse=True)
def _observations_of_this_test_only() -> Iterator[None]:
    observed.about.cache_clear()
    yield
    observed.about.cache_clear()


@pytest.mark.parametrize("observation", OBSERVATIONS, ids=lambda each: f"{each.scenario} {each.first} {each.second}")
def test_an_observation_covers_a_scenario_and_predicts_the_cell_that_shows_it(
    observation: Observation,
) -> None:
    name = next(name for name in NAMES if fnmatchcase(name, observation.scenario))
    ranks = sides_of(observation)
    assert observation.covers(name, *ranks)
    torch, pythons, numpys = zip(*ranks, strict=True)
    numbers = tuple(one.number for one in map(release, torch) if one)
    assert len(numbers) == 2
    store = observation.store or Store.STOCK
    assert observed.outcomes(name, numbers, pythons, numpys, store) == observation.outcomes


def test_names_are_matched_once_for_each_scenario_not_for_each_pair_of_releases(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    matched = []
    monkeypatch.setattr(observed, "OBSERVATIONS", (Observation("ddp.*", "<2.2", "", (OK, HANG), ""),) * 3)
    monkeypatch.setattr(observed, "fnmatchcase", lambda name, pattern: matched.append(name) or name == pattern)
    for minor in range(20):
        assert observed.outcomes("barrier", ((2, minor, 0), (2, 6, 0))) is None
    assert len(matched) == 3


def test_the_run_that_showed_them_is_named() -> None:
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", RUN)


@pytest.mark.parametrize(
    ("first", "second", "either", "across"),
    [
        ("<2.14", ">=2.14", False, ("2.13.0,2.14.1",)),
        ("<2.14", ">=2.14", True, ("2.13.0,2.14.1", "2.14.1,2.13.0")),
        ("", "<2.14", False, ("2.13.0,2.13.0", "2.14.1,2.13.0")),
        (">=2.14", ">=2.14", False, ("2.14.1,2.14.1",)),
    ],
)
def test_an_observation_holds_for_the_releases_it_names_on_their_ranks(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str, either: bool, across: tuple[str, ...]
) -> None:
    monkeypatch.setattr(observed, "OBSERVATIONS", (Observation("ddp.*", first, second, (OK, HANG), "", either=either),))
    for skew in ("2.13.0,2.13.0", "2.13.0,2.14.1", "2.14.1,2.13.0", "2.14.1,2.14.1"):
        told = predict(Situation(torch=tuple(skew.split(",")), scenario="ddp.hook"))
        assert told == ((OK, HANG) if skew in across else (OK, OK)), skew


def test_an_observation_changes_nothing_where_a_sourced_fact_stops_the_pair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observed, "OBSERVATIONS", (Observation("*", "<2.2", ">=2.2", (HANG, HANG), ""),))
    assert predict(Situation(torch=("2.1.2", "2.2.2"), scenario="ddp.hook")) == (Outcome.TIMEOUT, Outcome.OPAQUE)
    assert predict(Situation(torch=("2.1.2", "2.2.2"), scenario="rng_state", kind=Kind.HANDOVER)) == (HANG, HANG)
    assert predict(Situation(torch=("2.1.2",), scenario="x", kind=Kind.SOLO)) == (OK,)


@pytest.mark.parametrize(
    ("pythons", "expected"),
    [
        (("3.13", "3.11"), (OK, HANG)),
        (("3.11", "3.13"), (OK, OK)),
        (("3.13", "3.13"), (OK, OK)),
        (("3.13", ""), (OK, OK)),
        ((), (OK, OK)),
    ],
)
def test_an_observation_about_pythons_needs_both_of_them(
    monkeypatch: pytest.MonkeyPatch, pythons: tuple[str, ...], expected: tuple[Outcome, ...]
) -> None:
    seen = Observation("ddp.*", "", "", (OK, HANG), "", python=(">=3.13", "<3.13"))
    monkeypatch.setattr(observed, "OBSERVATIONS", (seen,))
    assert predict(Situation(torch=("2.6.0", "2.13.0"), scenario="ddp.hook", python=pythons)) == expected


@pytest.mark.parametrize(
    ("python", "suite", "expected"),
    [("3.13", None, "3.13"), ("/usr/bin/python3", None, ""), (None, None, ""), (None, "3.9", "3.9")],
)
def test_a_version_knows_the_python_that_its_source_declares(
    python: str | None, suite: str | None, expected: str
) -> None:
    of = Suite(name="s", torch="1.7.1", reports="1.7.1", python=suite, download=1) if suite else None
    source = Source(kind=SourceKind.PIP, value="torch==2.6.0", python=python, suite=of)
    assert Version(name="x", sources=(source,)).python == expected


def test_what_an_environment_has_counts_more_than_what_was_declared() -> None:
    source = Source(kind=SourceKind.PIP, value="torch==2.6.0", python="3.11", requires=("numpy",))
    version = Version(name="x", sources=(source,), known_python="3.13.5", known_numpy="1.26.4")
    assert (version.python, version.numpy) == ("3.13.5", "1.26.4")


@pytest.mark.parametrize("bound", ["<=2.4", "=2.4", ">2.4", "2.4", ">=two"])
def test_a_misspelt_bound_is_an_error_and_not_a_bound_that_never_holds(bound: str) -> None:
    with pytest.raises(ValueError, match="a bound is >=RELEASE or <RELEASE"):
        Observation("ddp.*", bound, "", (OK, HANG), "").covers("ddp.hook", ("2.6.0", "", ""), ("2.6.0", "", ""))


@pytest.mark.parametrize(
    ("requires", "expected"),
    [
        (("numpy",), "2.0"),
        (("setuptools", "numpy<2"), "1.26"),
        (("NumPy==1.24.3",), "1.24.3"),
        (("numpy>=1.22",), "2.0"),
        (("numpy>=1.22,<1.25",), "1.24"),
        (("numpy<2.0.0; python_version > '3.8'",), "1.26"),
        (("numpy<2.3",), "2.0"),
        (("numpydoc",), ""),
        (("numpy==1.26.*",), "1.26"),
        (("setuptools",), ""),
        (("no requirement at all!",), ""),
    ],
)
def test_a_version_knows_the_numpy_that_its_source_declares(requires: tuple[str, ...], expected: str) -> None:
    source = Source(kind=SourceKind.PIP, value="torch==2.6.0", requires=requires)
    assert Version(name="x", sources=(source,)).numpy == expected


def test_an_observation_about_numpys_needs_both_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Observation("x", "", "", (OK, HANG), "", numpy=(">=2.0", "<2.0"))
    monkeypatch.setattr(observed, "OBSERVATIONS", (seen,))
    for numpys, expected in ((("2.4", "1.26"), (OK, HANG)), (("2.4", "2.0"), (OK, OK)), (("2.4", ""), (OK, OK))):
        assert predict(Situation(torch=("2.6.0", "2.13.0"), scenario="x", numpy=numpys)) == expected
