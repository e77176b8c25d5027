"""Builds between releases: what their label leaves open is read in the build itself, and the rest is called a guess."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from torchskew.guard import build
from torchskew.guard.build import eras_of
from torchskew.guard.errors import ProtocolVersionError, Unverified
from torchskew.guard.notes import notes
from torchskew.guard.roster import roster_of
from torchskew.guard.table import before, era, guessed
from torchskew.guard.verdict import decide, refuses

from tests.guard.ranks import Group, hello_of
from tests.guard.stub import Stub


@pytest.mark.parametrize(("version", "earlier"), [
    ("2.10.0a0+b4e4ee81d3", "2.9.0"),  # NVIDIA's
    ("2.8.0a0+gitabc", "2.7.0"),  # a build from source
    ("2.7.0.dev20250201+cu128", "2.6.0"),  # a nightly
    ("2.0.0a0+1767026", "1.13.0"),
    ("2.6.0", ""), ("2.6.0+cu124", ""), ("2.6.0rc9", ""), ("2.5.1a0", ""), ("1.13.0a0+debian", ""), ("odd", ""),
])  # fmt: skip
def test_a_build_between_two_releases_is_told_by_its_label(version: str, earlier: str) -> None:
    assert before(version) == earlier


def test_a_label_is_a_guess_only_where_something_begins_with_its_release() -> None:
    assert guessed("2.10.0a0+b4e4ee81d3") == []
    assert guessed("2.5.0a0+872d972e41") == ["store"]
    assert guessed("2.2.0a0+81ea7a4") == ["store", "gloo"]
    assert "agent" in guessed("2.6.0a0+git1")
    assert guessed("2.5.0") == []


@pytest.fixture
def distributed(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the build's own files are."""
    monkeypatch.setattr(stub.torch, "__file__", str(tmp_path / "__init__.py"), raising=False)
    (tmp_path / "distributed").mkdir()
    return tmp_path / "distributed"


@pytest.mark.parametrize(("text", "seen"), [("prefix = '/worker/attempt_'", "1.7"), ("no prefix", "2.6")])
def test_what_the_code_shows_counts_more_than_the_label(distributed: Path, text: str, seen: str) -> None:
    (distributed / "rendezvous.py").write_text(text)
    eras, guess = eras_of("2.6.0a0+git1")
    assert eras["agent"] == seen
    assert "agent" not in guess.split()
    assert eras["store"] == era("store", "2.6.0")


def test_what_the_code_does_not_show_is_called_a_guess(distributed: Path) -> None:
    assert "agent" in eras_of("2.6.0a0+git1")[1].split()
    assert eras_of("2.6.0")[1] == ""


class Client:
    """A store's client that greets as a release does, and fails when it is hung up on."""

    greeting = b""

    def __init__(self, host: str, port: int, *_args: Any) -> None:
        with socket.create_connection((host, port)) as conn:
            conn.sendall(self.greeting)
            conn.recv(1)
        raise RuntimeError("Connection reset by peer")


@pytest.mark.slow
@pytest.mark.parametrize(("version", "greeting", "seen"), [
    ("2.5.0a0+1", "00cef7853c0d01020304", "2.5"),
    ("2.5.0a0+1", "00cef7853c04", "2.2"),
    ("2.2.0a0+1", "030500000000000000696e69742f", "2.1"),
    ("2.2.0a0+1", "00cef7853c04", "2.2"),
    ("2.5.0a0+1", "474554202f20485454502f312e31", ""),
])  # fmt: skip
def test_the_store_is_asked_how_its_client_greets(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, version: str, greeting: str, seen: str
) -> None:
    monkeypatch.setattr(Client, "greeting", bytes.fromhex(greeting))
    monkeypatch.setattr(sys.modules["torch.distributed"], "TCPStore", Client, raising=False)
    build._greeting.cache_clear()
    eras, guess = eras_of(version)
    build._greeting.cache_clear()
    assert eras["store"] == (seen or era("store", version))
    assert ("store" in guess.split()) == (seen == "")


def test_warn_has_no_time_to_ask_the_store(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD", "warn")
    monkeypatch.setattr(build, "_greeting", lambda: 1 // 0)
    assert eras_of("2.5.0a0+1")[1] == "store"


@pytest.mark.parametrize(("guess", "proof"), [("", True), ("store", False), ("gloo", True)])
def test_a_guess_is_no_proof(guess: str, proof: bool) -> None:
    labelled = {**hello_of(1, "2.5.0"), "torch": "2.5.0a0+1", "guess": guess}
    roster = roster_of([hello_of(0, "2.2.2"), labelled], "era")  # type: ignore[list-item]
    (objection,) = decide(roster)
    assert (objection.kind, objection.proof) == ("version", proof)
    assert ("a guess by the label of torch 2.5.0a0+1" in objection.text) == (guess == "store")
    assert refuses([objection], "strict", aside=True)


def test_a_group_that_only_a_guess_speaks_against_forms(group: Group) -> None:
    group.start(0, hello_of(0, "2.2.2"))
    group.start(1, {**hello_of(1, "2.5.0"), "torch": "2.5.0a0+1", "guess": "store"})
    results = group.join()
    assert [type(results[rank]) for rank in (0, 1)] == [Unverified] * 2
    assert "a build between releases" in str(results[0])


def test_the_same_mix_is_refused_where_the_code_showed_it(group: Group) -> None:
    group.start(0, hello_of(0, "2.2.2"))
    group.start(1, {**hello_of(1, "2.5.0"), "torch": "2.5.0a0+1"})
    assert [type(each) for each in group.join().values()] == [ProtocolVersionError] * 2


def lines(*hellos: dict[str, Any]) -> list[str]:
    return list(notes(roster_of(list(hellos), "era")))  # type: ignore[arg-type]


def test_a_guess_in_a_mix_is_a_note() -> None:
    labelled = {**hello_of(1, "2.5.0"), "torch": "2.5.0a0+1", "guess": "store"}
    (note,) = lines(hello_of(0, "2.6.0"), labelled)
    assert note.startswith("torch 2.5.0a0+1 is a build between releases: its label is only a guess at its store era")
    assert lines({**labelled, "rank": 0}, labelled) == []


@pytest.mark.parametrize(("field", "one", "other", "title"), [
    ("python", "3.12.8", "3.13.1", "Python"), ("numpy", "1.26.4", "2.1.0", "NumPy"),
])  # fmt: skip
def test_what_pickles_may_not_cross_is_a_note_and_no_refusal(field: str, one: str, other: str, title: str) -> None:
    mixed = [hello_of(0, **{field: one}), hello_of(1, **{field: other})]
    (note,) = lines(*mixed)
    assert note.startswith(f"rank 0 {title} {one}; rank 1 {title} {other}: pickles ")
    assert decide(roster_of(mixed, "exact")) == []  # type: ignore[arg-type]
    assert lines(hello_of(0, **{field: one}), hello_of(1, **{field: one})) == []
    assert lines(hello_of(0, **{field: ""}), hello_of(1, **{field: other})) == []


def test_python_3_14_reads_what_all_others_wrote_and_is_no_note() -> None:
    for other in ("3.11.7", "3.13.1"):
        assert lines(hello_of(0, python="3.14.0"), hello_of(1, python=other)) == []
