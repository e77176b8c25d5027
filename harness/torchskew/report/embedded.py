"""What pages carry inside them: things that repeat by number, the outcomes, and JSON that is safe in a script."""

from __future__ import annotations

import json
from typing import Generic, TypeVar

from torchskew.model.outcomes import Json, Outcome
from torchskew.report import view

T = TypeVar("T")


class Numbered(Generic[T]):
    """Things that repeat are in the page once; others name them by number."""

    def __init__(self, *first: T) -> None:
        self.known: dict[T, int] = {each: number for number, each in enumerate(first)}

    def __call__(self, thing: T) -> int:
        """Its number."""
        return self.known.setdefault(thing, len(self.known))


class Texts(Numbered[str | None]):
    """Texts that repeat (reasons, errors, versions); the empty one, and none, has the number 0."""

    def __init__(self) -> None:
        super().__init__("")

    def __call__(self, thing: str | None) -> int:
        """Its number."""
        return super().__call__(thing or "")


def outcome_legend() -> list[Json]:
    """Every outcome with the words for it, in the order of their numbers."""
    return [{"name": each, "short": view.SHORT[each], "meaning": view.MEANING[each]} for each in Outcome]


def script_json(value: object) -> str:
    """JSON that can't end the script element around it, whatever a rank printed."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
