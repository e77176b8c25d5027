"""A declaration becomes frozen records, or every problem at once with the whole path of its field."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchskew.declaration.declare import declare, for_runtime
from torchskew.declaration.fields import Document, Problems
from torchskew.errors import ConfigError
from torchskew.model.declared import Declaration
from torchskew.model.outcomes import Guard, Outcome, Store, Verdict
from torchskew.model.runtimes import providers
from torchskew.model.versions import SourceKind
from torchskew.runtimes.docker.catalogue import load_suites

ROOT = Path(__file__).resolve().parents[2]


def declared(text: str, expectations: str = "") -> Declaration:
    beside = Document(path="here/expectations.toml", text=expectations) if expectations else None
    return declare(Document(path="here/torchskew.toml", text=text), load_suites(), beside)


def committed() -> Declaration:
    return declared((ROOT / "torchskew.toml").read_text(encoding="utf-8"))


def problems(text: str, expectations: str = "") -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        declared(text, expectations)
    return caught.value.problems


def test_the_committed_declaration_is_one() -> None:
    declaration = committed()
    assert {"2.1.2", "2.2.2"} <= set(declaration.matrix["venv"].versions)
    assert len(declaration.matrix["venv"].versions) >= 4
    assert {"1.7.1", "1.13.1", "2.6.0", "2.14.1", "2.13.0"} == set(declaration.matrix["docker"].versions)


def test_a_slip_in_a_requirement_is_shown_with_its_fix() -> None:
    (problem,) = problems('[versions]\n"2.x" = { pip = "torch=2.1" }')
    assert problem == (
        "torchskew.toml: versions.\"2.x\".pip must be a requirement, got 'torch=2.1'. Write 'torch==2.1'."
    )


def test_all_problems_of_both_files_come_at_once() -> None:
    text = """
        [versions]
        "a b" = { pip = "torch==2.6.0" }
        one = { pip = "numpy" }
        two = { debain = "trixie" }
        three = { debian = "woody" }
        four = { wheel = "torch.whl" }
        [matrix]
        timeout = -1
        guard = ["maybe"]
        store = ["brigde"]
        world_sizes = [1]
        pairs = [["one", "nine"]]
        runtime = "podman"
        matrx = 1
    """
    found = "\n".join(problems(text, '[[expect]]\ncells = "*"\nverdict = "BAD"\noutcomes = ["FINE"]'))
    for fragment in (
        'versions."a b" is not a name',
        "versions.one.pip must require torch",
        "versions.two.debain is not a field; did you mean 'debian'?",
        "versions.two has no source",
        "versions.three.debian must be one of the suites",
        "versions.four.wheel must be the path of a wheel",
        "matrix.timeout must be over 0",
        "matrix.guard must hold only 'off' and 'on'",
        "matrix.store must hold only stock, bridge, got 'brigde'. Did you mean 'bridge'?",
        "matrix.world_sizes must be a list of numbers from 2 to 64",
        "matrix.pairs names 'nine'",
        "matrix.runtime must be one of auto, docker, venv",
        "matrix.matrx is not a field",
        "expect[1].reason is required: say why",
        "expect[1].verdict must be one of",
        "expect[1].outcomes must hold only OK, WRONG",
    ):
        assert fragment in found
    assert found.count("\n") == 15


def test_two_versions_of_one_name_are_refused() -> None:
    assert "Cannot overwrite" in problems('[versions]\na = {pip="torch"}\na = {pip="torch"}')[0]
    assert "only in upper and lower case" in problems('[versions]\nA = {pip="torch"}\na = {pip="torch"}')[0]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [("", "declares no version"), ("[versions", "is not valid TOML"), ("[versions]\na = 1", "must be a table")],
)
def test_a_file_that_is_no_declaration_says_why(text: str, fragment: str) -> None:
    assert fragment in problems(text)[0]


def test_an_expectation_carries_its_reason_and_classes() -> None:
    text = '[[expect]]\ncells = "*"\nreason = "store"\noutcomes = ["TIMEOUT", "OPAQUE"]\nuntil = 2027-01-01'
    (entry,) = declared('[versions]\na = {pip="torch==2.6.0"}', text).expectations
    assert (entry.verdict, entry.outcomes, entry.until) == (
        Verdict.FAIL,
        (Outcome.TIMEOUT, Outcome.OPAQUE),
        "2027-01-01",
    )


def test_a_version_brings_the_facts_of_the_source_that_the_runtime_takes() -> None:
    version = committed().versions["2.6.0"]
    docker, venv = (for_runtime(version, name, Problems("")) for name in ("docker", "venv"))
    assert (docker.sources[0].kind, docker.env["USE_LIBUV"], docker.reports) == (SourceKind.DEBIAN, "0", "2.6.0+debian")
    assert (venv.sources[0].kind, dict(venv.env), venv.reports) == (SourceKind.PIP, {}, "2.6.0")


@pytest.mark.parametrize(
    ("source", "runtime", "python"),
    [
        ('pip = "torch==2.13.0"', "docker", "3.11"),
        ('wheel = "torch-2.13.0-cp311-cp311-linux_x86_64.whl"', "docker", "3.11"),
        ('pip = "torch==2.13.0", python = "3.13"', "docker", "3.13"),
        ('debian = "trixie"', "docker", "3.13"),
        ('image = "registry/torch:2.13"', "docker", ""),
        ('pip = "torch==2.13.0"', "venv", ""),
    ],
)
def test_the_python_of_a_version_is_known_where_its_runtime_decides_it(source: str, runtime: str, python: str) -> None:
    version = declared(f"[versions]\na = {{ {source} }}").versions["a"]
    assert for_runtime(version, runtime, Problems("")).python == python


def test_both_committed_declarations_ask_for_the_same_environments() -> None:
    survey = declared((ROOT / "docs" / "compatibility.toml").read_text(encoding="utf-8")).versions
    shared = {name: version for name, version in committed().versions.items() if providers(version)[-1] == "venv"}
    assert {"2.1.2", "2.2.2", "2.6.0", "2.13.0", "2.14.1"} == set(shared)
    for name, version in shared.items():
        sources = [for_runtime(each, "venv", Problems("")).sources for each in (version, survey[name])]
        assert sources[0] == sources[1], name


def test_a_version_that_the_runtime_cant_make_says_what_to_add() -> None:
    found = Problems("torchskew.toml")
    for_runtime(committed().versions["1.7.1"], "venv", found)
    assert "which the venv runtime can't use. Add one of interpreter, source, wheel, pip" in found.texts[0]
    assert 'set runtime = "docker", or leave it out.' in found.texts[0]


def test_the_matrix_of_a_runtime_overlays_the_common_one() -> None:
    text = '[versions]\na={pip="torch"}\nb={pip="torch"}\n[matrix]\nguard=["on"]\n'
    text += '[matrix.venv]\nversions=["b"]\nstore="bridge"'
    matrix = declared(text).matrix
    assert (matrix["docker"].versions, matrix["venv"].versions) == (("a", "b"), ("b",))
    assert matrix["venv"].guard == (Guard.ON,)
    assert (matrix["docker"].store, matrix["venv"].store) == ((Store.STOCK,), (Store.BRIDGE,))


def test_a_matrix_names_versions_by_a_pattern_as_well_in_their_declared_order() -> None:
    text = '[versions]\n"2.6.0"={pip="torch"}\nold={debian="bullseye"}\n"2.13.0"={pip="torch"}\n'
    assert declared(f'{text}[matrix.venv]\nversions=["2.13.0", "2.*"]').matrix["venv"].versions == ("2.13.0", "2.6.0")
    (problem,) = problems(f'{text}[matrix]\nversions=["3.*"]')
    assert problem.endswith("matrix.versions has '3.*', which matches no version of [versions]: 2.6.0, old, 2.13.0.")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = " + "[" * 5000, "torchskew.toml: nests lists or tables too deeply"),
        ("x = " + "9" * 5000, "torchskew.toml: holds a number of thousands of digits"),
        ("[matrix]\ntimeout = 1" + "0" * 400, "torchskew.toml: matrix.timeout must be a number"),
        ("[matrix]\ntimeout = nan", "torchskew.toml: matrix.timeout must be a number, got nan"),
        ('[versions]\na = { interpreter = "/p", torch = "new" }', "versions.a.torch must be a release like '2.6.0'"),
        ('[versions]\na = { interpreter = "/p", torch = "' + "9" * 5000 + '" }', "versions.a.torch must be a release"),
    ],
)
def test_what_python_itself_refuses_to_read_is_a_problem_of_its_field(text: str, words: str) -> None:
    """Found by `make chaos`: each of these was a traceback."""
    assert words in "\n".join(problems(text))
