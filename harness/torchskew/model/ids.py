"""The id of a cell: one text for patterns, reports and the record, whose parts are read as fields."""

from __future__ import annotations

from typing import Self

from torchskew.model.outcomes import Guard, Store

_FORM = "scenario/version,version/guard-off/runtime"
_GUARD, _STORE = "guard-", "store-"


class CellId(str):
    """`scenario[.variant]/version,version/guard-…[/store-bridge]/runtime`, as `--only` matches it.

    It is its text, so that SQL, JSON and patterns take it as it is. Only `of` writes that text and only the
    fields below read it: nobody else joins or splits ids. The stock store is not named: ids are older than the bridge.
    """

    __slots__ = ()

    @classmethod
    def of(
        cls, name: str, skew: tuple[str, ...], runtime: str, *, guard: Guard = Guard.OFF, store: Store = Store.STOCK
    ) -> Self:
        """The id of a cell with these parts. name: the scenario, or scenario.variant."""
        condition = "" if store is Store.STOCK else f"/{_STORE}{store}"
        return cls(f"{name}/{','.join(skew)}/{_GUARD}{guard}{condition}/{runtime}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """An id out of text; ValueError where the text has another form."""
        name, skew, guard, *store, runtime = cls._parts(text)
        right = guard.startswith(_GUARD) and all(part.startswith(_STORE) for part in store)
        if not (name and skew and runtime and right) or store == [f"{_STORE}{Store.STOCK}"]:
            raise ValueError(f"a cell id must be like {_FORM}, got {text!r}")
        Guard(guard.removeprefix(_GUARD))
        for part in store:
            Store(part.removeprefix(_STORE))
        return cls(text)

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
        _, _, _, *store, _ = self._parts(self)
        return Store(store[0].removeprefix(_STORE)) if store else Store.STOCK

    @property
    def runtime(self) -> str:
        """The runtime's name."""
        return self._parts(self)[-1]

    @staticmethod
    def _parts(text: str) -> list[str]:
        parts, least = text.split("/"), len(_FORM.split("/"))
        if len(parts) not in (least, least + 1):
            raise ValueError(f"a cell id must be like {_FORM}, got {text!r}")
        return parts
