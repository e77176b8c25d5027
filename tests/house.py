"""The rules about which module may import and touch what: functions over sources, so that a test can plant a breach."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

House = Mapping[str, str]  # the source of each module by its full name
Rule = Callable[[House], Sequence[str]]

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
# Live in other people's processes, so they bring nothing of ours along.
ALONE = ("inside", "guard", "bridge")
# Values in, values out: no file, clock, environment, process, thread or network. Any module of a package named here.
PURE = (
    "torchskew.errors",
    "torchskew.model",
    "torchskew.releases",
    "torchskew.declaration",
    "torchskew.planning",
    "torchskew.judging",
    "torchskew.record.codec",
    *(
        f"torchskew.workflows.rehearsal.{name}"
        for name in (
            "findings",
            "history",
            "invariants.index",
            "invariants.rule",
            "invariants.training",
            "invariants.upgrade",
            "observed",
            "plan_file",
            "plan_text",
            "planned",
            "stage_summary",
            "step_log",
            "timeline",
            "validity",
        )
    ),
)
EFFECTS = frozenset({
    "asyncio", "concurrent", "ctypes", "docker", "fcntl", "fileinput", "getpass", "glob", "http", "io", "linecache",
    "logging", "mmap", "multiprocessing", "os", "pathlib", "platform", "random", "requests", "secrets", "select",
    "selectors", "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "sys", "tempfile",
    "threading", "time", "urllib", "uuid", "zipfile",
})  # fmt: skip
EFFECTFUL_CALLS = frozenset({"open", "input", "print", "exec", "eval", "__import__", "breakpoint"})
CLOCKS = frozenset({"now", "today", "utcnow"})
# What a pure module may do all the same, and why.
ALLOWED = {
    "torchskew.planning.scenario_file: calls exec": "a scenario's judge is Python that its file's text declares",
    "torchskew.judging.intervals: imports random": "its resampling is seeded, so equal values give an equal interval",
}
# module -> who alone may import it
OWNERS = {
    "docker": {"torchskew.runtimes.docker.runtime", "torchskew.runtimes.docker.connection"},
    "sqlite3": {"torchskew.record.database"},
    "torchskew.cli": {"torchskew.__main__"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A module that breaks one rule when it is planted, and what the rule must then say."""

    rule: Rule
    module: str
    source: str
    says: str


@cache
def parsed(source: str) -> ast.Module:
    """The syntax tree of a source."""
    return ast.parse(source)


def imports(source: str, known: frozenset[str] = frozenset(), *, at_top: bool = False) -> set[str]:
    """Modules that a source imports, in functions as well; those for type checking only are left out.

    known: the modules of ours; `from package import module` needs the module, not what the package's own file says.
    """
    names: set[str] = set()
    for node in _nodes(parsed(source), at_top=at_top):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= parts if parts <= known else {node.module, *parts}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level)
    return names


def _nodes(node: ast.AST, *, at_top: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        if not (at_top and isinstance(child, ast.FunctionDef | ast.ClassDef)):
            yield from _nodes(child, at_top=at_top)


def room(name: str) -> str:
    """The room that a module of ours belongs to."""
    return name.split(".")[1] if name.startswith("torchskew.") else ""


def upward_imports(house: House) -> list[str]:
    """Imports of a room that is not before the importing one."""
    level = {name: number for number, names in enumerate(ROOMS) for name in names}
    known = frozenset(house)
    return [
        f"{module}: imports {other}"
        for module, source in house.items()
        for other in sorted(set(map(room, imports(source, known))) & level.keys() - {room(module)})
        if level[other] >= level.get(room(module), 0)
    ]


def imports_of_what_travels(house: House) -> list[str]:
    """Imports of ours by what lives in other people's processes."""
    return [
        f"{module}: imports {name}"
        for module, source in house.items()
        if room(module) in ALONE
        for name in sorted(imports(source, frozenset(house)))
        if name.partition(".")[0] == "torchskew" and room(name) != room(module)
    ]


def effects(house: House) -> list[str]:
    """What a pure module imports or calls that isn't."""
    return [
        breach
        for module, source in house.items()
        if _is_pure(module)
        for breach in sorted({f"{module}: {what}" for what in _effects(source)})
        if breach not in ALLOWED
    ]


def _effects(source: str) -> Iterator[str]:
    for name in imports(source):
        if name.partition(".")[0] in EFFECTS:
            yield f"imports {name.partition('.')[0]}"
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Name) and node.id in EFFECTFUL_CALLS:
            yield f"calls {node.id}"
        elif isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            yield f"reads the clock with {node.attr}"


def effects_behind_imports(house: House) -> list[str]:
    """What a pure module imports of ours that isn't pure, directly or through others."""
    return [
        f"{module}: imports {name}, which {what}"
        for module in house
        if _is_pure(module)
        for name in sorted(_reached(module, house))
        if not _is_pure(name)
        for what in sorted(set(_effects(house[name])))
    ]


def _is_pure(module: str) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in PURE)


def _reached(module: str, house: House) -> set[str]:
    """The modules of ours that an import of this one brings along."""
    reached, left = {module}, [module]
    while left:
        direct = imports(house[left.pop()], frozenset(house)) & house.keys()
        left += direct - reached
        reached |= direct
    return reached - {module}


def strangers_with_an_owned_module(house: House) -> list[str]:
    """Imports of what one file owns, by another."""
    return [
        f"{module}: imports {owned}"
        for module, source in house.items()
        for owned, owners in OWNERS.items()
        if owned in imports(source, frozenset(house)) and module not in owners
    ]


def processes_outside_runtimes(house: House) -> list[str]:
    """Imports of subprocess by what is not a runtime; what travels may look at its own machine."""
    return [
        f"{module}: imports subprocess"
        for module, source in house.items()
        if "subprocess" in imports(source) and room(module) not in ("runtimes", *ALONE)
    ]


def torch_in_the_harness(house: House) -> list[str]:
    """Imports of torch by what runs on the harness's own Python."""
    return [
        f"{module}: imports torch"
        for module, source in house.items()
        if room(module) not in ALONE and "torch" in {name.partition(".")[0] for name in imports(source)}
    ]


def errors_passed_over(house: House) -> list[str]:
    """Handlers that catch everything and do nothing."""
    return [
        f"{module}: passes over {caught}, line {node.lineno}"
        for module, source in house.items()
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.ExceptHandler) and all(isinstance(each, ast.Pass) for each in node.body)
        for caught in [ast.unparse(node.type) if node.type else "everything"]
        if caught in ("everything", "Exception", "BaseException")
    ]


def drawers(house: House) -> list[str]:
    """Modules whose name says nothing about what is in them."""
    names = {"utils", "util", "helpers", "common", "misc"}
    return [f"{module}: is a drawer" for module in house if names & set(module.split("."))]


# One breach of each rule, planted by tests/test_house.py: a rule that can't go red is none.
BREACHES = (
    Breach(
        rule=upward_imports,
        module="torchskew.planning.planted",
        source="def f():\n    from torchskew.engine import run\n",
        says="torchskew.planning.planted: imports engine",
    ),
    Breach(
        rule=upward_imports,
        module="torchskew.guard.planted",
        source="import torchskew.errors\n",
        says="torchskew.guard.planted: imports errors",
    ),
    Breach(
        rule=imports_of_what_travels,
        module="torchskew.inside.planted",
        source="def f():\n    import torchskew\n",
        says="torchskew.inside.planted: imports torchskew",
    ),
    Breach(
        rule=effects,
        module="torchskew.releases.planted",
        source="from pathlib import Path\n",
        says="torchskew.releases.planted: imports pathlib",
    ),
    Breach(
        rule=effects,
        module="torchskew.declaration.planted",
        source="def f(path):\n    with open(path) as file:\n        return file.read()\n",
        says="torchskew.declaration.planted: calls open",
    ),
    Breach(
        rule=effects,
        module="torchskew.planning.deep.planted",
        source="def f():\n    import os.path\n",
        says="torchskew.planning.deep.planted: imports os",
    ),
    Breach(
        rule=effects,
        module="torchskew.judging.planted",
        source="import datetime as dt\nTODAY = dt.date.today()\n",
        says="torchskew.judging.planted: reads the clock with today",
    ),
    Breach(
        rule=effects,
        module="torchskew.model.planted",
        source="import io\n",
        says="torchskew.model.planted: imports io",
    ),
    Breach(
        rule=effects_behind_imports,
        module="torchskew.releases.planted",
        source="from torchskew.guard import pace\n",
        says="torchskew.releases.planted: imports torchskew.guard.pace, which imports time",
    ),
    Breach(
        rule=strangers_with_an_owned_module,
        module="torchskew.report.planted",
        source="import sqlite3\n",
        says="torchskew.report.planted: imports sqlite3",
    ),
    Breach(
        rule=processes_outside_runtimes,
        module="torchskew.commands.planted",
        source="def f():\n    import subprocess\n",
        says="torchskew.commands.planted: imports subprocess",
    ),
    Breach(
        rule=torch_in_the_harness,
        module="torchskew.engine.planted",
        source="import torch.distributed\n",
        says="torchskew.engine.planted: imports torch",
    ),
    Breach(
        rule=errors_passed_over,
        module="torchskew.engine.planted",
        source="try:\n    f()\nexcept Exception:\n    pass\n",
        says="torchskew.engine.planted: passes over Exception, line 3",
    ),
    Breach(
        rule=drawers,
        module="torchskew.engine.utils",
        source="",
        says="torchskew.engine.utils: is a drawer",
    ),
)
RULES = tuple(dict.fromkeys(breach.rule for breach in BREACHES))
