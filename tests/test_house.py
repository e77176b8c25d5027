"""The house rules that no tool checks: which way imports point, who may touch what, how long things get."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

HARNESS = ROOT / "harness"
PACKAGE = HARNESS / "torchskew"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
SCENARIOS = sorted((ROOT / "scenarios").rglob("*.py"))
NAMES = {".".join(path.relative_to(HARNESS).with_suffix("").parts) for path in MODULES}
# What runs inside a version, on Python 3.8.
TRAVELLERS = [PACKAGE / "guard" / "torchskew_guard.py", *(PACKAGE / "inside").glob("*.py"), *SCENARIOS]
TRAVELLERS = [path for path in TRAVELLERS if path.name not in ("__init__.py", "protocol.py", "handle.py")]

# The rooms, lowest first: a room imports those before it, never one beside or after it.
ROOMS = (
    ("errors", "guard", "bridge", "inside"),
    ("model",),
    ("releases",),
    ("declaration",),
    ("planning",),
    ("judging",),
    ("runtimes",),
    ("faults",),
    ("record",),
    ("engine",),
    ("report",),
    ("workflows",),
    ("pytest",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
# Values in, values out: no process, clock, socket, database, thread, or engine.
PURE = {
    *(f"torchskew.declaration.{name}" for name in ("fields", "declare", "baseline", "candidate")),
    *(f"torchskew.planning.{name}" for name in ("plan", "blocks", "bisection", "search", "replay", "gate", "shard")),
    *(f"torchskew.releases.{name}" for name in ("eras", "observed")),
    *(name for name in NAMES if name.startswith(("torchskew.model", "torchskew.judging"))),
    "torchskew.errors",
    "torchskew.record.codec",
}
EFFECTS = {"subprocess", "socket", "sqlite3", "docker", "time", "threading", "os", "sys", "random", "tempfile"}
# module -> who alone may import it
ONLY = {
    "docker": {"torchskew.runtimes.docker.runtime", "torchskew.runtimes.docker.link"},
    "sqlite3": {"torchskew.record.record"},
    "torchskew.cli": {"torchskew.__main__"},
}
# Longer than the rule allows, and why.
LONG_MODULES = {"harness/torchskew/guard/torchskew_guard.py": "one file that a training job copies"}
LONG_FUNCTIONS: dict[str, str] = {}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    parts = path.relative_to(HARNESS if HARNESS in path.parents else ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path, *, at_top: bool = False) -> set[str]:
    """Modules that a file imports, those for type checking left out."""
    found: set[str] = set()
    for node in _nodes(tree(path), at_top=at_top):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            # `from package import module` needs the module, not what the package's own file says.
            found |= names if names <= NAMES else {node.module, *names}
    return found


def _nodes(node: ast.AST, *, at_top: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        if not (at_top and isinstance(child, ast.FunctionDef | ast.ClassDef)):
            yield from _nodes(child, at_top=at_top)


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


def room(name: str) -> str:
    """The room that a module of ours belongs to."""
    return name.split(".")[1] if name.startswith("torchskew.") else ""


def test_every_room_has_its_place_and_its_sentence() -> None:
    here = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith("_")}
    assert here <= {name for level in ROOMS for name in level}
    assert len(here) <= 18


def test_imports_point_one_way() -> None:
    level = {name: number for number, names in enumerate(ROOMS) for name in names}
    against = [
        f"{name_of(path)} imports {name}"
        for path in MODULES
        for name in sorted(set(map(room, imports(path))) & level.keys() - {room(name_of(path))})
        if level[name] >= level.get(room(name_of(path)), 0)
    ]
    assert against == []


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path) in PURE], ids=name_of)
def test_a_pure_step_touches_nothing(path: Path) -> None:
    roots = {name.partition(".")[0] for name in imports(path)}
    assert not roots & EFFECTS
    effectful = {name for name in imports(path) if name.startswith(("torchskew.engine.run", "torchskew.record.record"))}
    assert effectful <= {name for name in effectful if name.startswith("torchskew.declaration.suites")}


@pytest.mark.parametrize(("module", "allowed"), ONLY.items(), ids=list(ONLY))
def test_what_one_file_owns_is_imported_nowhere_else(module: str, allowed: set[str]) -> None:
    found = {name_of(path) for path in MODULES if module in imports(path)}
    assert found <= allowed


def test_processes_are_started_by_runtimes_and_the_run_alone() -> None:
    found = {name_of(path) for path in MODULES if "subprocess" in imports(path)}
    # What travels may look at its own machine, it is not part of the harness.
    found -= {name_of(path) for path in TRAVELLERS}
    assert {name for name in found if not name.startswith("torchskew.runtimes.")} == set()


def test_the_harness_never_imports_torch() -> None:
    travelling = set(TRAVELLERS)
    assert [name_of(path) for path in MODULES if path not in travelling and "torch" in imports(path)] == []


@pytest.mark.parametrize("path", TRAVELLERS, ids=lambda path: path.stem)
def test_what_travels_has_the_syntax_of_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))


@pytest.mark.parametrize("path", TRAVELLERS, ids=lambda path: path.stem)
def test_what_travels_imports_the_standard_library_and_torch_only(path: Path) -> None:
    known = sys.stdlib_module_names | {"torch", "coverage", "torchskew_guard", "torchskew_kit", "torchskew_agent"}
    known |= {"torchskew"} if path in SCENARIOS else set()  # for judges, which run outside
    known |= {"numpy"} if path in SCENARIOS or path.name == "training_job.py" else set()  # where a version has it
    known |= {f"torchskew_{each.stem}" for each in (PACKAGE / "inside").glob("*.py")}
    assert {name.partition(".")[0] for name in imports(path)} <= known


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_imports_nothing_but_the_standard_library_at_its_top(path: Path) -> None:
    assert {name.partition(".")[0] for name in imports(path, at_top=True)} <= sys.stdlib_module_names


@pytest.mark.parametrize("path", [*MODULES, *SCENARIOS], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_its_job_in_one_sentence_first(path: Path) -> None:
    doc = ast.get_docstring(tree(path))
    assert doc, "no docstring"
    sentence = doc.partition("\n\n")[0]
    assert sentence.endswith((".", "?")), sentence


@pytest.mark.parametrize("path", [*MODULES, *SCENARIOS], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short_enough_to_be_read(path: Path) -> None:
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length <= 500 or str(path.relative_to(ROOT)) in LONG_MODULES, f"{length} lines"


@pytest.mark.parametrize("path", [*MODULES, *SCENARIOS], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_function_is_short_enough_to_be_seen_whole(path: Path) -> None:
    long = {node.name: lines_of(node) for node in functions(path) if lines_of(node) > 40}
    assert set(long) <= LONG_FUNCTIONS.keys(), long


@pytest.mark.parametrize("path", [*MODULES, *SCENARIOS], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_function_takes_at_most_five_things(path: Path) -> None:
    many = {node.name: parameters(node) for node in functions(path) if parameters(node) > 5}
    assert many == {}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_error_is_passed_over_whatever_it_is(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler) and all(isinstance(each, ast.Pass) for each in node.body):
            caught = ast.unparse(node.type) if node.type else "everything"
            assert caught not in ("everything", "Exception", "BaseException"), f"line {node.lineno}"


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "common", "misc"}
    assert [path for path in MODULES if path.stem in drawers] == []


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


def test_the_shortest_scenario_for_contributors_is_one(tmp_path: Path) -> None:
    from torchskew.planning.scenario import World, load

    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    path = tmp_path / "sum.py"
    path.write_text(text.partition("```python\n")[2].partition("```")[0], encoding="utf-8")
    scenario = load(path)
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


@pytest.mark.slow
def test_help_imports_nothing_heavy() -> None:
    show = "import sys; {} print(sorted(sys.modules), file=sys.stderr)"

    def loads(statement: str) -> set[str]:
        command = [sys.executable, "-c", show.format(statement)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        return set(ast.literal_eval(done.stderr.splitlines()[-1]))

    # Less what a bare start loads: when coverage is measured, that is coverage's own.
    loaded = loads("from torchskew.cli import main; main(['--help']);") - loads("")
    assert not loaded & {"torch", "docker", "jinja2", "rich", "sqlite3", "packaging", "tenacity"}


def test_a_lock_of_the_dependencies_is_committed() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for name in ("docker", "jinja2", "packaging", "rich", "tenacity", "uv", "pytest"):
        assert re.search(rf"^{name}==", text, re.MULTILINE), name
