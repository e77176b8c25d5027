"""The house rules that no tool checks: which way imports point, who may touch what, how long things get."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests import house
from tests.conftest import ROOT

HARNESS = ROOT / "harness"
PACKAGE = HARNESS / "torchskew"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
SCENARIOS = sorted((ROOT / "scenarios").rglob("*.py"))
NAMES = {".".join(path.relative_to(HARNESS).with_suffix("").parts) for path in MODULES}
HOUSE = {
    ".".join((p.parent if p.stem == "__init__" else p.with_suffix("")).relative_to(HARNESS).parts): p.read_text("utf-8")
    for p in MODULES
}
# What runs inside a version, on Python 3.8.
TRAVELLERS = [path for room in ("guard", "bridge", "inside") for path in (PACKAGE / room).glob("*.py")] + SCENARIOS
OUTSIDE = ("__init__.py", "protocol.py", "handle.py", "generate.py", "environment.py")
TRAVELLERS = [path for path in TRAVELLERS if path.name not in OUTSIDE]
GUARD_FILE = PACKAGE / "guard" / "torchskew_guard.py"

# Longer than the rule allows, and why.
LONG_MODULES = {"harness/torchskew/guard/torchskew_guard.py": "generated: one file that a training job copies"}
LONG_FUNCTIONS: dict[str, str] = {}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    parts = path.relative_to(HARNESS if HARNESS in path.parents else ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, at_top: bool = False) -> set[str]:
    """Modules that a file imports, those for type checking left out."""
    return house.imports(path.read_text(encoding="utf-8"), frozenset(NAMES), at_top=at_top)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body, less its docstring."""
    first = node.body[0]
    doc = ast.get_docstring(node, clean=False) is not None
    start = (first.end_lineno or first.lineno) if doc else node.lineno
    return (node.end_lineno or node.lineno) - start


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = [*node.args.posonlyargs, *node.args.args]
    return len([each for each in given if each.arg not in ("self", "cls")])


@pytest.mark.parametrize("rule", house.RULES, ids=lambda rule: rule.__name__)
def test_the_house_holds_to_every_rule(rule: house.Rule) -> None:
    assert rule(HOUSE) == []


@pytest.mark.parametrize("breach", house.BREACHES, ids=lambda breach: f"{breach.rule.__name__}-{breach.module}")
def test_a_planted_breach_turns_its_rule_red(breach: house.Breach) -> None:
    assert breach.module not in HOUSE
    assert breach.rule({**HOUSE, breach.module: breach.source}) == [breach.says]


def test_every_room_has_its_place_and_its_sentence() -> None:
    here = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith("_") and path.suffix in ("", ".py")}
    assert here <= {name for level in house.ROOMS for name in level}
    assert len(here) <= 18


def wrong(paths: Iterable[Path], problem: Callable[[Path], object]) -> dict[str, object]:
    """What each file does wrong, of those that do. One test looks at all files: a case for each costs a minute."""
    looked = {str(path.relative_to(ROOT)): problem(path) for path in paths}
    return {name: what for name, what in looked.items() if what}


def newer_syntax(path: Path) -> str:
    try:
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    except SyntaxError as error:
        return str(error)
    return ""


def foreign(path: Path) -> set[str]:
    """What a module that travels imports beyond the standard library and torch."""
    known = sys.stdlib_module_names | {"torch", "coverage", "torchskew_guard", "torchskew_kit", "torchskew_agent"}
    known |= {"torchskew"} if path in SCENARIOS else set()  # for judges, which run outside
    # The guard's own modules, and the bridge's; the file that is generated from the guard's needs no other.
    own = path.parent in (GUARD_FILE.parent, PACKAGE / "bridge") and path != GUARD_FILE
    known |= {"torchskew"} if own else set()
    known |= {"numpy"} if path in SCENARIOS or path.name == "training_job.py" else set()  # where a version has it
    known |= {f"torchskew_{each.stem}" for each in (PACKAGE / "inside").glob("*.py")}
    return {name.partition(".")[0] for name in imports(path)} - known


def test_what_travels_has_the_syntax_of_python_3_8() -> None:
    assert TRAVELLERS
    assert wrong(TRAVELLERS, newer_syntax) == {}


def test_what_travels_imports_the_standard_library_and_torch_only() -> None:
    assert wrong(TRAVELLERS, foreign) == {}


def test_a_scenario_imports_nothing_but_the_standard_library_at_its_top() -> None:
    def heavy(path: Path) -> set[str]:
        return {name.partition(".")[0] for name in imports(path, at_top=True)} - sys.stdlib_module_names

    assert SCENARIOS
    assert wrong(SCENARIOS, heavy) == {}


def unsaid(path: Path) -> str:
    doc = ast.get_docstring(tree(path))
    if not doc:
        return "no docstring"
    sentence = doc.partition("\n\n")[0]
    return "" if sentence.endswith((".", "?")) else sentence


def test_a_module_says_its_job_in_one_sentence_first() -> None:
    assert wrong([*MODULES, *SCENARIOS], unsaid) == {}


def test_a_module_is_short_enough_to_be_read() -> None:
    def too_long(path: Path) -> int:
        length = len(path.read_text(encoding="utf-8").splitlines())
        return length if length > 400 and str(path.relative_to(ROOT)) not in LONG_MODULES else 0

    assert wrong([*MODULES, *SCENARIOS], too_long) == {}


def test_a_function_is_short_enough_to_be_seen_whole() -> None:
    def too_long(path: Path) -> dict[str, int]:
        return {
            node.name: lines_of(node)
            for node in functions(path)
            if lines_of(node) > 40 and node.name not in LONG_FUNCTIONS
        }

    assert wrong([*MODULES, *SCENARIOS], too_long) == {}


def test_a_function_takes_at_most_five_things() -> None:
    def many(path: Path) -> dict[str, int]:
        return {node.name: parameters(node) for node in functions(path) if parameters(node) > 5}

    assert wrong([*MODULES, *SCENARIOS], many) == {}


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (newer_syntax, "match 1:\n    case 1: pass\n"),
        (foreign, "import requests\n"),
        (unsaid, '"""No end"""\n'),
        (unsaid, "x = 1\n"),
    ],
)
def test_a_planted_file_turns_a_rule_over_files_red(
    rule: Callable[[Path], object], source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(source, encoding="utf-8")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert set(wrong([planted], rule)) == {"planted.py"}


def test_every_kind_of_extension_is_named_where_contributors_look() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for place in (
        "scenarios/",
        "harness/torchskew/runtimes/",
        "harness/torchskew/faults/",
        "harness/torchskew/report/",
        "torchskew.toml",
    ):
        assert place in text


def test_the_shortest_scenario_for_contributors_is_one() -> None:
    from torchskew.planning.scenario import World
    from torchskew.planning.scenario_file import parse_scenario

    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    scenario = parse_scenario("sum", text.partition("```python\n")[2].partition("```")[0], "CONTRIBUTING.md")
    world = World(size=2, skew=("a", "b"), params={}, skip={}, seed=0)
    assert scenario.judge([{"sum": 3}, {"sum": 3}], world) == {}
    assert scenario.judge([{"sum": 3}, {"sum": 4}], world) == {1: "the sum is 4, right is 3"}


def test_links_inside_the_documentation_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    broken = []
    for page in pages:
        targets = re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text(encoding="utf-8"))
        broken += [f"{page.name}: {target}" for target in targets if not (page.parent / target).exists()]
    assert broken == []


def test_files_that_the_documentation_names_exist() -> None:
    pages = [ROOT / "CONTRIBUTING.md", *(ROOT / "docs" / f"{name}.md" for name in ("onboarding", "design"))]
    missing = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        names = re.findall(r"`((?:harness|scenarios|images|tests|docs|benchmarks)/[\w./-]*)`", text)
        names = [name for name in names if name.rpartition("/")[2] not in ("NAME.py", "sum.py")]
        missing += [f"{page.name}: {name}" for name in names if not (ROOT / name).exists()]
    assert missing == []


def loads(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after a statement."""
    command = [sys.executable, "-c", f"import sys; {statement} print(sorted(sys.modules), file=sys.stderr)"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return set(ast.literal_eval(done.stderr.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("module", ["torchskew.releases.eras", "torchskew.judging.decide"])
def test_a_pure_step_reads_the_guards_table_without_its_sockets(module: str) -> None:
    loaded = loads(f"import {module};") - loads("")
    assert "torchskew.guard.table" in loaded
    assert not loaded & {"torch", "socket", "selectors", "threading", "subprocess"}


def test_nothing_imports_the_file_that_is_generated() -> None:
    """Its classes would be others than those of the modules that it is generated from."""
    paths = [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    generated = {f"torchskew.guard.{GUARD_FILE.stem}"}
    assert [str(path) for path in paths if imports(path) & generated] == []


@pytest.mark.slow
def test_help_imports_nothing_heavy() -> None:
    # Less what a bare start loads: when coverage is measured, that is coverage's own.
    loaded = loads("from torchskew.cli import main; main(['--help']);") - loads("")
    assert not loaded & {"torch", "docker", "jinja2", "rich", "sqlite3", "packaging", "tenacity"}


def test_a_lock_of_the_dependencies_is_committed() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for name in ("docker", "jinja2", "packaging", "rich", "tenacity", "uv", "pytest"):
        assert re.search(rf"^{name}==", text, re.MULTILINE), name
