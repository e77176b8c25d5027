"""The id of a cell: one text for patterns, reports and the record, whose parts are read as fields."""

from __future__ import annotations

from typing import Self

from torchskew.model.outcomes import Guard

_FORM = "scenario/version,version/guard-off/runtime"


class CellId(str):
    """`scenario[.variant]/version,version/guard-…/runtime`, as `--only` matches it.

    It is its text, so that SQL, JSON and patterns take it as it is. Only `of` writes that text and only the
    fields below read it: nobody else joins or splits ids.
    """

    __slots__ = ()

    @classmethod
    def of(
        cls, scenario: str, skew: tuple[str, ...], runtime: str, *, guard: Guard = Guard.OFF, variant: str | None = None
    ) -> Self:
        """The id of a cell with these parts. variant: None or empty where the scenario has none."""
        name = f"{scenario}.{variant}" if variant else scenario
        return cls(f"{name}/{','.join(skew)}/guard-{guard}/{runtime}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """An id out of text; ValueError where the text has another form."""
        name, skew, guard, runtime = cls._parts(text)
        if not (name and skew and runtime and guard.startswith("guard-")):
            raise ValueError(f"a cell id must be like {_FORM}, got {text!r}")
        Guard(guard.removeprefix("guard-"))
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
        return Guard(self._parts(self)[2].removeprefix("guard-"))

    @property
    def runtime(self) -> str:
        """The runtime's name."""
        return self._parts(self)[3]

    @staticmethod
    def _parts(text: str) -> list[str]:
        parts = text.split("/")
        if len(parts) != len(_FORM.split("/")):
            raise ValueError(f"a cell id must be like {_FORM}, got {text!r}")
        return parts
