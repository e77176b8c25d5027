"""Reads the files that people write (declaration, baseline, scenarios) into records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType

from torchskew.declaration.baseline import parse_baseline
from torchskew.declaration.declare import declare
from torchskew.declaration.fields import Document, Problems
from torchskew.errors import ConfigError
from torchskew.model.declared import Declaration, Expectation
from torchskew.planning.scenario import Scenario, Surroundings
from torchskew.planning.scenario_file import data_name, parse_scenario
from torchskew.runtimes.digest import digest
from torchskew.runtimes.docker.catalogue import load_suites
from torchskew.runtimes.package_data import SCENARIOS, data_folder
from torchskew.runtimes.venv.projects import data_content, folder_content

MATRIX_BASELINE, GATE_BASELINE = "expectations.toml", "baseline.toml"


_NO_DECLARATION = "Name one with --declaration, or write one with `torchskew init`."


def read_document(path: Path, fix: str = _NO_DECLARATION) -> Document:
    """A file's text, or a ConfigError that says why it can't be read. fix: what names the file, and what to do."""
    try:
        return Document(path=str(path), text=path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file. {fix}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name}: is not UTF-8 text: {error}. Save it as UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}. {fix}") from None


def read_declaration(path: Path) -> Declaration:
    """The declaration, with the matrix's baseline beside it.

    Raises:
        ConfigError: with every problem of both files.
    """
    beside = path.with_name(MATRIX_BASELINE)
    document = replace(read_document(path), path=str(path.absolute()))
    return declare(document, load_suites(), read_document(beside) if beside.exists() else None)


def read_baseline(path: Path) -> tuple[Expectation, ...]:
    """The expectations of a baseline; none where there is no such file yet.

    Raises:
        ConfigError: with every problem of the file.
    """
    if not path.exists():
        return ()
    problems = Problems(path.name)
    expectations = parse_baseline(read_document(path), problems)
    if problems.texts:
        raise ConfigError(*problems.texts)
    return expectations


def append_to_baseline(path: Path, block: str) -> None:
    """Put a block of TOML at the end of a baseline, which is created where there is none."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(before + block, encoding="utf-8")


@cache
def read_scenarios(folder: Path | None = None) -> Mapping[str, Scenario]:
    """Every scenario by name, in alphabetical order; without a folder, those that come with torchskew.

    A folder may be flat, or hold one level of groups; the file's name alone is the scenario's name.

    Raises:
        ConfigError: with every file that is not a scenario and what it lacks, and every name that two files share.
    """
    where = folder or data_folder(SCENARIOS)
    paths = [path for pattern in ("[a-z]*.py", "[a-z]*/[a-z]*.py") for path in where.glob(pattern)]
    scenarios: dict[str, Scenario] = {}
    problems: list[str] = []
    for path in sorted(paths, key=lambda path: (path.stem, path)):
        if path.stem in scenarios:
            problems.append(f"{path}: {scenarios[path.stem].path} is also called {path.stem!r}. Rename one of them.")
            continue
        try:
            scenarios[path.stem] = read_scenario(path)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return MappingProxyType(scenarios)


def own_scenarios(declaration: Declaration, others: Mapping[str, Scenario]) -> Mapping[str, Scenario]:
    """The scenarios of the folder that the declaration names, which see what [ranks] names; none without a folder.

    others: those that come with torchskew, whose names are taken.

    Raises:
        ConfigError: with everything that is wrong with the folder and its files.
    """
    if not declaration.scenarios:
        return {}
    folder, ranks = declaration.scenarios, declaration.ranks
    missing = [f"{where} names {path}, which is no folder."
               for where, paths in (("scenarios.path", (folder,)), ("ranks.pythonpath", ranks.pythonpath),
                                    ("ranks.data", ranks.data))
               for path in paths if not Path(path).is_dir()]  # fmt: skip
    if missing:
        raise ConfigError(*(f"{Path(declaration.path).name}: {text}" for text in missing))
    found = read_scenarios(Path(folder))
    if taken := sorted(found.keys() & others.keys()):
        names = f"{found[taken[0]].path}: {taken[0]!r} is the name of a scenario that comes with torchskew."
        raise ConfigError(f"{names} Rename the file.")
    if not found:
        raise ConfigError(f"{Path(declaration.path).name}: scenarios.path names {folder}, which has no scenario.")
    content = digest(*map(folder_content, (folder, *ranks.pythonpath)), *map(data_content, ranks.data))
    place = Surroundings(paths=(folder, *ranks.pythonpath), data=ranks.data, content=content)
    return {name: replace(each, place=place, warm=(*each.warm, *ranks.warm)) for name, each in found.items()}


def read_scenario(path: Path) -> Scenario:
    """One scenario file, with the data that it names; ConfigError says what either lacks."""
    source = read_document(path).text
    if name := data_name(source):
        beside = path.with_name(name)
        try:
            content = json.loads(beside.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{beside}: can't be read as JSON: {error}. {path.name} names it as its DATA.") from None
        source = f"{source}\nDATA = {content!r}\n"
    return parse_scenario(path.stem, source, str(path))
