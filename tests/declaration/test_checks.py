"""[checks] of a declaration: what a check may say, and every problem with its place and the nearest right name."""

from __future__ import annotations

import pytest
from torchskew.declaration.checks import placeholders, read_checks
from torchskew.declaration.declare import declare
from torchskew.declaration.fields import Document
from torchskew.errors import ConfigError
from torchskew.model.checks import Check

VERSIONS = ("2.6.0", "2.13.0")


def read(text: str) -> tuple[Check, ...]:
    return read_checks(Document(path="torchskew.toml", text=text), VERSIONS)


def problem(line: str) -> str:
    with pytest.raises(ConfigError) as raised:
        read(f'[checks]\ntags = ["nightly"]\n[checks.unit]\ncommand = "true"\n{line}\n')
    return str(raised.value)


def test_a_check_says_everything_that_it_may() -> None:
    [check] = read("""
        [checks.unit]
        command = ["{python}", "-m", "pytest", "{root}/tests"]
        requires = ["pytest", "numpy<2"]
        run_on = ["default", "pre_release"]
        on_versions = ">=2.2"
        timeout = 30
        memory = "1.5 GB"
        processes = 8
        network = true
        pre_commands = ["make data", ["touch", "{out}/x"]]
        stop_on_fail = true
        inputs = ["tests/**/*.py"]
        env = { SEED = 7 }
    """)
    assert check == Check(
        name="unit",
        command=("{python}", "-m", "pytest", "{root}/tests"),
        requires=("pytest", "numpy<2"),
        run_on=("default", "pre_release"),
        on_releases=">=2.2",
        timeout=30.0,
        memory=1_500_000_000,
        processes=8,
        network=True,
        pre_commands=("make data", ("touch", "{out}/x")),
        stop_on_fail=True,
        inputs=("tests/**/*.py",),
        env={"SEED": "7"},
    )


def test_checks_keep_the_order_of_the_declaration() -> None:
    names = [check.name for check in read('[checks.b]\ncommand = "b"\n[checks.a]\ncommand = "a"\n')]
    assert names == ["b", "a"]


def test_a_project_declares_tags_of_its_own() -> None:
    [check] = read('[checks]\ntags = ["nightly"]\n[checks.unit]\ncommand = "true"\nrun_on = ["nightly"]\n')
    assert check.run_on == ("nightly",)


def test_versions_may_be_listed() -> None:
    [check] = read('[checks.unit]\ncommand = "true"\non_versions = ["2.6.0"]\n')
    assert (check.on_versions, check.on_releases) == (("2.6.0",), "")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('run_on = ["nightli"]', "Did you mean 'nightly'?"),
        ("comand = 1", "did you mean 'command'?"),
        ('requires = ["numpy=1"]', "Write 'numpy==1'."),
        ('on_versions = "2.2 or later"', 'like ">=2.2"'),
        ('on_versions = ["2.6"]', "Did you mean '2.6.0'?"),
        ("timeout = 0", "over 0 and at most 86400 seconds"),
        ('memory = "2"', 'like "2 GB"'),
        ("memory = 2", "must be text, got 2"),
        ('memory = "1 kB"', "16 MB at least"),
        ("processes = 0", "checks.unit.processes must be over 0"),
        ('pre_commands = "make"', "must be a list of commands"),
        ('pre_commands = ["echo {rot}"]', "pre_commands[0]"),
        ('inputs = ["../x"]', "below the declaration's folder"),
        ('network = "yes"', "must be true or false"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_the_fix(line: str, says: str) -> None:
    text = problem(line)
    assert text.startswith("torchskew.toml: checks.unit.")
    assert says in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[checks.unit]\nrun_on = []\n", "checks.unit has no command"),
        ("[checks.unit]\ncommand = []\n", "must be a list of words"),
        ("[checks.unit]\ncommand = ''\n", "must be a list of words"),
        ('[checks.unit]\ncommand = "{pyton} x"\n', "Did you mean {python}? Known: {root}, {version}, {python}, {out}"),
        ('[checks]\nunit = "true"\n', "checks.unit must be a table"),
        ('[checks."a b"]\ncommand = "true"\n', "is not a name"),
        ("", "declares no check"),
    ],
)
def test_a_check_without_a_right_command_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(text)
    assert says in str(raised.value)


def test_a_project_beside_the_declaration_is_required_by_its_path() -> None:
    text = '[checks.unit]\ncommand = "true"\nrequires = ["-e .", "../x", "pytest"]\n'
    [check] = read_checks(Document(path="/home/me/torchskew.toml", text=text), VERSIONS)
    assert check.requires == ("-e /home/me", "/home/x", "pytest")


def test_every_problem_is_said_at_once() -> None:
    text = problem("timeout = -1\nprocesses = -1")
    assert len(text.splitlines()) == 2


def test_braces_of_the_shell_and_of_python_are_no_placeholders() -> None:
    assert list(placeholders("echo ${HOME} {{root}} {'a': {}} { x; } {root}")) == ["root"]


def test_a_declaration_with_checks_is_a_declaration() -> None:
    text = '[versions]\n"2.6.0" = { pip = "torch==2.6.0" }\n[checks.unit]\ncommand = "true"\n'
    assert list(declare(Document(path="t.toml", text=text)).versions) == ["2.6.0"]
