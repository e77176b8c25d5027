"""How a group runs: the keywords of torchskew_group, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypedDict

from torchskew.errors import ConfigError
from torchskew.model.outcomes import Guard, Json, Kind, Store
from torchskew.planning.scenario import Surroundings, too_late

LAUNCHERS = ("", "torchrun")


class How(TypedDict, total=False):
    """The keywords of torchskew_group besides versions, function and script; docs/pytest.md describes each."""

    guard: bool | str
    store: str
    env: Mapping[str, str]
    rank_env: Mapping[int, Mapping[str, str]]
    timeout: float
    params: Mapping[str, Json]
    args: Sequence[str]
    pythonpath: Sequence[str | Path]
    cwd: str | Path
    data: Sequence[str | Path]
    warm: Sequence[str]
    nodes: int
    ranks_per_node: int
    launcher: str
    keep: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How a group runs. env: settings of every rank; rank_env: of one, over it; timeout: of the group, seconds.

    store: what its ranks meet at, the store that rank 0 hosts or a bridge beside it.
    args: of a script. pythonpath, data: folders, relative to the test's. cwd: where ranks work; None: in a folder that
    the group shares, and that is removed with it. nodes: how many; each has ranks_per_node ranks of one version.
    """

    guard: Guard = Guard.OFF
    store: Store = Store.STOCK
    env: Mapping[str, str] = field(default_factory=dict)
    rank_env: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    timeout: float = 10.0
    params: Mapping[str, Json] = field(default_factory=dict)
    args: Sequence[str] = ()
    pythonpath: Sequence[str | Path] = ()
    cwd: str | Path | None = None
    data: Sequence[str | Path] = ()
    warm: Sequence[str] = ()
    nodes: int | None = None
    ranks_per_node: int = 1
    launcher: str = ""
    keep: bool = False


def conditions(how: How, kind: Kind = Kind.GROUP) -> Conditions:
    """The keywords as a record; guard may be True, False or a name. kind: of what runs, a group or a handover.

    Raises:
        TypeError: a keyword that does not exist. ConfigError: one that can't take effect.
    """
    known = [each.name for each in fields(Conditions)]
    unknown = [name for name in how if name not in known]
    if unknown:
        raise TypeError(f"torchskew_group has no argument {unknown[0]!r}; it has {', '.join(known)}")
    guard = how.get("guard", False)
    chosen = Guard(guard) if isinstance(guard, str) else (Guard.ON if guard else Guard.OFF)
    store = how.get("store", Store.STOCK)
    if store not in list(Store):
        raise ConfigError(f'store must be "stock" or "bridge", got {store!r}.')
    checked = Conditions(**{**how, "guard": chosen, "store": Store(store)})  # type: ignore[arg-type]
    problems = [*_problems(checked), *_without_bridge(checked, kind)]
    if problems:
        raise ConfigError(*problems)
    return checked


def _problems(how: Conditions) -> Sequence[str]:
    """What would be passed over in silence."""
    settings = dict.fromkeys(name for env in (how.env, *how.rank_env.values()) for name in env)
    late = {name: too_late(name) for name in settings if not how.launcher or name == "PYTHONPATH"}
    problems = [f"env sets {name}, {why}" for name, why in late.items() if why]
    if how.launcher not in LAUNCHERS:
        problems.append(f'launcher must be "torchrun", got {how.launcher!r}. Leave it out to run the script itself.')
    elif how.launcher and how.guard is not Guard.OFF:
        fix = "Let the script call torchskew_guard.install() itself."
        problems.append(f"guard can't take effect under torchrun, whose workers are new processes. {fix}")
    if (how.nodes is not None and how.nodes < 1) or how.ranks_per_node < 1:
        problems.append(f"nodes and ranks_per_node must be 1 or more, got {how.nodes} and {how.ranks_per_node}.")
    return problems


def _without_bridge(how: Conditions, kind: Kind) -> Sequence[str]:
    """Why the ranks would not meet at the bridge that was asked for."""
    if how.store is Store.STOCK:
        return []
    problems = []
    if kind is Kind.HANDOVER:
        problems.append('store="bridge" can\'t take effect in a handover, whose functions run one after another.')
    if how.guard is not Guard.OFF:
        fix = "Leave one of them out."
        problems.append(f'store="bridge" and guard exclude each other: the guard refuses what a bridge is for. {fix}')
    if how.launcher:
        fix = "Run the script without a launcher."
        problems.append(
            f'store="bridge" can\'t take effect under torchrun, whose agents have a store of their own. {fix}'
        )
    return problems


def skew_of(versions: Sequence[str], world_size: int | None, how: Conditions) -> tuple[str, ...]:
    """The version of each rank, or of each node where torchrun starts the ranks; a list that is too short repeats.

    Raises:
        ConfigError: a world that its nodes can't make up.
    """
    each = how.ranks_per_node
    if world_size is not None and world_size % each:
        raise ConfigError(f"world_size {world_size} is no multiple of ranks_per_node {each}.")
    nodes = how.nodes or (world_size // each if world_size else len(versions))
    if world_size is not None and nodes * each != world_size:
        raise ConfigError(f"{nodes} nodes of {each} ranks are {nodes * each} ranks, not world_size {world_size}.")
    named = [versions[node % len(versions)] for node in range(nodes)]
    return tuple(named) if how.launcher else tuple(name for name in named for _ in range(each))


def place_of(how: Conditions, beside: Path, more: Sequence[str], script: Path | None) -> Surroundings:
    """Where the ranks run. beside: the test's folder. more: folders of the settings, which come after the test's own.

    Raises:
        ConfigError: a folder that does not exist.
    """
    paths = [*_folders(how.pythonpath, beside, "pythonpath"), str(beside), *more]
    cwd = "." if how.cwd is None else _folders([how.cwd], beside, "cwd")[0]
    return Surroundings(
        paths=tuple(dict.fromkeys(paths)),
        cwd=cwd,
        files=(str(script.parent),) if script else (),
        data=_folders(how.data, beside, "data"),
        ranks_per_node=how.ranks_per_node,
        keep=how.keep,
    )


def _folders(names: Sequence[str | Path], beside: Path, what: str) -> tuple[str, ...]:
    if isinstance(names, str):
        raise ConfigError(f"{what} must be a list of folders, got {names!r}.")
    folders = [(beside / name).resolve() for name in names]
    missing = [f"{what} names {folder}, which is no folder." for folder in folders if not folder.is_dir()]
    if missing:
        raise ConfigError(*missing)
    return tuple(str(folder) for folder in folders)
