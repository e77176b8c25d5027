"""Read scenarios: one file each. The judge is loaded here, the rank's part travels as text."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from torchskew.errors import ConfigError
from torchskew.model.cells import Variant
from torchskew.model.outcomes import Guard, Json, Kind, Outcome, Policy

Report = Mapping[str, Json] | None
GUARDS = {Kind.GROUP: (Guard.OFF, Guard.ON), Kind.HANDOVER: (Guard.OFF,), Kind.SOLO: (Guard.OFF,)}
WORLDS: Mapping[Kind, tuple[int, int | None]] = {Kind.GROUP: (2, None), Kind.HANDOVER: (2, None), Kind.SOLO: (1, 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a judge knows besides the reports. skip: case pattern -> why, for what a version lacks."""

    size: int
    skew: tuple[str, ...]
    params: Mapping[str, Json]
    skip: Mapping[str, str]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One promise. world: smallest and largest number of ranks (None: no largest).

    after: scenarios whose failure for the same skew blocks this one. same: one release on all ranks only.
    rendezvous: how its ranks meet (tcp, file, none), for the prediction. tiers: smoke, critical, full.
    patience: seconds it gets at least as timeout, where work rather than waiting takes long on a busy machine.
    warm: modules that its ranks would import for seconds; the agent does it once, before it forks them.
    """

    name: str
    promise: str
    doc: str
    source: str
    path: str
    kind: Kind = Kind.GROUP
    world: tuple[int, int | None] = (2, None)
    after: tuple[str, ...] = ()
    policy: Policy = Policy.RIGHT_OR_REFUSED
    variants: tuple[Variant | None, ...] = (None,)
    needs: tuple[str, ...] = ()
    guards: tuple[Guard, ...] = (Guard.OFF, Guard.ON)
    same: bool = False
    applies: SpecifierSet = field(default_factory=SpecifierSet)
    rendezvous: str = "tcp"
    tiers: tuple[str, ...] = ("full",)
    patience: float = 0.0
    warm: tuple[str, ...] = ()
    judge: Callable[[Sequence[Report], World], Mapping[int, str]] = field(compare=False)

    @property
    def digest(self) -> str:
        """Content of the file: part of every cache key."""
        return hashlib.sha256(self.source.encode()).hexdigest()


def parse_scenario(name: str, source: str, path: str) -> Scenario:
    """The scenario that a file's source declares.

    path: of the file, for messages and tracebacks.

    Raises:
        ConfigError: names what the file lacks.
    """
    module = ModuleType(name)
    module.__file__ = path
    try:
        ast.parse(source, feature_version=(3, 8))
        exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102 - our user's own scenario file
        return _scenario(path, source, module)
    except (SyntaxError, ImportError, AttributeError, KeyError, TypeError, ValueError, InvalidSpecifier) as error:
        text = f"{path}: isn't a scenario: {error}. CONTRIBUTING.md shows the shortest one."
        raise ConfigError(text) from None


def _scenario(path: str, source: str, module: ModuleType) -> Scenario:
    doc = (module.__doc__ or "").strip()
    if not doc:
        raise ValueError("it has no docstring that states its promise")
    for name in ("rank", "judge"):
        if not callable(getattr(module, name, None)):
            raise TypeError(f"it has no function {name}()")
    kind = Kind(getattr(module, "KIND", "group"))
    variants = getattr(module, "VARIANTS", {})
    return Scenario(
        name=module.__name__,
        promise=doc.splitlines()[0],
        doc=doc,
        source=source,
        path=path,
        kind=kind,
        world=tuple(getattr(module, "WORLD", WORLDS[kind])),
        after=tuple(getattr(module, "AFTER", ())),
        policy=Policy(getattr(module, "POLICY", Policy.RIGHT_OR_REFUSED)),
        variants=tuple(_variant(name, value) for name, value in variants.items()) or (None,),
        needs=tuple(getattr(module, "NEEDS", ())),
        guards=tuple(Guard(name) for name in getattr(module, "GUARD", GUARDS[kind])),
        same=bool(getattr(module, "SAME", False)),
        applies=SpecifierSet(getattr(module, "APPLIES", "")),
        rendezvous=str(getattr(module, "RENDEZVOUS", "tcp" if kind is Kind.GROUP else "none")),
        tiers=tuple(getattr(module, "TIERS", ("full",))),
        warm=tuple(getattr(module, "WARM", ())),
        patience=float(getattr(module, "PATIENCE", 0.0)),
        judge=module.judge,
    )


def _variant(name: str, value: Mapping[str, Any]) -> Variant:
    predicted = value.get("predicted")
    return Variant(
        name=name,
        params=value.get("params", {}),
        env=value.get("env", {}),
        rank_env={int(rank): env for rank, env in value.get("rank_env", {}).items()},
        predicted=None if predicted is None else tuple(Outcome(outcome) for outcome in predicted),
    )
