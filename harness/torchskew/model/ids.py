"""The id of a cell: one text for patterns, reports and the record, whose parts are read as fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from torchskew.model.outcomes import Guard, Placement, Store

_FORM = "scenario/version,version/guard-off/runtime"
_GUARD, _STORE, _PLACEMENT = "guard-", "store-", "placement-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a cell's id names beside scenario, skew and runtime."""

    guard: Guard = Guard.OFF
    store: Store = Store.STOCK
    placement: Placement = Placement.TOGETHER


USUAL: Final = Conditions()


class CellId(str):
    """`scenario[.variant]/version,version/guard-…[/store-bridge][/placement-spread]/runtime`, as `--only` matches it.

    It is its text, so that SQL, JSON and patterns take it as it is. Only `of` writes that text and only the
    fields below read it: nobody else joins or splits ids. The stock store and ranks on one machine are not named: ids
    are older than the bridge and the fleet.
    """

    __slots__ = ()

    @classmethod
    def of(cls, name: str, skew: tuple[str, ...], runtime: str, conditions: Conditions = USUAL) -> Self:
        """The id of a cell with these parts. name: the scenario, or scenario.variant."""
        store, placement = conditions.store, conditions.placement
        named = [f"{_GUARD}{conditions.guard}"]
        named += [] if store is Store.STOCK else [f"{_STORE}{store}"]
        named += [] if placement is Placement.TOGETHER else [f"{_PLACEMENT}{placement}"]
        return cls(f"{name}/{','.join(skew)}/{'/'.join(named)}/{runtime}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """An id out of text; ValueError where the text has another form."""
        read = cls(text)
        conditions = Conditions(guard=read.guard, store=read.store, placement=read.placement)
        written = cls.of(read.name, read.skew, read.runtime, conditions)
        if written != text or not (read.name and any(read.skew) and read.runtime):
            raise ValueError(f"a cell id must be like {_FORM}, got {text!r}")
        return read

    @property
    def name(self) -> str:
        """The scenario with its variant."""
        return self._parts(self)[0]

    @property
    def scenario(self) -> str:
        """The scenario."""
        return self.name.partition(".")[0]

    @property
    def variant(self) -> str | None:
        """The scenario's variant, if it has one."""
        return self.name.partition(".")[2] or None

    @property
    def skew(self) -> tuple[str, ...]:
        """Declared version names, rank 0 first."""
        return tuple(self._parts(self)[1].split(","))

    @property
    def guard(self) -> Guard:
        """Which ranks install the guard."""
        return Guard(self._parts(self)[2].removeprefix(_GUARD))

    @property
    def store(self) -> Store:
        """Which store its ranks meet at."""
        return Store(self._condition(_STORE) or Store.STOCK)

    @property
    def placement(self) -> Placement:
        """Where its ranks are."""
        return Placement(self._condition(_PLACEMENT) or Placement.TOGETHER)

    @property
    def runtime(self) -> str:
        """The runtime's name."""
        return self._parts(self)[-1]

    def _condition(self, prefix: str) -> str:
        """What follows this prefix in one of the conditions that not every id names; empty where none has it."""
        _, _, _, *conditions, _ = self._parts(self)
        return next((part.removeprefix(prefix) for part in conditions if part.startswith(prefix)), "")

    @staticmethod
    def _parts(text: str) -> list[str]:
        parts, least = text.split("/"), len(_FORM.split("/"))
        if not least <= len(parts) <= least + 2:
            raise ValueError(f"a cell id must be like {_FORM}, got {text!r}")
        return parts
