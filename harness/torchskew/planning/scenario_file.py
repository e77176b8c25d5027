"""Parses the source of a scenario file. The judge is loaded here; the rank's part travels as text."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Mapping
from types import ModuleType

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from torchskew.declaration.fields import Problems, Table, join
from torchskew.errors import ConfigError
from torchskew.model.cells import Variant
from torchskew.model.outcomes import Guard, Kind, Outcome, Placement, Policy, Store
from torchskew.planning.scenario import GUARDS, PLACEMENTS, RENDEZVOUS, STORES, TIERS, WORLDS, Scenario

FIELDS = (
    "KIND", "WORLD", "AFTER", "POLICY", "VARIANTS", "NEEDS", "GUARD", "SAME", "APPLIES", "RENDEZVOUS", "STORE", "TIERS",
    "WARM", "PATIENCE", "AGENT", "DATA", "ALONE", "BUILD", "PLACEMENT", "UPGRADE",
    "REQUIRES",
)  # fmt: skip
FUNCTIONS = ("rank", "judge", "lacks")
VARIANT_FIELDS = ("params", "env", "rank_env", "predicted")
_SHORTEST = "CONTRIBUTING.md shows the shortest scenario."


def parse_scenario(name: str, source: str, path: str) -> Scenario:
    """The scenario that a file's source declares.

    path: of the file, for messages and tracebacks.

    Raises:
        ConfigError: with everything that is wrong with the file.
    """
    module, tree = _executed(name, source, path)
    problems = Problems(path)
    if lacking := list(_lacking(module)):
        raise ConfigError(f"{path}: isn't a scenario: {', '.join(lacking)}. {_SHORTEST}")
    for misspelt, text in _misspelt(tree):
        problems.add(misspelt, text)
    values = {field: _listed(getattr(module, field)) for field in FIELDS if hasattr(module, field)}
    scenario = _scenario(module, source, Table(problems, "", values))
    if problems.texts:
        raise ConfigError(*problems.texts)
    return scenario


def data_name(source: str) -> str:
    """The file beside a scenario whose content it wants under the name DATA; "" where it names none."""
    if "DATA" not in source:
        return ""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # parse_scenario says so
        return ""
    for node in body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["DATA"]:
            return str(node.value.value) if isinstance(node.value, ast.Constant) else ""
    return ""


def _executed(name: str, source: str, path: str) -> tuple[ModuleType, ast.Module]:
    """The file as a module, and its tree; its rank side must parse on Python 3.8 as well."""
    module = ModuleType(name)
    module.__file__ = path
    try:
        tree = ast.parse(source, path, feature_version=(3, 8))
        exec(compile(tree, path, "exec"), module.__dict__)  # noqa: S102 - our user's own scenario file
    except Exception as error:  # noqa: BLE001 - whatever a user's file raises is that file's problem
        raise ConfigError(f"{path}: isn't a scenario: {type(error).__name__}: {error}. {_SHORTEST}") from None
    return module, tree


def _lacking(module: ModuleType) -> Iterator[str]:
    if not (module.__doc__ or "").strip():
        yield "it has no docstring that states its promise"
    for name in ("rank", "judge"):
        if not callable(getattr(module, name, None)):
            yield f"it has no function {name}()"


def _misspelt(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names that nobody reads: neither torchskew nor the file itself. Names with an underscore are the file's own.

    A function may be looked up by name, so only one that resembles a function of ours counts.
    """
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    for name in dict.fromkeys(_assigned(tree)):
        if name not in read and name not in FIELDS and not name.startswith("_"):
            nearest = difflib.get_close_matches(name.upper(), FIELDS, n=1, cutoff=0.7)
            fix = f"Did you mean {nearest[0]}?" if nearest else f"Fields: {', '.join(FIELDS)}."
            yield name, f"is not a field of a scenario, and nothing in the file reads it. {fix}"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name not in (*FUNCTIONS, *read):
            for near in difflib.get_close_matches(node.name, FUNCTIONS, n=1, cutoff=0.7):
                yield f"{node.name}()", f"is called by nobody. Did you mean {near}()?"


def _assigned(tree: ast.Module) -> Iterator[str]:
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _listed(value: object) -> object:
    """A tuple as the list that the getters know from TOML."""
    return list(value) if isinstance(value, tuple) else value


def _scenario(module: ModuleType, source: str, table: Table) -> Scenario:
    doc = (module.__doc__ or "").strip()
    kind = table.choice("KIND", Kind, Kind, Kind.GROUP)
    rendezvous = table.choice("RENDEZVOUS", str, RENDEZVOUS, "tcp" if kind is Kind.GROUP else "none")
    return Scenario(
        name=module.__name__,
        promise=doc.splitlines()[0],
        doc=doc,
        source=source,
        path=str(module.__file__),
        kind=kind,
        world=_world(table, WORLDS[kind]),
        after=table.texts("AFTER", ()),
        policy=table.choice("POLICY", Policy, Policy, Policy.RIGHT_OR_REFUSED),
        variants=tuple(_variants(table)) or (None,),
        needs=table.texts("NEEDS", ()),
        requires=table.texts("REQUIRES", ()),
        guards=table.choices("GUARD", Guard, Guard, GUARDS[kind]),
        same=table.get("SAME", bool, False),
        applies=_applies(table),
        rendezvous=rendezvous,
        stores=table.choices("STORE", Store, Store, STORES.get(rendezvous, (Store.STOCK,))),
        placements=table.choices("PLACEMENT", Placement, Placement, PLACEMENTS.get(rendezvous, (Placement.TOGETHER,))),
        tiers=table.choices("TIERS", str, TIERS, ("full",)),
        warm=table.texts("WARM", ()),
        agent=table.get("AGENT", str, ""),
        patience=table.get("PATIENCE", float, 0.0),
        works=table.get("ALONE", bool, False),
        alone=table.get("ALONE", bool, False),
        upgrade=table.get("UPGRADE", bool, False),
        build=table.get("BUILD", bool, True),
        judge=module.judge,
    )


def _world(table: Table, default: tuple[int, int | None]) -> tuple[int, int | None]:
    value = table.values.get("WORLD")
    match value:
        case None:
            return default
        case [int() as smallest, None] if smallest > 0:
            return smallest, None
        case [int() as smallest, int() as largest] if 0 < smallest <= largest:
            return smallest, largest
    text = f"must be the smallest and the largest number of ranks, (2, 32), or (2, None) for no limit, got {value!r}."
    table.problems.add("WORLD", text)
    return default


def _applies(table: Table) -> SpecifierSet:
    text = table.get("APPLIES", str, "")
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        table.problems.add("APPLIES", f"must be a range of releases like '>=2.8', got {text!r}.")
        return SpecifierSet()


def _variants(table: Table) -> Iterator[Variant]:
    for name, entry in table.get("VARIANTS", dict, {}).items():
        path = join("VARIANTS", str(name))
        if isinstance(entry, dict):
            fields = {str(key): _listed(value) for key, value in entry.items()}
            yield _variant(str(name), Table(table.problems, path, fields))
        else:
            table.problems.add(path, f'must be a dict like {{"params": {{"size": 3}}}}, got {entry!r}.')


def _variant(name: str, table: Table) -> Variant:
    table.unknown(VARIANT_FIELDS)
    predicted = table.choices("predicted", Outcome, Outcome, ())
    return Variant(
        name=name,
        params=table.get("params", dict, {}),
        env=table.get("env", dict, {}),
        rank_env=dict(_rank_env(table)),
        predicted=predicted if table.values.get("predicted") is not None else None,
    )


def _rank_env(table: Table) -> Iterator[tuple[int, Mapping[str, str]]]:
    for rank, env in table.get("rank_env", dict, {}).items():
        if str(rank).isdecimal() and isinstance(env, dict):
            yield int(rank), env
        else:
            text = f'must be settings by rank, like {{"0": {{"NAME": "value"}}}}, got {rank!r}: {env!r}.'
            table.problems.add(join(table.path, "rank_env"), text)
