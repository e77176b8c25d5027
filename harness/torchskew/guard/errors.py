"""The one error that a job gets from the guard, with its evidence as data, and what the guard itself could not do."""

from __future__ import annotations

from typing import Any


class ProtocolVersionError(RuntimeError):
    """The group can't or must not form; the text names every differing rank, the cause and the remedy.

    kind: "version", "settings", "group", "one-sided", "missing" or "unverified". groups: one dict per build, with
    torch, host names and ranks ("0, 5-9"). eras: dicts with kind, since and who speaks what. remedy: one sentence.
    """

    def __init__(self, text: str, **data: Any) -> None:
        """The data becomes the attributes of the error."""
        super().__init__(text)
        self.kind: str = data.get("kind", "version")
        self.rank: int = data.get("rank", -1)
        self.groups: list[dict[str, Any]] = data.get("groups", [])
        self.eras: list[dict[str, str]] = data.get("eras", [])
        self.remedy: str = data.get("remedy", "")
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep text and data through a queue or a pickle."""
        return revive, (self.args[0], self.data)


class Unverified(Exception):  # noqa: N818 - no error of the job: the stock init goes on
    """The guard could not compare this group; the text is one line that says why. Jobs never see this class."""


def revive(text: str, data: dict[str, Any]) -> ProtocolVersionError:
    """The error out of a pickle."""
    return ProtocolVersionError(text, **data)
