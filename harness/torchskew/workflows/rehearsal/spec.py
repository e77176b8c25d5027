"""What to rehearse: [rehearsal] of the declaration with the command line over it, checked field by field; pure but
for the script's text, which is read here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torchskew.declaration.declare import for_runtime
from torchskew.declaration.fields import Problems, Table
from torchskew.errors import ConfigError
from torchskew.guard.table import parse
from torchskew.model.runtimes import AUTO, choices
from torchskew.model.versions import Source, SourceKind, Version
from torchskew.workflows.rehearsal import rollback
from torchskew.workflows.rehearsal.model import Release, Spec
from torchskew.workflows.rehearsal.strategy import replacements

FIELDS = (
    "from", "to", "runtime", "nodes", "strategy", "policy", "faults", "steps", "every", "seed", "rollback", "timeout",
    "pace", "checkpoint", "script",
)  # fmt: skip
FORMATS = ("dcp", "plain")
DEFAULTS = Spec(old=Release(name=""), new=Release(name=""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for before a runtime is chosen: one spec a strategy, and the declared versions."""

    runtime: str
    specs: tuple[Spec, ...]
    versions: Mapping[str, Version]


def wanted(table: Table, options: Mapping[str, object], versions: Mapping[str, Version]) -> Wanted:
    """The specs. options: those of the command line that were given, by field; they win over the table's.

    Raises:
        ConfigError: with every problem.
    """
    both = Table(table.problems, table.path, {**table.values, **options})
    both.unknown(FIELDS)
    old, new = both.get("from", str, ""), both.get("to", str, "")
    for name, value in (("from", old), ("to", new)):
        if not value:
            both.problems.add(f"{table.path}.{name}", f"is missing. Write it, or give --{name}.")
    if old and old == new:
        both.problems.add(f"{table.path}.to", f"must be another version than from, got {new!r} for both.")
    found = {name: _version(name, versions) for name in dict.fromkeys((old, new)) if name}
    strategies = both.texts("strategy", (DEFAULTS.strategy,))
    specs = tuple(_spec(both, found, strategy) for strategy in strategies) if not both.problems.found else ()
    runtime = both.choice("runtime", str, choices(), AUTO)
    if both.problems.found:
        raise ConfigError(*both.problems.found)
    return Wanted(runtime=runtime, specs=specs, versions=found)


def _version(name: str, versions: Mapping[str, Version]) -> Version:
    """A declared version; a plain release that nobody declared comes from the package index."""
    if name in versions:
        return versions[name]
    if parse(name) is None:
        known = ", ".join(versions) or "none"
        raise ConfigError(f"{name!r} is not a declared version, and no release. Declared: {known}.")
    source = Source(kind=SourceKind.PIP, value=f"torch=={name}")
    return Version(name=name, sources=(source,), torch=name, reports=name)


def _spec(table: Table, versions: Mapping[str, Version], strategy: str) -> Spec:
    old, new = table.get("from", str, ""), table.get("to", str, "")
    formats = table.texts("checkpoint", DEFAULTS.formats)
    for name in formats:
        if name not in FORMATS:
            table.problems.add(f"{table.path}.checkpoint", f"must hold dcp and plain only, got {name!r}.")
    script = table.get("script", str, "")
    made = Spec(
        old=Release(name=old, torch=versions[old].torch),
        new=Release(name=new, torch=versions[new].torch),
        nodes=table.get("nodes", int, DEFAULTS.nodes),
        strategy=strategy,
        policy=table.get("policy", str, DEFAULTS.policy),
        faults=tuple(dict.fromkeys(table.texts("faults", ()))),
        steps=table.get("steps", int, DEFAULTS.steps),
        every=table.get("every", int, DEFAULTS.every),
        seed=table.get("seed", int, DEFAULTS.seed),
        timeout=table.get("timeout", float, DEFAULTS.timeout),
        pace=table.get("pace", float, DEFAULTS.pace),
        formats=tuple(dict.fromkeys(formats)),
        script_name=Path(script).name if script else None,
        script=_text(script, table) if script else None,
    )
    back, after = _rollback(table, made)
    return replace(made, rollback=back, rollback_after=after)


def _rollback(table: Table, spec: Spec) -> tuple[bool, tuple[int, ...]]:
    if not table.values.get("rollback"):
        return False, ()
    try:
        return rollback.wished(table.values["rollback"], replacements(spec))
    except ValueError as error:
        table.problems.add(f"{table.path}.rollback", f"{error} (strategy {spec.strategy})")
    return False, ()


def _text(script: str, table: Table) -> str | None:
    try:
        return Path(script).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        table.problems.add(f"{table.path}.script", f"can't be read: {error}.")
        return None


def as_provisioned(
    versions: Mapping[str, Version], runtime: str, file: str, specs: Sequence[Spec]
) -> Mapping[str, Version]:
    """The versions with the one source that this runtime uses, and with what the job of these specs needs in them.

    Raises:
        ConfigError: a version that the runtime can't use.
    """
    problems = Problems(file)
    chosen = {name: for_runtime(version, runtime, problems) for name, version in versions.items()}
    if problems.found:
        raise ConfigError(*problems.found)
    if any("dcp" in spec.formats and not spec.script for spec in specs):
        return {name: _with_numpy(version) for name, version in chosen.items()}
    return chosen


def _with_numpy(version: Version) -> Version:
    """torch.distributed.checkpoint moves its plans by object collectives, which need NumPy; wheels come without."""
    made = tuple(
        replace(source, requires=(*source.requires, "numpy"))
        if source.kind in (SourceKind.PIP, SourceKind.WHEEL)
        and not any(each.lower().startswith("numpy") for each in source.requires)
        else source
        for source in version.sources
    )
    return replace(version, sources=made)
