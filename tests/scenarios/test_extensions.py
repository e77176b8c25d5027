"""The judges of compiled extensions: lost symbols, another ABI, a stale library; each seeded defect is red."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from torchskew.planning.scenario import Opinion

from tests.scenarios.judging import judged, names

NEEDED = "_ZN3c1015report_overflowEPKc"  # of torchaudio 2.6; 2.15 lost it
LIBRARIES = ("libtorch_cpu", "libc10", "libtorch_python", "libshm")


def symbol_reports(lost: tuple[str, ...]) -> list[dict]:
    """What two ranks report when the second one lost some of libc10's symbols."""
    scenario = names("abi_symbols")
    had = {name: [f"_Z{number}" for number in range(12000)] for name in LIBRARIES}
    had["libc10"] += [NEEDED, "_ZN3c104moreEv"]
    have = {name: [symbol for symbol in each if symbol not in lost] for name, each in had.items()}
    scenario.compared.__globals__["DATA"] = {"wheels": ["torchaudio 2.6.0"], "symbols": {NEEDED: [0]}}
    writer = {"torch": "2.14.1", "exports": {name: len(each) for name, each in had.items()}, "cxx11": True}
    reader = {**writer, "torch": "2.15.0", "earlier": writer, **scenario.compared(had, have)}
    return [writer, reader]


def test_losing_a_symbol_that_an_extension_uses_is_wrong_and_names_it_and_its_user() -> None:
    wrong = judged("abi_symbols", symbol_reports((NEEDED, "_ZN3c104moreEv")))
    assert list(wrong) == [1]
    assert "against 2.14.1 1 symbols that extensions use are gone" in wrong[1]
    assert "c10::report_overflow(char const*) (torchaudio 2.6.0)" in wrong[1]
    assert "libc10 lost 2 of 12,002 (c10 2)" in wrong[1]


def test_losing_symbols_that_nobody_uses_is_reported_and_passes() -> None:
    opinion = judged("abi_symbols", symbol_reports(("_ZN3c104moreEv",)))
    assert isinstance(opinion, Opinion)
    assert not opinion.wrong
    assert opinion.note == "no symbol that extensions use was lost; libc10 lost 1 of 12,002 (c10 1)"


def test_a_table_of_symbols_that_was_not_read_is_wrong() -> None:
    reports = symbol_reports(())
    reports[1]["exports"] = {"libtorch_cpu": 3}
    assert judged("abi_symbols", reports) == {1: "libtorch_cpu exports 3 symbols, fewer than 10000"}


def test_the_committed_symbols_are_those_of_real_wheels() -> None:
    data = names("abi_symbols").DATA
    assert len(data["wheels"]) > 10
    assert [data["wheels"][number] for number in data["symbols"][NEEDED]]


@pytest.mark.slow
def test_a_symbol_removed_from_a_copied_library_is_seen_as_lost(tmp_path: Path) -> None:
    if not shutil.which("c++") or not shutil.which("objcopy"):
        pytest.skip("there is no C++ compiler here")
    source, library, copy = tmp_path / "one.cpp", tmp_path / "one.so", tmp_path / "two.so"
    source.write_text("namespace c10 { void kept() {} void gone() {} static void own() {} void (*use)() = own; }")
    subprocess.run(["c++", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    source.write_text("namespace c10 { void kept() {} }")
    subprocess.run(["c++", "-shared", "-fPIC", str(source), "-o", str(copy)], check=True)
    read = names("abi_symbols").symbols
    before, after = (read(io.BytesIO(path.read_bytes()))[0] for path in (library, copy))
    assert before - after == {b"_ZN3c104goneEv", b"_ZN3c103useE"}


@pytest.mark.slow
def test_abidiff_is_used_where_it_is_installed_and_both_libraries_carry_debug_information(tmp_path: Path) -> None:
    if not shutil.which("c++") or not shutil.which("abidiff"):
        pytest.skip("there is no C++ compiler or no abidiff here (Debian: abigail-tools)")
    libraries = {}
    for name, text in (("one", "int a; int b;"), ("two", "int a; long more; int b;"), ("bare", "int a;")):
        source, libraries[name] = tmp_path / f"{name}.cpp", str(tmp_path / f"{name}.so")
        source.write_text(f"namespace c10 {{ struct Box {{ {text} }}; int of(Box* box) {{ return box->a; }} }}")
        debug = [] if name == "bare" else ["-g"]
        subprocess.run(["c++", *debug, "-shared", "-fPIC", str(source), "-o", libraries[name]], check=True)
    scenario = names("abi_symbols")
    theirs = {"libc10": [libraries["one"], scenario.look(libraries["one"])]}
    assert scenario.abidiff(theirs, {"libc10": libraries["two"]}) == (
        "abidiff: libc10 0 Removed, 1 Changed, 0 Added function"
    )
    assert scenario.abidiff(theirs, {"libc10": libraries["bare"]}).endswith("the libraries carry no debug information")
    Path(libraries["one"]).write_bytes(Path(libraries["two"]).read_bytes())  # another file at the same path
    assert "can't be read from here" in scenario.abidiff(theirs, {"libc10": libraries["two"]})


def test_what_abidiff_says_stands_beside_the_counted_symbols() -> None:
    reports = symbol_reports(())
    reports[1]["abidiff"] = "abidiff: libc10 0 Removed, 1 Changed, 0 Added function"
    note = judged("abi_symbols", reports).note
    assert note.endswith("; nothing was lost; abidiff: libc10 0 Removed, 1 Changed, 0 Added function")


ANSWERS = {"value": [1.0, 8.0, 27.0], "gradient": [3.0, 12.0, 27.0], "check": "torchskew wants one dimension, got 2"}
UNDEFINED = "abi.so: undefined symbol: _ZN3c105ErrorC2E"


def extension_reports(**second: object) -> list[dict]:
    builder = {"torch": "2.6.0", "cxx11": False, **ANSWERS}
    return [builder, {**builder, "torch": "2.13.0", "cxx11": True, **second}]


def test_an_extension_that_computes_passes_and_one_that_is_refused_by_name_does_too() -> None:
    assert judged("abi_extension", extension_reports()) == Opinion(note="it loads and computes")
    refused = [extension_reports()[0], {"torch": "2.13.0", "cxx11": True, "refused": UNDEFINED}]
    opinion = judged("abi_extension", refused)
    assert not opinion.wrong
    assert "_ZN3c105ErrorC2E is missing; the C++ ABI of std::string" in opinion.note


@pytest.mark.parametrize(
    "defect",
    [{"gradient": [3.0, 12.0, 0.0]}, {"value": [1.0, 8.0, 0.0]}, {"check": "nothing"}, {"refused": "it is broken"}],
)
def test_another_layout_or_a_refusal_without_a_name_is_wrong(defect: dict) -> None:
    assert list(judged("abi_extension", extension_reports(**defect)).wrong) == [1]


@pytest.mark.parametrize(
    ("variant", "first", "second", "wrong"),
    [("own", [2, 14], [2, 15], [1]), ("own", [2, 15], [2, 14], []), ("target", [2, 15], [2, 14], [1])],
)
def test_a_stable_extension_must_load_where_that_is_promised(variant, first, second, wrong) -> None:
    reports = [{"release": first, **ANSWERS}, {"release": second, "refused": "a.so: undefined symbol: torch_new_call"}]
    assert list(judged("abi_stable", reports, variant=variant).wrong) == wrong


def test_a_stable_extension_that_computes_something_else_is_wrong() -> None:
    reports = [{"release": [2, 14], **ANSWERS}, {"release": [2, 15], **ANSWERS, "value": [0.0, 0.0, 0.0]}]
    assert list(judged("abi_stable", reports, variant="own").wrong) == [1]


def upgraded(**second: object) -> list[dict]:
    first = {"torch": "2.1.2+cu121", "built for": "2.1.2", "same path": True}
    return [first, {"torch": "2.2.2+cu121", "built for": "2.2.2", "same path": True, **second}]


def test_an_extension_that_was_built_again_or_refused_after_an_upgrade_passes() -> None:
    assert judged("extension_upgrade", upgraded()) == Opinion(note="it was built again")
    refused = {**upgraded()[1], "refused": "ImportError: built for 2.1.2"}
    assert not judged("extension_upgrade", [upgraded()[0], refused]).wrong


def test_a_stale_extension_after_an_upgrade_in_place_is_wrong() -> None:
    told = "it runs 2.2.2 and loaded an extension built for 2.1.2 without a word"
    assert judged("extension_upgrade", upgraded(**{"built for": "2.1.2"})).wrong == {1: told}
    assert list(judged("extension_upgrade", upgraded(**{"same path": False})).wrong) == [1]


@pytest.mark.parametrize(
    ("variant", "report", "wrong"),
    [
        ("plain", {"value": 41}, []),
        ("plain", {"value": 42}, [0]),
        ("together", {"value": "exits [0, 0, 0], compiled 3 times"}, [0]),
        ("bad_source", {"error": "RuntimeError: 'this_is_no_type' does not name a type"}, []),
        ("bad_source", {"error": "RuntimeError: Error building extension"}, [0]),
        ("flags_bad", {"value": 41}, [0]),
        ("directory_missing", {"value": 41}, []),
        ("directory_missing", {"error": "FileNotFoundError: /x/missing/lock"}, []),
        ("directory_missing", {"error": "RuntimeError: no"}, [0]),
    ],
)
def test_a_build_that_loads_something_else_or_hides_why_it_failed_is_wrong(variant, report, wrong) -> None:
    assert list(judged("extension_builds", [report], variant=variant)) == wrong
