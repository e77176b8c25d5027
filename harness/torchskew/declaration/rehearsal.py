"""What to rehearse: [rehearsal] of the declaration with the command line over it, checked field by field; pure."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torchskew.declaration.candidate import with_packages
from torchskew.declaration.declare import all_for_runtime
from torchskew.declaration.fields import Table
from torchskew.declaration.suite import packages_of_its_time
from torchskew.errors import ConfigError
from torchskew.guard.table import parse
from torchskew.model.rehearsal import (
    NODES,
    CheckpointFormat,
    DeclaredRelease,
    MixedPolicy,
    RehearsalSpec,
    Rollback,
    Script,
    Strategy,
    StrategyKind,
)
from torchskew.model.runtimes import AUTO, choices
from torchskew.model.versions import Source, SourceKind, Version

FIELDS = (
    "from", "to", "runtime", "nodes", "strategy", "policy", "faults", "steps", "every", "seed", "seeds", "rollback",
    "timeout", "pace", "checkpoint", "script", "clock_skew",
)  # fmt: skip
STRATEGIES = ("rolling", "stop-the-world", "host-first", "host-last", "bridged", "group:N")
ROLLBACK_GRAMMAR = 'true, "all", "last", the number of a replacement, or several like "1,3"'
DEFAULTS = RehearsalSpec(
    old=DeclaredRelease(name=""), new=DeclaredRelease(name=""), nodes=4,
    strategy=Strategy(kind=StrategyKind.ROLLING), policy=MixedPolicy.AUTO, faults=(), training_steps=60,
    checkpoint_every=5, seed=0, rollback=None, runtime="venv", timeout=10.0, pace=0.03,
    formats=(CheckpointFormat.DCP, CheckpointFormat.PLAIN), script=None,
)  # fmt: skip
# Each seed is a whole rehearsal.
MOST_SEEDS = 1000
# Reads a file as text; raises OSError or UnicodeDecodeError.
ReadText = Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalRequest:
    """What a person asked for, before a runtime is chosen: a spec per strategy and seed, and the versions they name.

    search: there are several seeds, of which the first that fails is looked for.
    """

    runtime: str
    specs: tuple[RehearsalSpec, ...]
    versions: Mapping[str, Version]
    search: bool = False


def requested(
    table: Table, options: Mapping[str, object], declared: Mapping[str, Version], read_text: ReadText
) -> RehearsalRequest:
    """The request. options: fields given on the command line; they override the table's.

    Raises:
        ConfigError: with every problem.
    """
    merged = Table(table.problems, table.path, {**table.values, **options})
    merged.unknown(FIELDS)
    versions = _both_versions(merged, declared)
    runtime = merged.choice("runtime", str, choices(), AUTO)
    specs: tuple[RehearsalSpec, ...] = ()
    seeds = _seeds(merged)
    if not merged.problems.texts:
        specs = tuple(_spec(merged, versions, strategy, read_text) for strategy in _strategies(merged))
        specs = tuple(replace(spec, seed=spec.seed + more) for spec in specs for more in range(seeds))
    if merged.problems.texts:
        raise ConfigError(*dict.fromkeys(merged.problems.texts))
    return RehearsalRequest(runtime=runtime, specs=specs, versions=versions, search=seeds > 1)


def _seeds(table: Table) -> int:
    """How many seeds to rehearse, from `seed` on."""
    seeds = table.get("seeds", int, 1)
    if not 1 <= seeds <= MOST_SEEDS:
        table.problems.add(f"{table.path}.seeds", f"must be from 1 to {MOST_SEEDS}, got {seeds}.")
    return seeds


def versions_of(spec: RehearsalSpec, declared: Mapping[str, Version]) -> Mapping[str, Version]:
    """The two versions that a saved plan names."""
    return {release.name: _version(release.name, declared) for release in (spec.old, spec.new)}


def _both_versions(table: Table, declared: Mapping[str, Version]) -> Mapping[str, Version]:
    old, new = table.get("from", str, ""), table.get("to", str, "")
    for key, name in (("from", old), ("to", new)):
        if not name:
            table.problems.add(f"{table.path}.{key}", f"is missing. Set it, or pass --{key}.")
    if old and old == new:
        table.problems.add(f"{table.path}.to", f"must be another version than from, got {new!r} for both.")
    keys = {name: key for key, name in (("from", old), ("to", new)) if name}
    return {name: _version(name, declared, f"{table.path}.{key}: ") for name, key in keys.items()}


def _version(name: str, declared: Mapping[str, Version], at: str = "") -> Version:
    """A declared version; a plain release number that is not declared comes from the package index.

    at: the field that names it, for a problem.
    """
    if name in declared:
        if not declared[name].built:
            raise ConfigError(
                f"{at}{name!r} is a source tree without a build, on which no job runs. Build a wheel of it."
            )
        return declared[name]
    if parse(name) is None:
        known = ", ".join(declared) or "none"
        raise ConfigError(f"{at}{name!r} is not a declared version, and no release. Declared: {known}.")
    source = Source(kind=SourceKind.PIP, value=f"torch=={name}")
    return Version(name=name, sources=(source,), torch=name, reports=name)


def parse_strategy(text: str) -> Strategy | None:
    """The strategy of this name; None where there is no such strategy."""
    kind, _, size = text.partition(":")
    if kind == StrategyKind.GROUP:
        return Strategy(kind=StrategyKind.GROUP, size=int(size)) if size.isdecimal() and int(size) > 0 else None
    return Strategy(kind=StrategyKind(text)) if text in STRATEGIES[:-1] else None


def _strategies(table: Table) -> list[Strategy]:
    parsed = []
    for text in table.texts("strategy", (str(DEFAULTS.strategy),)):
        strategy = parse_strategy(text)
        if strategy is None:
            problem = f"must be one of {', '.join(STRATEGIES)}, got {text!r}."
            table.problems.add(f"{table.path}.strategy", problem)
        else:
            parsed.append(strategy)
    return parsed


def _spec(table: Table, versions: Mapping[str, Version], strategy: Strategy, read_text: ReadText) -> RehearsalSpec:
    old, new = table.get("from", str, ""), table.get("to", str, "")
    nodes = _nodes(table)
    return RehearsalSpec(
        old=DeclaredRelease(name=old, torch=versions[old].torch),
        new=DeclaredRelease(name=new, torch=versions[new].torch),
        nodes=nodes,
        strategy=strategy,
        policy=table.choice("policy", MixedPolicy, list(MixedPolicy), DEFAULTS.policy),
        faults=tuple(dict.fromkeys(table.texts("faults", DEFAULTS.faults))),
        training_steps=table.get("steps", int, DEFAULTS.training_steps),
        checkpoint_every=table.get("every", int, DEFAULTS.checkpoint_every),
        seed=table.get("seed", int, DEFAULTS.seed),
        rollback=_rollback(table, strategy, nodes),
        runtime=DEFAULTS.runtime,
        timeout=table.get("timeout", float, DEFAULTS.timeout),
        pace=table.get("pace", float, DEFAULTS.pace),
        formats=_formats(table),
        script=_script(table, read_text),
        clock_skew=table.get("clock_skew", float, DEFAULTS.clock_skew),
    )


def _nodes(table: Table) -> int:
    nodes = table.get("nodes", int, DEFAULTS.nodes)
    if NODES[0] <= nodes <= NODES[1]:
        return nodes
    table.problems.add(f"{table.path}.nodes", f"must be from {NODES[0]} to {NODES[1]}, got {nodes}.")
    return DEFAULTS.nodes


def _formats(table: Table) -> tuple[CheckpointFormat, ...]:
    known = list(CheckpointFormat)
    names = table.texts("checkpoint", tuple(str(name) for name in DEFAULTS.formats))
    for name in names:
        if name not in known:
            table.problems.add(f"{table.path}.checkpoint", f"must hold dcp, dcp-partial and plain only, got {name!r}.")
    return tuple(dict.fromkeys(CheckpointFormat(name) for name in names if name in known))


def _script(table: Table, read_text: ReadText) -> Script | None:
    path = table.get("script", str, "")
    if not path:
        return None
    try:
        return Script(name=posixpath.basename(path), text=read_text(path))
    except (OSError, UnicodeDecodeError) as error:
        table.problems.add(f"{table.path}.script", f"can't be read: {error}.")
        return None


def _rollback(table: Table, strategy: Strategy, nodes: int) -> Rollback | None:
    value = table.values.get("rollback")
    if not value:
        return None
    try:
        return parse_rollback(value, strategy.replacements(nodes))
    except ValueError as error:
        table.problems.add(f"{table.path}.rollback", f"{error} (strategy {strategy})")
        return None


def parse_rollback(value: object, replacements: int) -> Rollback | None:
    """When to roll back, of a plan with so many replacements; None: never.

    Raises:
        ValueError: what the value must be instead.
    """
    if isinstance(value, bool) or value in ("true", "false"):
        return Rollback() if value in (True, "true") else None
    words = {"all": tuple(range(1, replacements + 1)), "last": (replacements,)}
    if isinstance(value, str) and value in words:
        return Rollback(after=words[value])
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    after = tuple(sorted({_number(part, value) for part in parts}))
    check_rollback(after, replacements)
    return Rollback(after=after) if after else None


def check_rollback(after: Sequence[int], replacements: int) -> None:
    """ValueError for a replacement that the plan does not have."""
    if beyond := [number for number in after if not 1 <= number <= replacements]:
        raise ValueError(f"must name replacements from 1 to {replacements}, got {', '.join(map(str, beyond))}.")


def _number(part: object, whole: object) -> int:
    if isinstance(part, int) and not isinstance(part, bool):
        return part
    if isinstance(part, str) and part.strip().isdecimal():
        return int(part)
    raise ValueError(f"must be {ROLLBACK_GRAMMAR}, got {whole!r}.")


def for_rehearsal(
    versions: Mapping[str, Version], runtime: str, file: str, specs: Sequence[RehearsalSpec]
) -> Mapping[str, Version]:
    """Each version with the one source that this runtime uses, and with NumPy where the training job needs it.

    Raises:
        ConfigError: a version that the runtime can't use.
    """
    chosen = all_for_runtime(versions, runtime, file)
    if any(each.distributed for spec in specs if spec.script is None for each in spec.formats):
        return {name: _with_numpy(version) for name, version in chosen.items()}
    return chosen


def _with_numpy(version: Version) -> Version:
    """torch.distributed.checkpoint needs NumPy for its object collectives; wheels come without it."""
    numpy, _ = packages_of_its_time(version)
    return with_packages(version, (numpy,))
