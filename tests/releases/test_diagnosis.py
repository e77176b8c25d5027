"""A text leads to its entry; what it can't decide stays open; versions are never blamed without a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torchskew.model.ids import CellId
from torchskew.releases.breaks import Break, OtherCause, Side, Symptom
from torchskew.releases.diagnosis import (
    Diagnosis,
    Fault,
    Fit,
    Line,
    Material,
    NamedRelease,
    diagnose,
    next_steps,
    shows,
)
from torchskew.report.catalogue import catalogue


def named(case: Break | OtherCause) -> str:
    """A case for pytest's list."""
    return case.id


BREAKS, OTHERS = catalogue().breaks, catalogue().others
SPECIFIC = [(entry, symptom) for entry in BREAKS for symptom in entry.symptoms if symptom.specific]
SURE = [(cause, symptom) for cause in OTHERS for symptom in cause.symptoms if symptom.specific]


def asked(text: str, first: str = "", second: str = "", named: tuple[str, ...] = ()) -> Diagnosis:
    """A diagnosis of one line."""
    releases = tuple(NamedRelease(release=each) for each in named)
    material = Material(lines=(Line(text=text),), named=releases, first=first, second=second)
    return diagnose(material, catalogue())


def written(symptom: Symptom) -> str:
    """A line as a rank would show it, with something in each gap."""
    return f"RuntimeError: {symptom.text.replace('*', '17')} (at 0x7f)"


@pytest.mark.parametrize("entry", BREAKS, ids=named)
def test_a_specific_text_leads_to_its_entry(entry: Break) -> None:
    """Without any release known."""
    fault = Fault.OTHER if entry.of_one_release else Fault.RELEASES  # a setting or a network needs no second release
    for symptom in (each for each in entry.symptoms if each.specific):
        diagnosis = asked(written(symptom))
        best = diagnosis.matches[0]
        assert (diagnosis.fault, best.entry.id, best.fit) == (fault, entry.id, Fit.CERTAIN), symptom.text


@pytest.mark.parametrize("entry", BREAKS, ids=named)
def test_a_general_text_alone_blames_no_version(entry: Break) -> None:
    """It could be the entry, and the answer says what to compare."""
    for symptom in (each for each in entry.symptoms if not each.specific):
        diagnosis = asked(written(symptom))
        assert diagnosis.fault is not Fault.RELEASES, symptom.text
        listed = entry.id in {match.entry.id for match in diagnosis.matches}
        assert listed or diagnosis.fault is Fault.OTHER, symptom.text


@pytest.mark.parametrize("cause", OTHERS, ids=named)
def test_a_sure_text_of_another_cause_is_no_versions_fault(cause: OtherCause) -> None:
    """Even where two releases are known that break elsewhere."""
    for symptom in (each for each in cause.symptoms if each.specific):
        diagnosis = asked(written(symptom), "2.1.2", "2.15.0")
        assert diagnosis.fault is Fault.OTHER, symptom.text
        assert cause.id == diagnosis.others[0].cause.id, symptom.text


def of_log(*lines: str) -> Diagnosis:
    """A diagnosis of several lines."""
    return diagnose(Material(lines=tuple(Line(text=text) for text in lines)), catalogue())


@pytest.mark.parametrize("prefix", ["", "[rank1]:     ", "(Worker pid=1775) "])
def test_a_message_that_is_broken_in_two_is_found(prefix: str) -> None:
    """By a terminal, or by a logger that repeats its prefix."""
    diagnosis = of_log(
        f"{prefix}RuntimeError: one of the variables needed for gradient computation has been modified",
        f"{prefix}by an inplace operation: [torch.cuda.FloatTensor [768]] is at version 3",
    )
    assert (diagnosis.fault, diagnosis.others[0].cause.id) == (Fault.OTHER, "OTHER-29")
    assert [line.text for line in diagnosis.others[0].lines] == [
        f"{prefix}RuntimeError: one of the variables needed for gradient computation has been modified"
    ]
    assert of_log("has been modified", "in between", "by an inplace operation").fault is Fault.UNKNOWN


def test_an_old_python_names_what_it_could_not_import_in_the_line_before() -> None:
    """Python 3.6 does not say where from."""
    diagnosis = of_log("from torch.nn.functional import interpolate", "ImportError: cannot import name 'interpolate'")
    assert (diagnosis.fault, diagnosis.matches[0].entry.id) == (Fault.RELEASES, "SKEW-048")
    assert of_log("from mine import interpolate", "ImportError: cannot import name 'interpolate'").matches == ()


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("ImportError: libtorch_cuda_cpp.so: cannot open shared object file: No such file or directory", "SKEW-046"),
        ("AttributeError: module 'torch.cuda' has no attribute 'OutOfMemoryError'", "SKEW-048"),
    ],
)
def test_of_two_texts_of_one_line_the_longer_decides(line: str, entry: str) -> None:
    """A library of torch that is missing, and one that is missing."""
    diagnosis = asked(line)
    assert (diagnosis.fault, diagnosis.matches[0].entry.id) == (Fault.RELEASES, entry)


WARNED = "A module that was compiled using NumPy 1.x cannot be run in NumPy 2.0.1 as it may crash."


def test_an_exception_of_another_cause_weighs_more_than_a_warning_about_versions() -> None:
    """Jobs go on after such a warning."""
    diagnosis = of_log(WARNED, "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
    assert (diagnosis.fault, diagnosis.others[0].cause.id) == (Fault.OTHER, "OTHER-04")
    assert of_log(WARNED, "CUDA out of memory").fault is Fault.OPEN
    both = of_log(f"ImportError: {WARNED}", "torch.cuda.OutOfMemoryError: CUDA out of memory")
    assert both.fault is Fault.OPEN


def test_what_several_other_causes_print_is_unknown_and_one_of_them_is_named() -> None:
    """No break shows the text, so versions are not suspected either."""
    diagnosis = asked("torch.distributed.elastic.multiprocessing.errors.ChildFailedError:")
    assert diagnosis.fault is Fault.UNKNOWN
    assert "several other causes do, such as: A launcher's worker failed" in diagnosis.sentence


@pytest.mark.parametrize("releases", [("", ""), ("2.2.2", "2.6.0")], ids=["no release known", "releases that fit"])
def test_two_certain_causes_in_one_log_stay_open_and_both_are_named(releases: tuple[str, str]) -> None:
    """A break's own text beside a port in use: neither says which of them ended the job."""
    entry, symptom = next(each for each in SPECIFIC if "redundancy_list" in each[1].text)
    cause, other = next(each for each in SURE if each[0].id == "OTHER-01")
    lines = tuple(Line(text=written(each)) for each in (symptom, other))
    first, second = releases
    diagnosis = diagnose(Material(lines=lines, first=first, second=second), catalogue())
    assert diagnosis.fault is Fault.OPEN
    assert entry.title in diagnosis.sentence
    assert cause.title in diagnosis.sentence
    alone = diagnose(Material(lines=lines[:1]), catalogue())
    assert alone.fault is Fault.RELEASES


@pytest.mark.parametrize(
    ("releases", "entry"),
    [(("2.4.1", "2.6.0"), "SKEW-002"), (("2.6.0", "2.4.1"), "SKEW-002"), (("2.1.2", "2.2.2"), "SKEW-001")],
)
def test_the_releases_decide_between_entries_with_one_text(releases: tuple[str, str], entry: str) -> None:
    """Which of them ran where is not known, so both orders count."""
    diagnosis = asked("Connection reset by peer", *releases)
    assert (diagnosis.fault, diagnosis.matches[0].entry.id) == (Fault.RELEASES, entry)
    assert diagnosis.matches[0].fit is Fit.LIKELY


@pytest.mark.parametrize("releases", [("2.6.0", "2.6.0"), ("2.6.0", "2.13.0")])
def test_releases_that_have_no_such_break_are_not_blamed(releases: tuple[str, str]) -> None:
    """The same release on every rank, and a pair that mixes."""
    diagnosis = asked("Connection reset by peer", *releases)
    assert diagnosis.fault is Fault.OTHER
    assert "No break between" in diagnosis.sentence


def test_a_text_of_one_surface_blames_no_version_where_nobody_said_that_the_job_uses_it() -> None:
    """2.6 and 2.13 mix; a mesh of two dimensions does not, and the answer says so."""
    diagnosis = asked("Timed out waiting 5000ms for send operation to complete", "2.6.0", "2.13.0")
    assert diagnosis.fault is Fault.OPEN
    assert "SKEW-022" in {match.entry.id for match in diagnosis.matches}
    assert "where the job uses what follows" in diagnosis.sentence


def test_a_specific_text_with_the_wrong_releases_is_only_possible() -> None:
    """Somebody is wrong about the releases, and the answer says which the entry needs."""
    diagnosis = asked("'_RendezvousState' object has no attribute 'redundancy_list'", "2.6.0", "2.13.0")
    assert diagnosis.fault is Fault.OPEN
    assert "it needs 2.0 to before 2.3 then 2.3 and later" in diagnosis.matches[0].why


def test_releases_that_the_log_names_count_and_one_alone_does_not() -> None:
    """A single named release says nothing of the other ranks."""
    text = "Connection reset by peer"
    assert asked(text, named=("2.4.1+cu121", "2.6.0+cu124")).fault is Fault.RELEASES
    assert asked(text, named=("2.4.1+cu121",)).fault is Fault.OPEN


def test_nothing_known_is_said_to_be_unknown() -> None:
    """And how to get further."""
    diagnosis = asked("ValueError: my own code is wrong")
    assert diagnosis.fault is Fault.UNKNOWN
    assert "torch.__version__" in next_steps(diagnosis, Material(lines=()))[0]


def test_the_next_step_is_a_command_for_these_releases() -> None:
    """A declaration and the scenario that shows it."""
    material = Material(lines=(Line(text="Connection reset by peer"),), first="2.4.1", second="2.6.0")
    steps = next_steps(diagnose(material, catalogue()), material)
    assert steps[0] == "torchskew init 2.4.1 2.6.0 && torchskew matrix --scenarios 'rendezvous_tcp'"


def test_a_gap_of_a_symptom_stays_within_reach() -> None:
    """`*` is not the rest of a long line."""
    symptom = Symptom(text="begin * end", rank="any", specific=True)
    assert shows(symptom, "begin 12 end")
    assert not shows(symptom, "begin " + "x" * 500 + " end")


SURVEY = json.loads(Path(__file__).with_name("failures_of_a_survey.json").read_text(encoding="utf-8"))["failures"]
TEXTLESS = ("AssertionError: ",)  # an assertion without a message says nothing to anybody


def test_every_failure_of_a_survey_belongs_to_exactly_one_entry() -> None:
    """Cells that really ran: 220 failures between six releases."""
    entries = {each["cell"]: [found.id for found in entries_of(each["cell"])] for each in SURVEY}
    assert len(entries) >= 200
    assert {cell: ids for cell, ids in entries.items() if len(ids) != 1} == {}


def entries_of(cell: str) -> tuple[Break, ...]:
    """The entries that a cell of the survey shows; it ran with one Python."""
    parts = CellId(cell)
    return catalogue().of_cell(parts.name, [Side(release, "3.11") for release in parts.skew])


def test_the_texts_of_a_survey_lead_to_their_entries() -> None:
    """With the releases known, the entry is among those that fit; in four of five cases it is the first."""
    first = listed = 0
    missed = []
    for each in SURVEY:
        lines = tuple(Line(text=error["text"]) for error in each["errors"] if error["text"] not in TEXTLESS)
        releases = CellId(each["cell"]).skew
        if not lines or len(releases) < 2:
            continue
        material = Material(lines=lines, first=releases[0], second=releases[1])
        ids = [match.entry.id for match in diagnose(material, catalogue()).matches]
        (right,) = (entry.id for entry in entries_of(each["cell"]))
        first += ids[:1] == [right]
        listed += right in ids
        missed += [(each["cell"], right, ids)] if right not in ids else []
    assert missed == []
    assert first / listed > 0.8
