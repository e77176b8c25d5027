"""The cache key changes with everything that a cell's result depends on, and with nothing else."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from torchskew.model.outcomes import Guard, Placement, Store
from torchskew.model.versions import Environment
from torchskew.planning.scenario import Scenario
from torchskew.record import cache, code_digest
from torchskew.record.cache import key
from torchskew.record.code_digest import COUNTED, EXEMPT, CodeDigests, counted_files, normalised

from tests import factories
from tests.conftest import ROOT
from tests.house import imports

PACKAGE = ROOT / "harness" / "torchskew"
SOURCE = '''"""What it promises."""
# A comment.
LIMIT = 3

def judge(reports, world):
    """Say who is wrong."""
    return {}
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package whose files a test may edit."""
    for path in PACKAGE.rglob("*.py"):
        copy = tmp_path / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return tmp_path


@pytest.fixture(scope="module")
def digests(tmp_path_factory: pytest.TempPathFactory) -> CodeDigests:
    """One store for all tests: what is equal is parsed once."""
    return CodeDigests(tmp_path_factory.mktemp("store") / "digests.json")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def of(package: Path, digests: CodeDigests) -> str:
    return digests.of_files(package, counted_files(package))


def first_module(package: Path, name: str) -> Path:
    place = package / name
    exempt = [package / each for each in EXEMPT]
    places = [place] if place.is_file() else sorted(place.rglob("*.py"))
    return next(path for path in places if path not in exempt and "def " in path.read_text())


def without_docstrings(source: str) -> str:
    """Every docstring reworded, every comment gone, every line moved."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body[0] = ast.Expr(ast.Constant("Reworded."))
    return "\n\n" + ast.unparse(tree)


@pytest.mark.slow
def test_docstrings_and_comments_change_nothing_anywhere(package: Path, digests: CodeDigests) -> None:
    before = of(package, digests)
    for path in counted_files(package):
        path.write_text(without_docstrings(path.read_text()))
    assert of(package, digests) == before


@pytest.mark.parametrize("name", COUNTED)
def test_docstrings_and_comments_change_nothing(name: str, package: Path, digests: CodeDigests) -> None:
    before = of(package, digests)
    path = first_module(package, name)
    path.write_text(without_docstrings(path.read_text()))
    assert of(package, digests) == before


@pytest.mark.parametrize("name", COUNTED)
def test_a_change_of_code_in_any_part_that_counts_changes_it(name: str, package: Path, digests: CodeDigests) -> None:
    before = of(package, digests)
    edit(first_module(package, name), "def ", "def renamed_")
    assert of(package, digests) != before


@pytest.mark.parametrize("name", [name for name in COUNTED if not name.endswith(".py")])
def test_a_module_added_to_a_package_counts_without_being_listed(
    name: str, package: Path, digests: CodeDigests
) -> None:
    before = of(package, digests)
    (package / name / "added.py").write_text("LIMIT = 1\n")
    assert of(package, digests) != before


def test_what_follows_the_verdict_changes_nothing(package: Path, digests: CodeDigests) -> None:
    before = of(package, digests)
    for name in ("report/text.py", "judging/decide.py", "record/record.py", "workflows/matrix.py"):
        edit(package / name, "def ", "def renamed_")
    assert of(package, digests) == before


SOURCES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path.read_text()
    for path in PACKAGE.rglob("*.py")
}
COUNTED_MODULES = frozenset(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in counted_files(PACKAGE)
)


def room(name: str) -> str:
    return ".".join(name.split(".")[:2])


def imported(sources: Iterable[str]) -> set[str]:
    """The modules of ours that these sources import."""
    return {name for source in sources for name in imports(source, frozenset(SOURCES)) if name in SOURCES}


# Rooms of which the counted code imports something, although no rank and no verdict depends on it.
HARMLESS = {
    "torchskew": "its own release, which the machines of a fleet compare before anything runs",
    "torchskew.errors": "types of errors; their texts are about the machine",
    "torchskew.declaration": "what it declares is in the cell, or in the identity of an environment",
    "torchskew.record": "stores results and gives them back as they were",
    "torchskew.releases": "predictions, which are compared with a result and never stored in it",
}


def test_everything_that_the_counted_code_imports_counts_or_is_known_to_be_harmless() -> None:
    missed = imported(SOURCES[name] for name in COUNTED_MODULES) - COUNTED_MODULES
    assert {room(name) for name in missed} <= HARMLESS.keys()


def test_everything_that_scenarios_judge_with_counts() -> None:
    scenarios = [path.read_text() for path in (ROOT / "scenarios").rglob("*.py")]
    assert imported(scenarios) <= COUNTED_MODULES


def test_every_place_that_is_named_exists() -> None:
    assert [name for name in (*COUNTED, *EXEMPT) if not (PACKAGE / name).exists()] == []


def test_a_source_is_parsed_once(digests: CodeDigests, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digests.of_sources([SOURCE])

    def parsed_again(source: str) -> str:
        raise AssertionError(f"parsed again: {source}")

    monkeypatch.setattr(code_digest, "normalised", parsed_again)
    assert digests.of_sources([SOURCE]) == before


@pytest.mark.parametrize("text", ["", "[]", '{"a": '])
def test_a_damaged_store_is_written_again(text: str, tmp_path: Path) -> None:
    store = tmp_path / "digests.json"
    store.write_text(text)
    [before] = CodeDigests(store).of_sources([SOURCE])
    assert before in store.read_text()
    assert list(tmp_path.iterdir()) == [store]


def test_a_store_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert CodeDigests(tmp_path / "file" / "digests.json").of_sources([SOURCE])[0]


@pytest.mark.parametrize(
    ("old", "new"), [("What it promises", "What it keeps"), ("# A comment.\n", ""), ("Say who", "Say which")]
)
def test_words_about_a_scenario_do_not_count(old: str, new: str) -> None:
    assert normalised(SOURCE.replace(old, new)) == normalised(SOURCE)


@pytest.mark.parametrize(("old", "new"), [("LIMIT = 3", "LIMIT = 4"), ("return {}", "return {0: 'wrong'}")])
def test_the_code_of_a_scenario_counts(old: str, new: str) -> None:
    assert normalised(SOURCE.replace(old, new)) != normalised(SOURCE)


@pytest.fixture
def scenario() -> Scenario:
    return Scenario(name="sum", promise="", doc="", source=SOURCE, path="sum.py", judge=lambda *_: {})


def test_every_setting_of_a_cell_changes_its_key(scenario: Scenario) -> None:
    cell = factories.cell()
    environments = {name: environment(name) for name in cell.skew}
    keys = [
        key(cell, scenario, environments, 0),
        key(cell, scenario, environments, 1),
        key(cell, replace(scenario, source=scenario.source + "LIMIT = 4\n"), environments, 0),
        key(cell, scenario, {name: replace(environment(name), identity="other") for name in cell.skew}, 0),
        key(cell, scenario, {name: replace(environment(name), env={"A": "1"}) for name in cell.skew}, 0),
        key(replace(cell, guard=Guard.HOST), scenario, environments, 0),
        key(replace(cell, store=Store.BRIDGE), scenario, environments, 0),
        key(replace(cell, placement=Placement.SPREAD), scenario, environments, 0),
        key(replace(cell, timeout=11.0), scenario, environments, 0),
        key(replace(cell, fault="kill"), scenario, environments, 0),
        key(replace(cell, runtime="venv"), scenario, environments, 0),
    ]
    assert len(set(keys)) == len(keys)
    assert (
        key(replace(cell, predicted=()), replace(scenario, source=f"# Words.\n{scenario.source}"), environments, 0)
        == keys[0]
    )


def test_a_change_of_the_bridge_changes_the_keys_of_the_cells_that_meet_at_it_alone(
    scenario: Scenario, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments = {name: environment(name) for name in factories.cell().skew}

    def keys() -> list[str]:
        digest = code_digest.digest_of_bridge.__wrapped__(package)
        monkeypatch.setattr(cache, "digest_of_bridge", lambda: digest)
        return [key(replace(factories.cell(), store=store), scenario, environments, 0) for store in Store]

    stock, bridged = keys()
    edit(package / "bridge" / "server.py", "ACCEPTED = 64", "ACCEPTED = 65")
    assert code_digest.digest_of_code.__wrapped__(package) == code_digest.digest_of_code()
    after = keys()
    assert after[0] == stock
    assert after[1] != bridged


def environment(name: str) -> Environment:
    return Environment(version=name, runtime="docker", identity=f"sha256:{name}", handle=name)
