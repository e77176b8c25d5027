"""[checks] of the declaration: the commands that `torchskew check` runs in every version."""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from torchskew.declaration.declare import check_requirement
from torchskew.declaration.fields import Document, Problems, Table, join, parse
from torchskew.declaration.local import located
from torchskew.errors import ConfigError
from torchskew.model.checks import PLACEHOLDERS, TAGS, Check, Command
from torchskew.model.sizes import bytes_in

_NAME = re.compile(r"[A-Za-z0-9_-]+")
# {name}, but neither the shell's ${name} nor {{name}}, which stands for {name} itself.
_PLACEHOLDER = re.compile(r"(?<![\${])\{([A-Za-z_]\w*)\}(?!\})")
_TAGS = "tags"  # the project's own tags, beside the checks in [checks]
_FIELDS = (
    "command", "requires", "run_on", "on_versions", "timeout", "memory", "processes", "network", "pre_commands",
    "stop_on_fail", "inputs", "env",
)  # fmt: skip
_LONGEST = 86_400.0  # seconds
_LEAST_MEMORY = 16_000_000  # bytes; an interpreter alone needs them
_EXAMPLE = '[checks.unit]\ncommand = ["{python}", "-m", "pytest", "tests/", "-q"]'


def read_checks(document: Document, versions: Iterable[str]) -> tuple[Check, ...]:
    """The declared checks in their order. versions: names that `on_versions` may list.

    Raises:
        ConfigError: with every problem of [checks], or where it declares no check.
    """
    problems = Problems(document.name)
    top = Table(problems, "", parse(document))
    declared = dict(top.get("checks", dict, {}))
    own = Table(problems, "checks", declared).texts(_TAGS, ())
    declared.pop(_TAGS, None)
    known = (*TAGS, *own)
    folder = posixpath.dirname(document.path)
    found = [
        replace(check, requires=tuple(located(text, folder) for text in check.requires))
        for name, table in _tables(Table(problems, "checks", declared))
        for check in [_check(name, table, known, tuple(versions))]
    ]
    if problems.texts:
        raise ConfigError(*problems.texts)
    if not found:
        raise ConfigError(f"{document.name}: declares no check. Write one, like\n{_EXAMPLE}")
    return tuple(found)


def placeholders(command: Command) -> Iterator[str]:
    """The names in braces that a command wants to have filled in."""
    for text in (command,) if isinstance(command, str) else command:
        yield from _PLACEHOLDER.findall(text)


def _tables(checks: Table) -> Iterator[tuple[str, Table]]:
    for name, values in checks.values.items():
        path = join(checks.path, name)
        if not isinstance(values, dict):
            checks.problems.add(path, f"must be a table like\n{_EXAMPLE}\ngot {values!r}.")
        elif not _NAME.fullmatch(name):
            checks.problems.add(path, "is not a name: use letters, digits, '_' and '-' only.")
        else:
            yield name, Table(checks.problems, path, values)


def _check(name: str, table: Table, tags: tuple[str, ...], versions: tuple[str, ...]) -> Check:
    table.unknown(_FIELDS)
    if "command" not in table.values:
        table.problems.add(table.path, 'has no command. Write one, like command = "python -m pytest -q".')
    requires = table.texts("requires", ())
    for problem in filter(None, (check_requirement(text, torch=False) for text in requires)):
        table.problems.add(join(table.path, "requires"), problem)
    releases, names = _on_versions(table, versions)
    return Check(
        name=name,
        command=_command(table, "command", table.values.get("command", "-")),
        requires=requires,
        run_on=table.choices("run_on", str, tags, (tags[0],)),
        on_releases=releases,
        on_versions=names,
        timeout=_bounded(table, "timeout", 300.0, _LONGEST, "seconds"),
        memory=_memory(table),
        processes=int(_bounded(table, "processes", 256.0, 100_000.0, "processes")),
        network=table.get("network", bool, False),
        pre_commands=_pre_commands(table),
        stop_on_fail=table.get("stop_on_fail", bool, False),
        inputs=_inputs(table),
        env={key: str(value) for key, value in table.get("env", dict, {}).items()},
    )


def _command(table: Table, key: str, value: object) -> Command:
    path = join(table.path, key)
    if not value or not isinstance(value, str | list) or not all(isinstance(word, str) for word in value):
        form = 'a list of words like ["{python}", "-m", "pytest"] (no shell), or a text (through the shell)'
        table.problems.add(path, f"must be {form}, got {value!r}.")
        return "-"
    command = value if isinstance(value, str) else tuple(value)
    for unknown in sorted(set(placeholders(command)) - set(PLACEHOLDERS)):
        near = difflib.get_close_matches(unknown, PLACEHOLDERS, n=1)
        guess = f" Did you mean {{{near[0]}}}?" if near else ""
        known = ", ".join(f"{{{each}}}" for each in PLACEHOLDERS)
        text = (
            f"has the unknown placeholder {{{unknown}}}.{guess} Known: {known}; {{{{{unknown}}}}} is the text itself."
        )
        table.problems.add(path, text)
    return command


def _pre_commands(table: Table) -> tuple[Command, ...]:
    value = table.values.get("pre_commands", [])
    if not isinstance(value, list):
        table.problems.add(join(table.path, "pre_commands"), f"must be a list of commands, got {value!r}.")
        return ()
    return tuple(_command(table, f"pre_commands[{number}]", each) for number, each in enumerate(value))


def _on_versions(table: Table, versions: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """A specifier of releases, or names of declared versions."""
    value, path = table.values.get("on_versions", ""), join(table.path, "on_versions")
    if isinstance(value, str):
        try:
            SpecifierSet(value)
        except InvalidSpecifier:
            text = f'must be a range of releases like ">=2.2" or a list of declared versions, got {value!r}.'
            table.problems.add(path, text)
            return "", ()
        return value, ()
    return "", table.choices("on_versions", str, versions, ())


def _bounded(table: Table, key: str, default: float, most: float, unit: str) -> float:
    value = table.get(key, float, default)
    if not 0 < value <= most:
        table.problems.add(join(table.path, key), f"must be over 0 and at most {most:.0f} {unit}, got {value:g}.")
        return default
    return value


def _memory(table: Table) -> int:
    text = table.get("memory", str, "2 GB")
    size = bytes_in(text)
    if size is not None and size >= _LEAST_MEMORY:
        return size
    if isinstance(table.values["memory"], str):
        form = f'a size like "2 GB" or "512 MB", {_LEAST_MEMORY // 1_000_000} MB at least'
        table.problems.add(join(table.path, "memory"), f"must be {form}, got {text!r}.")
    return _LEAST_MEMORY


def _inputs(table: Table) -> tuple[str, ...]:
    patterns = table.texts("inputs", ())
    for pattern in patterns:
        if pattern.startswith("/") or ".." in pattern.split("/") or not pattern:
            text = f'must be patterns of files below the declaration\'s folder, like "src/**/*.py", got {pattern!r}.'
            table.problems.add(join(table.path, "inputs"), text)
    return patterns
